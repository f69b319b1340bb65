"""Parked states: what is found, what is dropped, and that it comes back as it was."""

from __future__ import annotations

import numpy as np
import pytest

from services.llama.interface import Chunk
from services.llama.kv.cache import KvCache, Prefix
from services.llama.kv.parking import RESERVE, HeadsOf, Parking
from tests.llama.fake_runtime import FakeRuntime


def state(size: int) -> np.ndarray:
    return np.zeros(size, np.uint8)


def put(parking: Parking, tokens: list[int], size: int = 10, namespace: str = "") -> bool:
    if not parking.make_room(size):
        return False
    parking.add(tokens, namespace, state(size))
    parking.check()
    return True


def found(parking: Parking, tokens: list[int], namespace: str = "") -> int:
    return parking.find(tokens, namespace, len(tokens))[1]


def test_the_longest_beginning_is_found_in_its_namespace_only():
    parking = Parking(100, partial=True)
    put(parking, [1, 2, 3, 4])
    put(parking, [1, 2, 9])
    assert found(parking, [1, 2, 3, 5]) == 3
    assert parking.find([1, 2, 3, 4], "", 2)[1] == 2
    assert found(parking, [1, 2, 3, 4], "other") == 0
    assert found(parking, [5]) == 0


def test_of_states_that_serve_equally_the_shortest_is_put_back():
    parking = Parking(100, partial=True)
    put(parking, [1, 2, 3, 4, 5, 6])
    put(parking, [1, 2, 7])
    number, cells = parking.find([1, 2, 8], "", 3)
    taken = parking.take(number)
    assert taken is not None
    assert (taken.tokens, cells) == ([1, 2, 7], 2)


def test_a_state_that_cannot_be_cut_serves_as_a_whole():
    parking = Parking(100, partial=False)
    put(parking, [1, 2])
    put(parking, [1, 2, 3, 4])
    assert found(parking, [1, 2, 3]) == 2
    assert found(parking, [1, 2, 3, 4, 5]) == 4
    assert found(parking, [1]) == 0
    assert len(parking) == 2


def test_a_longer_state_takes_the_place_of_its_beginnings():
    parking = Parking(100, partial=True)
    put(parking, [1, 2])
    put(parking, [1, 9])
    put(parking, [1, 2, 3])
    assert len(parking) == 2
    assert parking.holds([1, 2], "")
    assert parking.holds([1, 9], "")


def test_the_least_recently_used_goes_when_the_limit_is_reached():
    parking = Parking(30, partial=True)
    for first in (1, 2, 3):
        put(parking, [first, 0])
    assert parking.holds([1, 0], "")
    put(parking, [4, 0])
    assert [found(parking, [first, 0]) for first in (1, 2, 3, 4)] == [2, 0, 2, 2]


def test_what_is_larger_than_all_there_is_throws_nothing_out():
    parking = Parking(30, partial=True)
    put(parking, [1, 0])
    assert not put(parking, [2, 0], size=31)
    assert found(parking, [1, 0]) == 2


def test_others_memory_is_left_to_them():
    parking = Parking(2**40, partial=True, available=lambda: RESERVE + 50 - parking.used)
    for first in range(9):
        put(parking, [first, 0])
    assert len(parking) == 5
    assert not put(parking, [99], size=60)


# ------------------------------------------------------------------------------ in the cache


@pytest.fixture
def cache() -> tuple[KvCache, FakeRuntime, Parking]:
    runtime, parking = FakeRuntime(cells=300, slots=3), Parking(4000, partial=True)
    return KvCache(runtime, parking), runtime, parking


def kept(kv: KvCache, runtime: FakeRuntime, tokens: list[int], prefix: Prefix | None = None) -> int:
    """An idle slot with these tokens."""
    slot = kv.acquire(tokens, "", prefix or Prefix())
    missing = tokens[kv.held(slot) :]
    assert kv.make_room(len(missing))
    runtime.decode([Chunk(slot, kv.held(slot), missing)])
    kv.grow(slot, len(missing))
    kv.retire(slot)
    return slot


def test_what_is_evicted_comes_back_from_where_it_was_parked(cache):
    kv, runtime, parking = cache
    kept(kv, runtime, [1] * 140)
    kept(kv, runtime, [2] * 140)
    assert kv.make_room(200)
    assert len(parking) == 2 or kv.slots[1] == 1
    prefix = kv.find([1] * 100 + [3], "", 100)
    assert (prefix.cells, prefix.slot) == (100, None)
    slot = kv.acquire([1] * 100 + [3], "", prefix)
    assert [token for _, token in runtime.cache[slot]] == [1] * 100
    # The rest of it may be of use to others.
    assert kv.find([1] * 140 + [3], "", 140).cells == 140
    kv.check()
    parking.check()


def test_a_state_that_went_back_as_a_whole_is_not_kept_twice(cache):
    kv, runtime, parking = cache
    kept(kv, runtime, [1] * 140)
    assert kv.evict_idle()
    assert parking.used == 4 * 140
    kv.acquire([1] * 140 + [2], "", kv.find([1] * 140 + [2], "", 140))
    assert parking.used == 0


def test_cells_that_can_be_shared_are_preferred(cache):
    kv, runtime, _ = cache
    kept(kv, runtime, [1] * 140)
    assert kv.evict_idle()
    slot = kept(kv, runtime, [1] * 120)
    prefix = kv.find([1] * 140, "", 139)
    assert (prefix.cells, prefix.slot) == (120, slot)


def test_a_state_without_room_for_all_of_it_stays_parked(cache):
    kv, runtime, parking = cache
    kept(kv, runtime, [1] * 200)
    assert kv.evict_idle()
    running = kv.acquire([2] * 150, "", Prefix())
    runtime.decode([Chunk(running, 0, [2] * 150)])
    kv.grow(running, 150)
    slot = kv.acquire([1] * 50 + [3], "", kv.find([1] * 50 + [3], "", 50))
    assert kv.held(slot) == 0
    assert parking.used == 800


def test_a_state_that_does_not_come_back_is_forgotten(cache):
    kv, runtime, parking = cache
    kept(kv, runtime, [1] * 140)
    assert kv.evict_idle()
    runtime.restores = False
    slot = kv.acquire([1] * 141, "", kv.find([1] * 141, "", 140))
    assert (kv.held(slot), len(parking)) == (0, 0)
    kv.check()


def test_idle_cells_are_shed_slot_by_slot(cache):
    kv, runtime, parking = cache
    kept(kv, runtime, [1] * 100)
    kept(kv, runtime, [2] * 100)
    kv.shed(300, 1)
    assert (kv.slots[1], len(parking)) == (1, 1)
    kv.shed(300, 1)
    assert (kv.slots[1], len(parking)) == (0, 2)


def test_as_many_are_shed_as_are_taken(cache):
    kv, runtime, _ = cache
    for token in (1, 2, 3):
        kept(kv, runtime, [token] * 60)
    kv.shed(300, 61)
    assert kv.slots[1] == 1


def test_in_idle_times_all_is_parked_for_which_there_is_room(cache):
    kv, runtime, parking = cache
    for token in (1, 2, 3):
        kept(kv, runtime, [token] * 90)
    # 4 bytes a token, so two and their heads fill it; what is parked is not dropped for it.
    parking._limit = 720 + 2 * 4 * 31
    assert rest(kv) == 2
    assert (kv.slots[1], len(parking)) == (1, 4)
    assert kv.find([3] * 91, "", 90).slot is not None


def rest(kv: KvCache) -> int:
    """As an engine without work does; how many turns that took."""
    turns = 0
    while kv.park_idle():
        turns += 1
        assert turns < 10, "no end"
    return turns


def test_after_a_rest_a_beginning_too_short_for_a_state_is_found(cache):
    kv, runtime, parking = cache
    for token in (2, 3):
        kept(kv, runtime, [1] * 20 + [token] * 70)
    assert rest(kv) == 2
    assert runtime.used == 0
    another = [1] * 20 + [4] * 50
    assert kv.find(another, "other", 69).cells == 0
    prefix = kv.find(another, "", 69)
    assert (prefix.cells, prefix.slot) == (20, None)
    slot = kv.acquire(another, "", prefix)
    assert [token for _, token in runtime.cache[slot]] == [1] * 20
    kv.retire(slot, keep=False)
    # The next one finds it as well, even one that has all of it.
    slot = kv.acquire([1] * 20 + [2] * 12, "", kv.find([1] * 20 + [2] * 12, "", 31))
    assert kv.held(slot) == 31
    kv.retire(slot, keep=False)
    assert kv.find([1] * 20 + [2, 4], "", 21).cells == 21
    kv.check()
    parking.check()


def test_what_a_few_tokens_cost_is_not_worth_a_head(cache):
    kv, runtime, _ = cache
    kept(kv, runtime, [1] * 4 + [2] * 86)
    rest(kv)
    assert kv.find([1] * 3 + [5] * 9, "", 11).cells == 0
    assert kv.find([1] * 4 + [5] * 9, "", 12).cells == 4


def test_from_some_length_on_the_state_itself_comes_back(cache):
    kv, runtime, parking = cache
    kept(kv, runtime, [1] * 90)
    rest(kv)
    for cells in (31, 32, 50):
        prefix = kv.find([1] * cells + [2], "", cells)
        assert prefix.cells == cells
        assert prefix.parked is not None
        assert len(parking._parked[prefix.parked].tokens) == (31 if cells == 31 else 90)


def test_one_head_is_enough_for_those_that_begin_alike(cache):
    kv, runtime, parking = cache
    for shared in (31, 29, 28, 27):
        kept(kv, runtime, [1] * shared + [shared] * 60)
        rest(kv)
    assert (len(parking._trees[HeadsOf("")]), len(parking)) == (2, 6)


def test_a_head_without_room_stays_in_its_cells(cache):
    kv, runtime, parking = cache
    kept(kv, runtime, [1] * 90)
    parking._limit = 4 * 90
    assert rest(kv) == 1
    assert (kv.slots[1], runtime.used, len(parking)) == (1, 31, 1)
    assert kv.find([1] * 20 + [2], "", 20).slot is not None
    # When there is room it follows.
    parking._limit = 4 * (90 + 31)
    assert rest(kv) == 1
    assert (runtime.used, len(parking)) == (0, 2)


@pytest.mark.parametrize("partial", [True, False])
def test_what_is_no_longer_than_a_head_is_parked_as_one(partial):
    runtime, parking = FakeRuntime(partial=partial), Parking(4000, partial=partial)
    kv = KvCache(runtime, parking)
    kept(kv, runtime, [1] * 20)
    assert rest(kv) == 1
    assert runtime.used == 0
    for _ in range(2):
        slot = kv.acquire([1] * 21, "", kv.find([1] * 21, "", 20))
        assert kv.held(slot) == 20
        kv.retire(slot, keep=False)


def test_a_state_that_cannot_be_cut_has_no_head():
    runtime, parking = FakeRuntime(partial=False), Parking(4000, partial=False)
    kv = KvCache(runtime, parking)
    kept(kv, runtime, [1] * 90)
    assert rest(kv) == 1
    assert (runtime.used, len(parking)) == (0, 1)


def test_what_somebody_needs_leaves_no_head(cache):
    kv, runtime, parking = cache
    kept(kv, runtime, [1] * 90)
    assert kv.evict_idle()
    assert len(parking) == 1
    assert kv.find([1] * 20 + [2], "", 20).cells == 0


def test_what_would_take_long_to_copy_stays(cache):
    kv, runtime, _ = cache
    kept(kv, runtime, [1] * 90)
    runtime.state_size = lambda slot: 2**30
    assert not kv.park_idle()


def test_nothing_parked_outlives_a_failure(cache):
    kv, runtime, parking = cache
    kept(kv, runtime, [1] * 100)
    kv.evict_idle()
    kv.reset()
    assert len(parking) == 0
    assert kv.find([1] * 100, "", 99) == Prefix()
