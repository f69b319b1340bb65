"""What ended sequences held in cells, kept in the host's memory instead: idle states, parked.

A parked state takes no cells, so attention does not look at it, and can be put into the cells of
a new slot for a small part of what computing it costs. Bounded by bytes and by the memory that is
left; the least recently used goes first. Used on the engine's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import islice

from services.llama.interface import State
from services.llama.kv.radix import PrefixTree

# Bytes of the host's memory that are left to others.
RESERVE = 512 * 2**20
# Of several states that serve equally, so many are compared.
_COMPARED = 32


@dataclass(frozen=True, slots=True)
class HeadsOf:
    """Where the heads of a namespace's states are parked, beside the states themselves."""

    namespace: Hashable


@dataclass(frozen=True, slots=True)
class Parked:
    """One state: the cells of these many tokens."""

    number: int
    namespace: Hashable
    tokens: Sequence[int]
    state: State

    @property
    def cells(self) -> int:
        """Cells that it takes when it is put back."""
        return len(self.tokens)


class Parking:
    """States by their tokens. Namespaces never share anything."""

    def __init__(
        self, limit: int, *, partial: bool, available: Callable[[], int | None] = lambda: None
    ) -> None:
        """`limit` in bytes. `partial`: whether the beginning of a state is of use by itself.

        `available` tells how many bytes the host has left; None: not known.
        """
        self._limit = limit
        self._partial = partial
        self._available = available
        self._trees: dict[Hashable, PrefixTree] = {}
        # Least recently used first.
        self._parked: OrderedDict[int, Parked] = OrderedDict()
        self._numbers = 0
        # Bytes of all states.
        self.used = 0

    def __len__(self) -> int:
        return len(self._parked)

    def __repr__(self) -> str:
        return f"<Parking {len(self)} states, {self.used} of {self._limit} bytes>"

    def find(self, tokens: Sequence[int], namespace: Hashable, most: int) -> tuple[int, int]:
        """The state with the most of the tokens' first `most`: its number, and how many; 0: none."""
        tree = self._trees.get(namespace)
        for matched, numbers in tree.match(tokens) if tree is not None else ():
            limit = min(matched, most)
            if self._partial:
                if limit <= 0:
                    break
                # All of it has to have room for a moment: of equals the shortest.
                return min(islice(numbers, _COMPARED), key=self._length), limit
            whole = [number for number in numbers if self._length(number) <= limit]
            if whole:
                best = max(whole, key=self._length)
                return best, self._length(best)
        return -1, 0

    def holds(self, tokens: Sequence[int], namespace: Hashable, but: int = 0) -> bool:
        """Whether a state serves for all but so many of these tokens; if so, this is a use of it."""
        number, cells = self.find(tokens, namespace, len(tokens))
        if cells < max(1, len(tokens) - but):
            return False
        self._parked.move_to_end(number)
        return True

    def has_room(self, size: int) -> bool:
        """Whether there is room for so many bytes without dropping anything."""
        return not self._short(size)

    def make_room(self, size: int) -> bool:
        """Drops what is oldest until there is room for so many bytes; whether there is."""
        while self._short(size):
            if size > self._limit or not self._parked:
                return False
            self._drop(next(iter(self._parked)))
        return True

    def _short(self, size: int) -> bool:
        if self.used + size > self._limit:
            return True
        available = self._available()
        return available is not None and available - size < RESERVE

    def add(self, tokens: Sequence[int], namespace: Hashable, state: State) -> None:
        """Takes a state in, for which room was made."""
        if self._partial:
            self._drop_beginnings(tokens, namespace)
        self._numbers += 1
        self._put(Parked(self._numbers, namespace, tokens, state))

    def take(self, number: int) -> Parked | None:
        """Takes a state out; None when it is gone."""
        return self._drop(number) if number in self._parked else None

    def put_back(self, parked: Parked) -> None:
        """A state that was taken out is of use to others still."""
        if self.make_room(parked.state.nbytes):
            self._put(parked)

    def clear(self) -> None:
        """Drops everything."""
        self._trees.clear()
        self._parked.clear()
        self.used = 0

    def check(self) -> None:
        """Asserts what must always hold; for tests."""
        assert self.used == sum(parked.state.nbytes for parked in self._parked.values())
        assert self.used <= self._limit
        assert sum(len(tree) for tree in self._trees.values()) == len(self)
        assert all(self._trees.values())
        for number, parked in self._parked.items():
            assert self._trees[parked.namespace].tokens(number) == list(parked.tokens)

    def _length(self, number: int) -> int:
        return self._parked[number].cells

    def _drop_beginnings(self, tokens: Sequence[int], namespace: Hashable) -> None:
        """States of which these tokens have all, and more."""
        tree = self._trees.get(namespace)
        found = tree.match(tokens) if tree is not None else ()
        for number in {n for matched, them in found for n in them if self._length(n) <= matched}:
            self._drop(number)

    def _put(self, parked: Parked) -> None:
        self._parked[parked.number] = parked
        self._trees.setdefault(parked.namespace, PrefixTree()).insert(parked.number, parked.tokens)
        self.used += parked.state.nbytes

    def _drop(self, number: int) -> Parked:
        parked = self._parked.pop(number)
        tree = self._trees[parked.namespace]
        tree.remove(number)
        if not tree:
            del self._trees[parked.namespace]
        self.used -= parked.state.nbytes
        return parked
