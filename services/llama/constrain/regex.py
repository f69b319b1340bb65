r"""Limits of regular expressions, checked before the library sees them; pure.

The dialect is that of Rust's `regex` crate, without look-around, word boundaries and anchors inside
the text: https://docs.rs/regex/latest/regex/#syntax. Classes such as `\w` mean all of Unicode there,
those of a JSON schema's patterns ASCII only. What does not parse is the library's to say.
"""

from __future__ import annotations

import re

from services.llama.constrain.problem import Problem

MAX_DEPTH = 100
# Characters that the shortest match can have at the most, and counted repetitions multiplied out:
# the library spells what is forced, which takes a second for a million characters.
MAX_WEIGHT = 2**16

_COUNTED = re.compile(r"\{(\d{1,9})(?:(,)(\d{1,9})?)?\}")
_PROPERTY = re.compile(r"[pPxuU]\{[^}]*\}")


def check(pattern: str) -> None:
    """Raises Problem when the expression is nested too deep or too large multiplied out."""
    # Per open group: what came before the last atom of the sequence.
    outer: list[int] = []
    total, last, at = 0, 0, 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        match character:
            case "(":
                if len(outer) == MAX_DEPTH:
                    raise Problem(f"groups are nested deeper than {MAX_DEPTH} levels")
                outer.append(total + last)
                total = last = 0
            case ")":
                if outer:
                    last, total = total + last, outer.pop()
            case "{" if counted := _COUNTED.match(pattern, at - 1):
                at = counted.end()
                # `{2,}` is two and then any number.
                last *= max(int(counted[3] or counted[1]), 1)
            case "*" | "+" | "?" | "|":
                pass
            case _:
                total, last = total + last, 1
                at = _atom_end(pattern, at - 1)
        if total + last > MAX_WEIGHT:
            raise Problem(f"repetitions multiply to more than {MAX_WEIGHT} characters")


def _atom_end(pattern: str, start: int) -> int:
    """Where the escape, class or character that begins at `start` ends."""
    if pattern[start] == "\\":
        long = _PROPERTY.match(pattern, start + 1)
        return long.end() if long else start + 2
    if pattern[start] != "[":
        return start + 1
    # Classes may hold classes, and `]` right after the opening is a member.
    depth, at = 0, start
    while at < len(pattern):
        match pattern[at]:
            case "\\":
                at += 1
            case "[":
                depth += 1
                at += 1 + pattern.startswith("^", at + 1)
                if not pattern.startswith("]", at):
                    continue
            case "]":
                depth -= 1
                if not depth:
                    return at + 1
        at += 1
    return at
