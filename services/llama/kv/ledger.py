"""Counts KV cells that slots share: pure bookkeeping, exact.

A slot holds the cells of positions 0, 1, … without a gap. Slots come to share cells in one way
only: one takes over the beginning of another. So a slot's cells are a chain of spans, runs of
positions that the same slots hold, and all holders of a span have equal chains up to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

# Number and cells of a span, or of the beginning of one. Equal numbers are the same cells.
Spans = tuple[tuple[int, int], ...]


class _Span:
    __slots__ = ("holders", "length", "number")

    def __init__(self, number: int, length: int, holders: set[int]) -> None:
        self.number = number
        self.length = length
        self.holders = holders


class Ledger:
    """Who holds which cells."""

    def __init__(self) -> None:
        self._chains: dict[int, list[_Span]] = {}
        self._numbers = count()
        # Cells that at least one slot holds.
        self.used = 0

    def held(self, slot: int) -> int:
        """Cells of the slot, shared ones included."""
        return sum(span.length for span in self._chains.get(slot, ()))

    def exclusive(self, slot: int) -> int:
        """Cells that nobody else holds; they are the slot's last ones."""
        return sum(s.length for s in self._chains.get(slot, ()) if len(s.holders) == 1)

    def spans(self, slot: int, upto: int | None = None) -> Spans:
        """The slot's cells, or the first `upto` of them, in a form that `union` adds up."""
        found: list[tuple[int, int]] = []
        left = self.held(slot) if upto is None else upto
        for span in self._chains.get(slot, ()):
            if left <= 0:
                break
            found.append((span.number, min(left, span.length)))
            left -= span.length
        return tuple(found)

    def grow(self, slot: int, cells: int) -> None:
        """The slot got cells of its own behind those it has."""
        if cells <= 0:
            return
        chain = self._chains.setdefault(slot, [])
        if chain and len(chain[-1].holders) == 1:
            chain[-1].length += cells
        else:
            chain.append(_Span(next(self._numbers), cells, {slot}))
        self.used += cells

    def share(self, source: int, target: int, cells: int) -> None:
        """The target, which has none, holds the source's first `cells` too."""
        assert not self._chains.get(target), "the target holds cells"
        if cells <= 0:
            return
        end = self._cut(source, cells)
        shared = self._chains[source][:end]
        for span in shared:
            span.holders.add(target)
        self._chains[target] = shared

    def truncate(self, slot: int, cells: int) -> None:
        """The slot keeps its first `cells`."""
        if cells >= self.held(slot):
            return
        end = self._cut(slot, cells) if cells > 0 else 0
        chain = self._chains[slot]
        left = chain[end:]
        del chain[end:]
        if not chain:
            del self._chains[slot]
        for span in left:
            span.holders.remove(slot)
            if not span.holders:
                self.used -= span.length
        others = [span for span in left if span.holders]
        if others:
            self._join(others[-1])

    def clear(self) -> None:
        """Nobody holds anything."""
        self._chains.clear()
        self.used = 0

    def _cut(self, slot: int, cells: int) -> int:
        """Splits the chain at a position; the number of spans before it."""
        chain = self._chains.get(slot, [])
        before = 0
        for index, span in enumerate(chain):
            if before + span.length > cells:
                break
            before += span.length
            if before == cells:
                return index + 1
        else:
            raise ValueError(f"slot {slot} holds {before} cells, not {cells}")
        rest = _Span(next(self._numbers), span.length - (cells - before), set(span.holders))
        span.length = cells - before
        for holder in span.holders:
            # Equal chains up to here: it is at the same place in each.
            self._chains[holder].insert(index + 1, rest)
        return index + 1

    def _join(self, span: _Span) -> None:
        """Joins a span with the next if the same hold both, after one left that held only the first.

        Else the cuts of all that ever shared a long-lived slot's cells would stay.
        """
        chain = self._chains[next(iter(span.holders))]
        index = chain.index(span)
        if index + 1 == len(chain) or len(chain[index + 1].holders) < len(span.holders):
            return
        span.length += chain[index + 1].length
        for holder in span.holders:
            del self._chains[holder][index + 1]


def union(holders: Iterable[Spans]) -> int:
    """Cells that they hold together, shared ones counted once."""
    longest: dict[int, int] = {}
    for spans in holders:
        for number, length in spans:
            if length > longest.get(number, 0):
                longest[number] = length
    return sum(longest.values())
