"""llama.cpp's grammars to llguidance's Lark, with exactly the same texts; pure.

llguidance first cuts the text into terminals, each as long as can be, and lets only then its parser
have them; llama.cpp goes by single characters. So a part of the grammar becomes a terminal only
where "as long as can be" loses nothing: where no terminal can go on, from a place where one (itself
or another) has ended, with a character that may come after that one. All of it starts as few large
terminals, and those that fail are broken up, if need be down to characters.
"""

from __future__ import annotations

from typing import TypeAlias

from services.llama import guidance
from services.llama.constrain import chars, gbnf_parser, gbnf_rules
from services.llama.constrain.chars import CharSet
from services.llama.constrain.gbnf_parser import Alt, Chars, Literal, Node, Ref, Repeat
from services.llama.constrain.positions import Comparison, TooLargeError
from services.llama.constrain.problem import Problem

# Steps of comparing terminals with each other; beyond that all are broken up to characters.
_MAX_STEPS = 300_000
# The library follows rules and groups recursively: it refuses 30 groups in each other, and 4000 rules
# overflowed its stack.
_MAX_WRITTEN = 1500
_MAX_GROUPS = 10


def to_lark(text: str) -> str:
    """The grammar in llguidance's Lark. Raises Problem."""
    rules = gbnf_rules.productive(gbnf_parser.parse(text))
    gbnf_rules.check_weight(rules)
    plan = _Plan(rules)
    plan.refine()
    return _Writer(rules, plan).write()


# What makes two terminals the same.
_Key: TypeAlias = tuple[str, str | CharSet | Node]


def _key(node: Node) -> _Key:
    match node:
        case Ref(name):
            return "rule", name
        case Literal(text):
            return "text", text
        case Chars(members):
            return "characters", members
        case _:
            return "node", node


class _Plan:
    """Which parts of a grammar are terminals; the others are rules or parts of rules."""

    def __init__(self, rules: gbnf_rules.Rules) -> None:
        self._rules = rules
        self._regular = gbnf_rules.regular(rules)
        self._nullable = gbnf_rules.nullables(rules)
        self._first = gbnf_rules.firsts(rules, self._nullable)
        # What is no terminal although it could be.
        self._broken: set[_Key] = set()
        self._letters: dict[Node, tuple[Node, ...]] = {}
        self._is_regular: dict[Node, bool] = {}

    def refine(self) -> None:
        """Breaks terminals up until each may be as long as it can be."""
        comparison = Comparison(self._rules, _MAX_STEPS)
        try:
            while failed := self._failed(comparison):
                self._broken |= failed
        except TooLargeError:
            self._broken.update(_key(Ref(name)) for name in self._rules)
            for node in self._rules.values():
                self._broken.update(map(_key, gbnf_rules.within(node)))

    def _failed(self, comparison: Comparison) -> set[_Key]:
        terminals: dict[_Key, tuple[Node, CharSet]] = {}
        for node, follow in self._follows().items():
            key = _key(node)
            known = terminals.get(key, (node, chars.NONE))
            terminals[key] = (known[0], chars.union(known[1], follow))
        followed = [(node, follow) for node, follow in terminals.values() if follow]
        return {
            key
            for key, (going, _) in terminals.items()
            if any(comparison.goes_on(going, ended, follow) for ended, follow in followed)
        }

    def _follows(self) -> dict[Node, CharSet]:
        """What may come right after each terminal."""
        follows: dict[Node, CharSet] = {}
        after: dict[str, CharSet] = {"root": chars.NONE}
        # The rules for which it grew.
        waiting = ["root"]

        def visit(node: Node, follow: CharSet) -> None:
            if self.is_terminal(node):
                follows[node] = chars.union(follows.get(node, chars.NONE), follow)
                return
            match node:
                case Ref(name):
                    known = after.get(name)
                    grown = chars.union(known or chars.NONE, follow)
                    if grown != known:
                        after[name] = grown
                        waiting.append(name)
                case Repeat(inner, _, most):
                    again = chars.NONE if most == 1 else self._first_of(inner)
                    visit(inner, chars.union(follow, again))
                case Alt(nodes):
                    for inner in nodes:
                        visit(inner, follow)
                case _:
                    for inner in reversed(self.parts(node)):
                        visit(inner, follow)
                        beginning = self._first_of(inner)
                        empty = gbnf_rules.is_nullable(inner, self._nullable)
                        follow = chars.union(beginning, follow) if empty else beginning

        while waiting:
            name = waiting.pop()
            visit(self._rules[name], after[name])
        return follows

    def _first_of(self, node: Node) -> CharSet:
        return gbnf_rules.first(node, self._nullable, self._first)

    def is_terminal(self, node: Node) -> bool:
        """Whether the node is one terminal, not made of several."""
        if isinstance(node, Chars):
            return True
        if _key(node) in self._broken:
            return False
        known = self._is_regular.get(node)
        if known is None:
            known = self._is_regular[node] = gbnf_rules.referred(node) <= self._regular
        return known

    def parts(self, node: Node) -> tuple[Node, ...]:
        """What a sequence, or a literal that is no terminal, is made of."""
        if isinstance(node, Literal):
            if node not in self._letters:
                self._letters[node] = tuple(Chars(chars.just(letter)) for letter in node.text)
            return self._letters[node]
        return gbnf_rules.children(node)


class _Writer:
    """Writes a grammar as Lark: lower-case names are rules, upper-case ones terminals."""

    def __init__(self, rules: gbnf_rules.Rules, plan: _Plan) -> None:
        self._rules = rules
        self._plan = plan
        # What has a line of its own, by what it is, and that line's name; a terminal and a rule may
        # come of the same.
        self._names: dict[tuple[bool, _Key], str] = {}
        self._waiting: list[tuple[bool, Node, str]] = []

    def write(self) -> str:
        lines = [f"start: {self._text(Ref('root'), terminal=False)}\n"]
        for terminal, node, name in self._waiting:  # which grows as it is read
            if len(lines) > _MAX_WRITTEN:
                raise Problem("too many rules and groups")
            lines.append(f"{name}: {self._text(node, terminal=terminal)}\n")
        return "".join(lines)

    def _named(self, node: Node, *, terminal: bool) -> str:
        key = _key(node)
        name = self._names.get((terminal, key))
        if name is None:
            name = f"{'T' if terminal else 'r'}{len(self._names)}"
            self._names[terminal, key] = name
            body = self._rules[node.name] if isinstance(node, Ref) else node
            self._waiting.append((terminal, body, name))
        return name

    def _text(self, node: Node, *, terminal: bool, groups: int = 0) -> str:
        """An expression that needs no parentheses around it, or has them."""
        if isinstance(node, Ref):
            inside = terminal or self._plan.is_terminal(node)
            return self._named(node, terminal=inside)
        if isinstance(node, Chars):
            return _class(node.set)
        if isinstance(node, Literal) and (terminal or self._plan.is_terminal(node)):
            return guidance.string(node.text)
        if not terminal and self._plan.is_terminal(node):
            return self._named(node, terminal=True)
        if groups == _MAX_GROUPS:
            return self._named(node, terminal=terminal)
        if isinstance(node, Alt):
            sign, nodes = " | ", node.nodes
        elif isinstance(node, Repeat):
            inner = self._text(node.node, terminal=terminal, groups=groups + 1)
            # `(x?){2}` and `x?{2}` are not the same to every reader.
            return f"(({inner}){_times(node)})"
        else:
            sign, nodes = " ", self._plan.parts(node)
        parts = [self._text(inner, terminal=terminal, groups=groups + 1) for inner in nodes]
        return f"({sign.join(parts)})" if parts else '""'


def _class(members: CharSet) -> str:
    ranges = "".join(f"\\x{{{low:x}}}-\\x{{{high:x}}}" for low, high in members)
    return f"/[{ranges}]/"


def _times(node: Repeat) -> str:
    match node.least, node.most:
        case 0, None:
            return "*"
        case 1, None:
            return "+"
        case 0, 1:
            return "?"
        case least, None:
            return f"{{{least},}}"
        case least, most:
            return f"{{{least},{most}}}"
