"""The KV cache over a fake runtime that holds real tokens, against lists of what each slot has."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.llama.interface import Chunk
from services.llama.kv.cache import KvCache, Prefix
from services.llama.kv.parking import HeadsOf, Parking
from tests.llama.fake_runtime import FakeRuntime

PIECES = st.lists(st.integers(0, 1), max_size=5)


@dataclass
class Known:
    """What the model knows of a slot that runs."""

    namespace: str
    tokens: list[int]


def evaluate(runtime: FakeRuntime, kv: KvCache, slot: int, tokens: list[int]) -> None:
    """As the engine does: makes room, decodes, notes it."""
    assert kv.make_room(len(tokens))
    runtime.decode([Chunk(slot, len(runtime.cache.get(slot, [])), tokens)])
    kv.grow(slot, len(tokens))


def tokens_in(runtime: FakeRuntime, slot: int) -> list[int]:
    return [token for _, token in runtime.cache.get(slot, [])]


def common(a: list[int], b: list[int]) -> int:
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    return same


class CacheMachine(RuleBasedStateMachine):
    @initialize(
        partial=st.booleans(),
        cells=st.integers(60, 200),
        slots=st.integers(1, 5),
        # Bytes, 4 for each token.
        parked=st.sampled_from([0, 0, 400, 4000]),
    )
    def begin(self, partial: bool, cells: int, slots: int, parked: int) -> None:
        self.runtime = FakeRuntime(cells=cells, slots=slots, partial=partial, batch_size=1000)
        self.parking = Parking(parked, partial=partial) if parked else None
        self.kv = KvCache(self.runtime, self.parking)
        self.running: dict[int, Known] = {}

    def some_running(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.running)))

    def room(self) -> int:
        """Cells that the running ones leave."""
        held = {cell for slot in self.running for cell, _ in self.runtime.cache.get(slot, [])}
        return self.runtime.cells - len(held)

    @precondition(lambda self: len(self.running) < self.runtime.slots)
    @rule(namespace=st.sampled_from("ab"), pieces=PIECES, most=st.integers(0, 120))
    def acquire(self, namespace: str, pieces: list[int], most: int) -> None:
        # Pieces of 20 equal tokens: long enough to be kept, and often shared.
        tokens = [token for piece in pieces for token in [piece] * 20] + [2]
        prefix = self.kv.find(tokens, namespace, min(most, len(tokens) - 1))
        slot = self.kv.acquire(tokens, namespace, prefix)
        assert slot not in self.running
        self.running[slot] = Known(namespace, tokens)
        assert tokens_in(self.runtime, slot) == tokens[: self.kv.held(slot)]
        # What is parked is had if all of it has room for a moment.
        assert self.kv.held(slot) in {prefix.cells, 0 if prefix.parked else prefix.cells}

    @precondition(lambda self: self.running)
    @rule(data=st.data(), most=st.integers(1, 60))
    def grow(self, data: st.DataObject, most: int) -> None:
        slot = self.some_running(data)
        known = self.running[slot].tokens
        cached = len(self.runtime.cache.get(slot, []))
        count = min(most, self.room(), len(known) - cached)
        if count:
            evaluate(self.runtime, self.kv, slot, known[cached : cached + count])

    @precondition(lambda self: self.running)
    @rule(data=st.data(), some=st.lists(st.integers(0, 2), min_size=1, max_size=20))
    def append(self, data: st.DataObject, some: list[int]) -> None:
        slot = self.some_running(data)
        self.running[slot].tokens += some
        self.kv.append(slot, some)

    @precondition(lambda self: self.running and self.runtime.partial)
    @rule(data=st.data(), wrong=st.integers(1, 5))
    def draft(self, data: st.DataObject, wrong: int) -> None:
        """Tokens that do not come out are evaluated and given back."""
        slot = self.some_running(data)
        known, cached = self.running[slot].tokens, len(self.runtime.cache.get(slot, []))
        if cached == len(known) and self.room() >= wrong:
            evaluate(self.runtime, self.kv, slot, [9] * wrong)
            self.kv.rewind(slot, cached)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), keep=st.booleans())
    def retire(self, data: st.DataObject, keep: bool) -> None:
        slot = self.some_running(data)
        del self.running[slot]
        self.kv.retire(slot, keep=keep)
        if not keep:
            assert not tokens_in(self.runtime, slot)

    @rule(cells=st.integers(0, 220))
    def make_room(self, cells: int) -> None:
        before = {slot: tokens_in(self.runtime, slot) for slot in self.running}
        assert self.kv.make_room(cells) == (cells <= self.room())
        assert before == {slot: tokens_in(self.runtime, slot) for slot in self.running}
        if cells <= self.room():
            assert self.runtime.cells - self.runtime.used >= cells

    @rule(cells=st.integers(0, 220), pace=st.integers(0, 100))
    def shed(self, cells: int, pace: int) -> None:
        before, idle = self.kv.room, self.kv.slots[1]
        self.kv.shed(cells, pace)
        if before < cells and idle:
            assert self.kv.room > before or self.kv.slots[1] < idle
        else:
            assert self.kv.room == before

    @rule(count=st.integers(1, 120))
    def park_idle(self, count: int) -> None:
        before = {
            slot: (its.namespace, tokens_in(self.runtime, slot))
            for slot, its in self.kv._slots.items()
            if not its.running
        }
        states = set(self.parking._parked) if self.parking is not None else set()
        if not self.kv.park_idle():
            assert before.keys() == self.kv._slots.keys() - self.running.keys()
            return
        assert self.parking is not None
        # One slot has fewer cells, so this ends.
        (parked,) = [s for s, (_, had) in before.items() if tokens_in(self.runtime, s) != had]
        namespace, tokens = before[parked]
        assert self.kv._slots.keys().isdisjoint({parked}) or self.kv.held(parked) < 32 < len(tokens)
        # Only for a state or a head that is longer another one may have gone.
        assert len(self.parking) >= len(states)
        if self.runtime.partial:
            count = min(count, len(tokens), 31)
            prefix = self.kv.find([*tokens[:count], 9], namespace, count)
            # 3 that a head like it lacks, and 3 for which no head is put back.
            assert prefix.cells >= count - 6

    @rule(restores=st.booleans())
    def restoring_fails(self, restores: bool) -> None:
        self.runtime.restores = restores

    @rule(chance=st.integers(0, 9))
    def evict_idle(self, chance: int) -> None:
        if chance != 5:  # seldom: what is interesting takes some steps
            return
        idle = self.kv.slots[1]
        assert self.kv.evict_idle() == bool(idle)
        assert self.kv.slots == (len(self.running), 0)

    @rule(chance=st.integers(0, 9))
    def reset(self, chance: int) -> None:
        if chance != 5:
            return
        self.kv.reset()
        self.running.clear()

    @rule(namespace=st.sampled_from("ab"), pieces=PIECES, most=st.integers(-1, 120))
    def find(self, namespace: str, pieces: list[int], most: int) -> None:
        tokens = [token for piece in pieces for token in [piece] * 20] + [0]
        prefix = self.kv.find(tokens, namespace, most)
        best = promised = 0
        for slot, its in self.kv._slots.items():
            if its.namespace != namespace:
                continue
            held = tokens_in(self.runtime, slot)
            known = self.running[slot].tokens if slot in self.running else held
            whole = self.runtime.partial
            same = min(common(held, tokens), max(0, most))
            best = max(best, same if whole or same == len(held) else 0)
            if slot in self.running:
                same = min(common(known, tokens), max(0, most))
                promised = max(promised, same if whole or same == len(known) else 0)
        resident = self.kv._find(tokens, namespace, most)
        assert resident.cells == best
        assert prefix.cells >= best
        assert (prefix.parked is None) == (prefix.cells == best)
        if prefix.parked is not None:
            assert self.parking is not None
            state = self.parking._parked[prefix.parked]
            assert state.namespace in {namespace, HeadsOf(namespace)}
            assert list(state.tokens[: prefix.cells]) == tokens[: prefix.cells]
            assert prefix.cells == len(state.tokens) or self.runtime.partial
            assert sum(length for _, length in prefix.spans) == prefix.cells
        prefix = resident
        # What is there already need not be promised.
        assert max(prefix.promised, best) == max(promised, best)
        assert (prefix.slot is None) == (best == 0)
        assert (prefix.maker is None) == (prefix.promised == 0)
        if prefix.maker is not None:
            assert self.running[prefix.maker].tokens[: prefix.promised] == tokens[: prefix.promised]
        if prefix.slot is not None:
            assert tokens_in(self.runtime, prefix.slot)[:best] == tokens[:best]
            assert sum(length for _, length in prefix.spans) == best

    @invariant()
    def books_and_cells_agree(self) -> None:
        if not hasattr(self, "kv"):
            return
        self.kv.check()
        if self.parking is not None:
            self.parking.check()
            for parked in self.parking._parked.values():
                assert parked.state.view("int32").tolist() == list(parked.tokens)
        assert self.kv.used == self.runtime.used
        assert self.kv.slots[0] == len(self.running)
        for slot, its in self.kv._slots.items():
            held = tokens_in(self.runtime, slot)
            assert len(held) == its.cells
            tree = self.kv._trees[its.namespace]
            assert tree.tokens(slot)[: its.cells] == held
            if slot in self.running:
                assert tree.tokens(slot) == self.running[slot].tokens
                assert its.namespace == self.running[slot].namespace
        assert set(self.kv._trees) == {its.namespace for its in self.kv._slots.values()}
        assert all(slot in self.kv._slots for slot, held in self.runtime.cache.items() if held)


CacheMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestKvCache = CacheMachine.TestCase


# ------------------------------------------------------------------------ who is evicted first


def kept(kv: KvCache, runtime: FakeRuntime, token: int, cells: int) -> int:
    """An idle slot with so many cells of one token."""
    slot = kv.acquire([token] * cells, "", Prefix())
    evaluate(runtime, kv, slot, [token] * cells)
    kv.retire(slot)
    return slot


@pytest.fixture
def cache() -> tuple[KvCache, FakeRuntime]:
    runtime = FakeRuntime(cells=300, slots=3)
    return KvCache(runtime), runtime


def test_the_least_recently_used_goes_first_and_from_its_end(cache):
    kv, runtime = cache
    first, second = kept(kv, runtime, 1, 140), kept(kv, runtime, 2, 140)
    assert kv.make_room(21)
    # A piece at once, so that not every step evicts one cell.
    assert [len(runtime.cache[slot]) for slot in (first, second)] == [76, 140]
    assert kv.make_room(84)
    assert [len(runtime.cache[slot]) for slot in (first, second)] == [76, 140]


def test_being_shared_from_is_a_use(cache):
    kv, runtime = cache
    first, second = kept(kv, runtime, 1, 140), kept(kv, runtime, 2, 140)
    slot = kv.acquire([1] * 141, "", kv.find([1] * 141, "", 140))
    kv.retire(slot, keep=False)
    assert kv.make_room(21)
    assert [len(runtime.cache[slot]) for slot in (first, second)] == [140, 76]


def test_what_is_too_short_is_not_kept(cache):
    kv, runtime = cache
    kept(kv, runtime, 1, 15)
    assert kv.slots == (0, 0)
    assert runtime.used == 0


def test_cells_that_somebody_runs_on_are_not_taken(cache):
    kv, runtime = cache
    idle = kept(kv, runtime, 1, 200)
    slot = kv.acquire([1] * 150, "", kv.find([1] * 150, "", 100))
    assert kv.make_room(200)
    assert not kv.make_room(201)
    assert runtime.cache.get(idle) is None
    assert len(runtime.cache[slot]) == 100


def test_without_a_free_slot_the_last_idle_one_is_taken_over():
    runtime = FakeRuntime(cells=300, slots=1)
    kv = KvCache(runtime)
    idle = kept(kv, runtime, 1, 100)
    slot = kv.acquire([1] * 60 + [2], "", kv.find([1] * 60 + [2], "", 60))
    assert (slot, tokens_in(runtime, slot), kv.slots) == (idle, [1] * 60, (1, 0))


def test_a_cache_of_all_or_nothing_promises_only_what_it_can_share():
    runtime = FakeRuntime(partial=False)
    kv = KvCache(runtime)
    slot = kv.acquire([1] * 50 + [2], "", Prefix())
    evaluate(runtime, kv, slot, [1] * 30)
    # In the middle of its prompt it happens to be shareable, at the end it never is.
    assert kv.find([1] * 50 + [3], "", 50) == Prefix(30, slot, spans=kv.spans(slot))
    evaluate(runtime, kv, slot, [1] * 20 + [2])
    assert kv.find([1] * 50 + [3], "", 50) == Prefix()
    assert kv.find([1] * 50 + [2, 3], "", 51).cells == 51
