"""Where images and sounds lie among a prompt's tokens, and at which positions. Pure.

To the model an image is a run of vectors, one a cell. In the list of tokens it is a run of
stand-ins: negative numbers that only the same image gives, so that equal prompts are equal lists
and everything that compares tokens (prefix reuse, parked states, preemption) needs to know no more.
Stand-ins are never evaluated, sampled or told to anybody.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from services.llama.interface import Chunk, Embedded, Positions, Vectors

# Stand-ins of one run are numbered; none is as long.
_RUN_BITS = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """What an image, a piece of one, or a sound takes in the cache."""

    cells: int
    # Positions that it takes: the next token's is so much higher.
    positions: int
    # In models that see two dimensions: time, row and column of every cell, counted from the run's
    # first position, shape (3, cells). None: one position after the other.
    grid: Positions | None = None
    # Whether every cell attends to all others: they are evaluated in one decode.
    together: bool = False

    @property
    def divisible(self) -> bool:
        """Whether its first cells alone can be kept, and the rest computed later."""
        return self.grid is None and not self.together


@dataclass(frozen=True, slots=True)
class Run:
    """An image, a piece of one, or a sound at its place."""

    # Index of its first stand-in among the tokens.
    start: int
    shape: Shape
    # Digest of what it is of, and which piece of that.
    content: tuple[bytes, int] = (b"", 0)
    # None: they are yet to be computed.
    vectors: Vectors | None = None

    @property
    def end(self) -> int:
        """Index of what comes behind it."""
        return self.start + self.shape.cells


def stand_ins(content: bytes, piece: int, cells: int) -> list[int]:
    """The run of a content's piece; equal for equal arguments only. `content` is its digest."""
    digest = hashlib.sha256(content + piece.to_bytes(4, "big")).digest()
    base = int.from_bytes(digest[:16], "big") << _RUN_BITS
    return [-1 - base - at for at in range(cells)]


class Layout:
    """The runs of one prompt, in order. Does not change."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.runs = tuple(runs)
        self._starts = [run.start for run in self.runs]
        saved = (run.shape.cells - run.shape.positions for run in self.runs)
        # Cells before the end of each run that took no position of their own.
        self._saved = [0, *accumulate(saved)]

    def __bool__(self) -> bool:
        return bool(self.runs)

    def at(self, index: int) -> Run | None:
        """The run that this token stands in for; None: it is a token."""
        place = bisect_right(self._starts, index) - 1
        if place < 0 or index >= self.runs[place].end:
            return None
        return self.runs[place]

    def position(self, index: int) -> int:
        """The position of this token; in a run that has a grid, that of the run."""
        run = self.at(index)
        if run is not None and run.shape.grid is not None:
            index = run.start
        passed = bisect_right(self._starts, index)
        if run is not None:
            passed -= 1
        return index - self._saved[passed]

    def cut(self, cells: int) -> int:
        """How many of so many first cells can be kept without the rest."""
        run = self.at(cells)
        if run is None or run.start == cells or run.shape.divisible:
            return cells
        return run.start

    def reach(self, index: int, length: int) -> int:
        """Tokens from this one on, of so many in all, that are of its kind: a run's, or none's."""
        run = self.at(index)
        if run is not None:
            return run.end - index
        place = bisect_right(self._starts, index)
        end = self._starts[place] if place < len(self._starts) else length
        return end - index

    def together(self, index: int) -> bool:
        """Whether what is there must be evaluated in one decode, all of it."""
        run = self.at(index)
        return run is not None and run.shape.together

    def with_vectors(self, vectors: Sequence[Vectors]) -> Layout:
        """The same with the vectors of every run."""
        pairs = zip(self.runs, vectors, strict=True)
        return Layout(replace(run, vectors=found) for run, found in pairs)

    def chunk(self, slot: int, index: int, count: int) -> Chunk | None:
        """The next `count` cells, of one run; None: no run is there."""
        run = self.at(index)
        if run is None:
            return None
        assert run.vectors is not None, "it was submitted with its vectors"
        first = index - run.start
        start = self.position(index)
        embedded = Embedded(
            run.vectors[first : first + count],
            _absolute(run.shape.grid, start, first, count),
            together=run.shape.together,
        )
        return Chunk(slot, start, (), embedded=embedded)


def _absolute(grid: Positions | None, start: int, first: int, count: int) -> Positions | None:
    """As llama.cpp takes them, shape (4, count): the fourth section is of no use to images."""
    if grid is None:
        return None
    found = np.zeros((4, count), np.int32)
    found[:3] = grid[:, first : first + count] + start
    return found


# Prompts of tokens alone have this.
PLAIN = Layout()
