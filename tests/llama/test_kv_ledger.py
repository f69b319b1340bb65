"""Who holds which cells, against lists of numbered cells."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.llama.kv.ledger import Ledger, union

SLOTS = 4
slots = st.integers(0, SLOTS - 1)


class LedgerMachine(RuleBasedStateMachine):
    """The model: each slot a list of cells, by number."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.cells: dict[int, list[int]] = {slot: [] for slot in range(SLOTS)}
        self.next_cell = 0

    @rule(slot=slots, count=st.integers(1, 9))
    def grow(self, slot: int, count: int) -> None:
        self.ledger.grow(slot, count)
        self.cells[slot] += range(self.next_cell, self.next_cell + count)
        self.next_cell += count

    @precondition(lambda self: any(self.cells.values()) and not all(self.cells.values()))
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from([s for s, cells in self.cells.items() if not cells]))
        source = data.draw(st.sampled_from([s for s, cells in self.cells.items() if cells]))
        count = data.draw(st.integers(0, len(self.cells[source])))
        self.ledger.share(source, target, count)
        self.cells[target] = self.cells[source][:count]

    @precondition(lambda self: any(self.cells.values()))
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from([s for s, cells in self.cells.items() if cells]))
        keep = data.draw(st.just(0) | st.integers(0, len(self.cells[slot]) + 2))
        self.ledger.truncate(slot, keep)
        del self.cells[slot][keep:]

    @rule(chance=st.integers(0, 9))
    def clear(self, chance: int) -> None:
        if chance != 5:  # seldom: what is interesting takes some steps
            return
        self.ledger.clear()
        self.cells = {slot: [] for slot in range(SLOTS)}

    @invariant()
    def counts_are_true(self) -> None:
        assert self.ledger.used == len(set().union(*self.cells.values()))
        for slot, cells in self.cells.items():
            others = set().union(*(c for s, c in self.cells.items() if s != slot))
            assert self.ledger.held(slot) == len(cells)
            assert self.ledger.exclusive(slot) == len(set(cells) - others)

    @rule(chosen=st.lists(st.tuples(slots, st.none() | st.integers(0, 40))))
    def union_is_that_of_the_cells(self, chosen: list[tuple[int, int | None]]) -> None:
        expected: set[int] = set()
        for slot, upto in chosen:
            expected.update(self.cells[slot][:upto])
        assert union(self.ledger.spans(slot, upto) for slot, upto in chosen) == len(expected)

    @invariant()
    def spans_are_no_more_than_needed(self) -> None:
        """A span ends only where somebody's cells do, or where those of its holders part."""
        holders: dict[int, frozenset[int]] = {}
        for slot, cells in self.cells.items():
            for cell in cells:
                holders[cell] = holders.get(cell, frozenset()) | {slot}
        for slot, cells in self.cells.items():
            runs = bool(cells) + sum(holders[a] != holders[b] for a, b in pairwise(cells))
            assert len(self.ledger.spans(slot)) == runs


LedgerMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestLedger = LedgerMachine.TestCase


def test_nobody_shares_more_than_there_is():
    ledger = Ledger()
    ledger.grow(0, 5)
    with pytest.raises(ValueError, match="slot 0 holds 5 cells, not 6"):
        ledger.share(0, 1, 6)


def test_the_first_cells_of_a_slot_are_counted_where_its_spans_part():
    ledger = Ledger()
    ledger.grow(0, 0)
    assert ledger.spans(0) == ()
    ledger.grow(0, 10)
    ledger.share(0, 1, 4)
    assert [union([ledger.spans(0, upto)]) for upto in range(12)] == [*range(11), 10]
    ledger.truncate(0, 1)
    assert (ledger.held(0), ledger.held(1)) == (1, 4)


def test_who_leaves_joins_no_cells_that_fewer_hold():
    ledger = Ledger()
    ledger.grow(0, 30)
    for target, cells in ((1, 20), (2, 10), (3, 20)):
        ledger.share(0, target, cells)
    ledger.truncate(3, 0)
    assert [ledger.held(slot) for slot in range(4)] == [30, 20, 10, 0]
    assert [ledger.exclusive(slot) for slot in range(4)] == [10, 0, 0, 0]


def test_a_long_life_of_sharing_at_any_place_leaves_no_cuts_behind():
    ledger = Ledger()
    ledger.grow(0, 4000)
    for turn in range(300):
        ledger.share(0, 1, 1 + turn * 13 % 3999)
        ledger.grow(1, 10)
        ledger.truncate(1, 0)
    assert ledger.spans(0)[0][1] == 4000
    assert len(ledger.spans(0)) == 1
