"""Which Lark grammars of a caller are taken; pure.

The dialect is llguidance's, as far as it is plain Lark: rules, terminals, strings, regular
expressions, `%import common.…` and `%ignore`. A terminal matches as much as it can, so what follows
it cannot begin with what it could go on with. Not taken: single tokens (`<|end|>`), which would put
control tokens into text, other grammars (`@name`), and options, which could switch checks off.
"""

from __future__ import annotations

import re
from itertools import pairwise

from services.llama.constrain import regex
from services.llama.constrain.problem import Problem

# Rules are followed recursively: a chain of 4000 overflowed the library's stack.
MAX_RULES = 500
# Each takes a place in the parser's first row, over and over.
MAX_ALTERNATIVES = 4000

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|\#[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*+"i?)
    |(?P<regex>/(?:[^/\\\n]|\\.)++/[imslux]*)
    |(?P<options>%llguidance\s*\{\s*\})
    |(?P<directive>%(?:import|ignore)\b)
    |(?P<name>[!?]?[A-Za-z_][A-Za-z0-9_-]*)
    |(?P<number>\d+)
    |(?P<sign>->|\.\.|[:|()*+?~{},.&=-])""",
    re.VERBOSE,
)


def check(text: str) -> None:
    """Raises Problem for what is not taken; what does not parse otherwise is the library's."""
    tokens = list(_tokens(text))
    rules = sum(first == "name" and second == ":" for first, second in pairwise(tokens))
    if rules > MAX_RULES:
        raise Problem(f"more than {MAX_RULES} rules")
    if tokens.count("|") > MAX_ALTERNATIVES:
        raise Problem(f"more than {MAX_ALTERNATIVES} alternatives")


def _tokens(text: str) -> list[str]:
    """Kinds of tokens, signs as they are."""
    found: list[str] = []
    at, weight = 0, 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            line = text.count("\n", 0, at) + 1
            raise Problem(f"line {line}: {_reason(text[at])}")
        kind, value, at = token.lastgroup, token[0], token.end()
        if kind == "regex":
            regex.check(value[1 : value.rindex("/")])
        if kind == "number":
            weight += int(value[:9])
            if weight > regex.MAX_WEIGHT:
                raise Problem(f"repetitions of more than {regex.MAX_WEIGHT} in all")
        if kind != "space":
            found.append(value if kind == "sign" else str(kind))
    return found


def _reason(character: str) -> str:
    match character:
        case "<":
            return "tokens by name or number are not supported"
        case "%":
            return "of directives only %import and %ignore are supported"
        case "@":
            return "other grammars cannot be referred to"
        case "[" | "]":
            return "options and square brackets are not supported"
        case _:
            return "not Lark"
