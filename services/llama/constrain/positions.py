"""Whether one terminal could go on where another has ended; pure.

By position automata: every place of a character in a terminal is a state. Counted repetitions are
taken as any number, so the answer may be yes where it is no, never the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.llama.constrain import chars
from services.llama.constrain.chars import CharSet
from services.llama.constrain.gbnf_parser import Alt, Chars, Literal, Node, Ref, Repeat, Seq
from services.llama.constrain.gbnf_rules import Rules

_MAX_POSITIONS = 4096


class TooLargeError(Exception):
    """The comparison takes too long."""


@dataclass(slots=True)
class _Automaton:
    sets: list[CharSet] = field(default_factory=list)
    # Per position: those that can come right after it.
    next: list[set[int]] = field(default_factory=list)
    first: set[int] = field(default_factory=set)
    last: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Part:
    first: set[int]
    last: set[int]
    nullable: bool


class Comparison:
    """Compares the terminals of one grammar; what it finds out about each is kept."""

    def __init__(self, rules: Rules, steps: int) -> None:
        """`steps` is the work it may do in all."""
        self._rules = rules
        self._steps = steps
        self._known: dict[Node, _Automaton] = {}

    def goes_on(self, going: Node, ended: Node, follow: CharSet) -> bool:
        """Whether `going` can go on with a character of `follow` after a text of `ended`.

        Not after the empty text. Raises TooLargeError.
        """
        self._spend(1)
        one, other = self._automaton(going), self._automaton(ended)
        if not any(one.next):
            return False
        self._spend(len(one.first) * len(other.first))
        waiting = [(p, q) for p in one.first for q in other.first]
        seen: set[tuple[int, int]] = set()
        while waiting:
            p, q = pair = waiting.pop()
            self._spend(1)
            if pair in seen or not chars.meet(one.sets[p], other.sets[q]):
                continue
            seen.add(pair)
            if q in other.last and any(chars.meet(one.sets[n], follow) for n in one.next[p]):
                return True
            self._spend(len(one.next[p]) * len(other.next[q]))
            waiting.extend((n, m) for n in one.next[p] for m in other.next[q])
        return False

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise TooLargeError

    def _automaton(self, node: Node) -> _Automaton:
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = _Automaton()
            part = self._add(node, known)
            known.first, known.last = part.first, part.last
        return known

    def _add(self, node: Node, to: _Automaton) -> _Part:
        match node:
            case Chars(members):
                return self._positions([members], to)
            case Literal(text):
                return self._positions([chars.just(character) for character in text], to)
            case Ref(name):
                return self._add(self._rules[name], to)
            case Alt(nodes):
                parts = [self._add(inner, to) for inner in nodes]
                return _Part(
                    set().union(*(part.first for part in parts)),
                    set().union(*(part.last for part in parts)),
                    any(part.nullable for part in parts),
                )
            case Repeat(inner, least, most):
                part = self._add(inner, to)
                if most != 1:
                    self._connect(part.last, part.first, to)
                return _Part(part.first, part.last, part.nullable or not least)
            case Seq(nodes):
                whole = _Part(set(), set(), nullable=True)
                for inner in nodes:
                    part = self._add(inner, to)
                    self._connect(whole.last, part.first, to)
                    whole = _Part(
                        whole.first | part.first if whole.nullable else whole.first,
                        whole.last | part.last if part.nullable else part.last,
                        whole.nullable and part.nullable,
                    )
                return whole

    def _positions(self, sets: list[CharSet], to: _Automaton) -> _Part:
        start = len(to.sets)
        end = start + len(sets)
        if end > _MAX_POSITIONS:
            raise TooLargeError
        to.sets.extend(sets)
        to.next.extend({at + 1} if at + 1 < end else set() for at in range(start, end))
        return _Part({start}, {end - 1}, nullable=False)

    def _connect(self, ends: set[int], starts: set[int], to: _Automaton) -> None:
        self._spend(len(ends) * len(starts))
        for end in ends:
            to.next[end] |= starts
