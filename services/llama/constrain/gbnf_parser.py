"""llama.cpp's grammar language to a syntax tree; pure. As in llama.cpp's grammars/README.md.

Single tokens (`<think>`, `<[1000]>`) are not taken: they would put control tokens into text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from services.llama.constrain import chars, regex
from services.llama.constrain.chars import CharSet
from services.llama.constrain.problem import Problem

MAX_RULES = 500
MAX_DEPTH = 100


@dataclass(frozen=True, eq=False, slots=True)
class Chars:
    """One character of a set."""

    set: CharSet


@dataclass(frozen=True, eq=False, slots=True)
class Literal:
    """A text of at least 1 character."""

    text: str


@dataclass(frozen=True, eq=False, slots=True)
class Ref:
    """A rule by name."""

    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Seq:
    """One after the other; none of them is the empty text."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Alt:
    """One of them; none of them matches nothing at all."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Repeat:
    """`least` to `most` times; None: any number."""

    node: Node
    least: int
    most: int | None


# Compared by identity: the same text at two places is two nodes.
Node: TypeAlias = Chars | Literal | Ref | Seq | Alt | Repeat

_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*+")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*+")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_COUNTED = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_ESCAPE = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([tnr\\\"\[\]-]))"
)
_PLAIN_ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}
_TIMES: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def parse(text: str) -> dict[str, Node]:
    """The rules by name, `root` among them and none referred to missing. Raises Problem."""
    parser = _Parser(text)
    rules = parser.rules()
    if "root" not in rules:
        raise Problem("there is no rule 'root'")
    missing = parser.referred - rules.keys()
    if missing:
        raise Problem(f"there is no rule '{min(missing)[:64]}'")
    return rules


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.referred: set[str] = set()

    def rules(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            name = self._name()
            self._skip(_SPACE)
            if not self._take("::="):
                raise self._problem("'::=' is missing")
            self._skip(_SPACE_AND_LINES)
            found[name] = self._alternatives(0)
            if len(found) > MAX_RULES:
                raise Problem(f"more than {MAX_RULES} rules")
            if self._peek() not in ("", "\r", "\n"):
                raise self._problem("a new line is missing")
            self._skip(_SPACE_AND_LINES)
        return found

    def _alternatives(self, depth: int) -> Node:
        options = [self._sequence(depth)]
        while self._take("|"):
            self._skip(_SPACE_AND_LINES)
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else Alt(tuple(options))

    def _sequence(self, depth: int) -> Node:
        space = _SPACE_AND_LINES if depth else _SPACE
        nodes: list[Node] = []
        while True:
            character = self._peek()
            if character in _TIMES or character == "{":
                if not nodes:
                    raise self._problem("nothing to repeat")
                nodes[-1] = self._repeated(nodes[-1])
            elif (node := self._element(character, depth)) is not None:
                nodes.append(node)
            else:
                break
            self._skip(space)
        return nodes[0] if len(nodes) == 1 else Seq(tuple(nodes))

    def _element(self, character: str, depth: int) -> Node | None:
        match character:
            case '"':
                return self._literal()
            case "[":
                return self._class()
            case ".":
                self._at += 1
                return Chars(chars.ANY)
            case "(":
                if depth == MAX_DEPTH:
                    raise self._problem(f"nested deeper than {MAX_DEPTH} levels")
                self._at += 1
                self._skip(_SPACE_AND_LINES)
                node = self._alternatives(depth + 1)
                if not self._take(")"):
                    raise self._problem("')' is missing")
                return node
            case "<" | "!":
                raise self._problem("single tokens are not supported")
            case _ if _NAME.match(character):
                name = self._name()
                self.referred.add(name)
                return Ref(name)
        return None

    def _repeated(self, node: Node) -> Node:
        character = self._peek()
        if character in _TIMES:
            self._at += 1
            return Repeat(node, *_TIMES[character])
        counted = _COUNTED.match(self._text, self._at)
        if counted is None:
            raise self._problem("a repetition is {m}, {m,} or {m,n}")
        self._at = counted.end()
        least = int(counted[1])
        most = int(counted[3]) if counted[3] else (None if counted[2] else least)
        if most is not None and most < least:
            raise self._problem("a repetition ends before it begins")
        if max(least, most or 0) > regex.MAX_WEIGHT:
            raise self._problem(f"more than {regex.MAX_WEIGHT} repetitions")
        return Repeat(node, least, most)

    def _literal(self) -> Node:
        self._at += 1
        text: list[str] = []
        while not self._take('"'):
            text.append(chr(self._character()))
        return Literal("".join(text)) if text else Seq(())

    def _class(self) -> Node:
        self._at += 1
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            low = high = self._character()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._character()
            if high < low:
                raise self._problem("a range ends before it begins")
            ranges.append((low, high))
        found = chars.intersection(chars.of(ranges), chars.ANY)
        if negated:
            found = chars.complement(found)
        if not found:
            raise self._problem("a class without a character")
        return Chars(found)

    def _character(self) -> int:
        if self._peek() != "\\":
            if not self._peek():
                raise self._problem("unexpected end")
            self._at += 1
            return ord(self._text[self._at - 1])
        escape = _ESCAPE.match(self._text, self._at)
        if escape is None:
            raise self._problem("unknown escape")
        self._at = escape.end()
        if escape[4]:
            return ord(_PLAIN_ESCAPES.get(escape[4], escape[4]))
        code = int(escape[1] or escape[2] or escape[3], 16)
        if not chars.meet(((code, code),), chars.ANY):
            raise self._problem("no character has this code")
        return code

    def _name(self) -> str:
        name = _NAME.match(self._text, self._at)
        if name is None:
            raise self._problem("a rule's name is missing")
        self._at = name.end()
        return name[0]

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, what: str) -> bool:
        if not self._text.startswith(what, self._at):
            return False
        self._at += len(what)
        return True

    def _skip(self, what: re.Pattern[str]) -> None:
        skipped = what.match(self._text, self._at)
        assert skipped is not None
        self._at = skipped.end()

    def _problem(self, message: str) -> Problem:
        line = self._text.count("\n", 0, self._at) + 1
        return Problem(f"line {line}: {message}")
