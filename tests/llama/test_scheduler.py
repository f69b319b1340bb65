"""The scheduler: an example of every rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.llama.kv.ledger import union
from services.llama.scheduler import (
    LEAST_PREFILL,
    Candidate,
    Limits,
    Work,
    choose_victim,
    make_place,
    make_room,
    share_batch,
    to_be_free,
)

LIMITS = Limits(
    cells=100,
    parallel=4,
    batch=32,
    outputs=8,
    prefill=24,
    busy_prefill=8,
    headroom=4,
    drafts=6,
)


def seq(number: int, length: int, cached: int, **fields) -> Candidate:
    """One that has cells of its own unless `spans` says otherwise."""
    fields.setdefault("limit", 100)
    fields.setdefault("spans", ((number, cached),) if cached else ())
    fields["paused"] = fields.get("paused", False) or fields.get("stalled", False)
    return Candidate(number, length, cached, **fields)


# ------------------------------------------------------------------ 1: decodes and their cells


def test_nothing_to_do():
    assert make_room([], LIMITS) == ()
    assert share_batch([], LIMITS) == ()


def test_every_sequence_that_decodes_does_so():
    running = [seq(0, 11, 10), seq(1, 6, 5), seq(2, 40, 0)]
    assert share_batch(running, LIMITS)[:2] == (Work(0, 1), Work(1, 1))


def test_a_prompt_of_one_token_is_a_decode():
    assert share_batch([seq(0, 1, 0)], LIMITS) == (Work(0, 1),)


def test_nobody_gives_way_while_there_are_cells():
    assert make_room([seq(0, 50, 49), seq(1, 50, 49)], LIMITS) == ()


def test_the_youngest_gives_way():
    running = [seq(0, 50, 49), seq(1, 27, 26), seq(2, 26, 25)]
    assert make_room(running, LIMITS) == (2,)


def test_the_lowest_priority_gives_way_before_the_youngest():
    running = [seq(0, 50, 49), seq(1, 27, 26, priority=-1), seq(2, 26, 25)]
    assert make_room(running, LIMITS) == (1,)


def test_one_whose_reader_does_not_read_gives_way_first():
    running = [seq(0, 50, 49, paused=True, priority=3), seq(1, 27, 26, priority=-1), seq(2, 26, 25)]
    assert make_room(running, LIMITS) == (0,)


def test_as_many_give_way_as_needed():
    running = [seq(0, 81, 80), seq(1, 11, 10), seq(2, 6, 5), seq(3, 6, 5)]
    # The last one's five cells are enough for the three that are left.
    assert make_room(running, LIMITS) == (3,)
    assert make_room([*running, seq(4, 1, 0)], replace(LIMITS, cells=99)) == (4, 3)


def test_shared_cells_count_once_and_giving_them_up_frees_nothing():
    common = (7, 60)
    running = [
        seq(0, 80, 79, spans=(common, (0, 19))),
        seq(1, 81, 80, spans=(common, (1, 20))),
    ]
    assert union(c.spans for c in running) == 99
    assert make_room(running, LIMITS) == (1,)
    assert make_room(running, replace(LIMITS, cells=101)) == ()


def test_two_half_prefilled_prompts_cannot_block_each_other():
    assert make_room([seq(0, 80, 50), seq(1, 80, 50)], LIMITS) == (1,)


def test_prefill_of_the_highest_priority_advances_beside_decodes_that_take_every_cell():
    running = [seq(0, 50, 49), seq(1, 80, 50, priority=1)]
    assert make_room(running, LIMITS) == (0,)


def test_a_prompt_needs_one_free_cell_to_advance():
    sleeps = seq(1, 50, 49, paused=True)
    assert make_room([seq(0, 52, 50), sleeps], LIMITS) == ()
    assert make_room([seq(0, 53, 51), sleeps], LIMITS) == (1,)


def test_nobody_is_a_victim_alone():
    assert choose_victim([seq(0, 5, 4)]) is None
    assert make_room([seq(0, 101, 100)], LIMITS) == ()


def test_where_all_readers_sleep_nobody_must_give_way():
    running = [seq(0, 51, 50, paused=True), seq(1, 51, 50, paused=True)]
    assert make_room(running, LIMITS) == ()
    assert share_batch(running, LIMITS) == ()


def test_fewer_idle_cells_are_kept_the_more_run():
    running = [seq(0, 11, 10), seq(1, 21, 20)]
    limits = replace(LIMITS, kept=30)
    assert to_be_free(running[:1], limits) == 100 - 10 - 30
    assert to_be_free(running, limits) == 100 - 30 - 15
    assert to_be_free([], limits) == to_be_free(running, LIMITS) == 0


# --------------------------------------------------------------------------------- 2: prefill


def test_prefill_has_a_small_budget_beside_decodes_and_a_large_one_alone():
    assert share_batch([seq(0, 11, 10), seq(1, 40, 0)], LIMITS) == (Work(0, 1), Work(1, 8))
    assert share_batch([seq(1, 40, 0)], LIMITS) == (Work(1, 24),)
    assert share_batch([seq(1, 40, 0)], replace(LIMITS, batch=10)) == (Work(1, 10),)


def test_prefill_has_more_when_more_wait_for_it_than_decode():
    decode, prompts = seq(0, 11, 10), [seq(i, 40, 0) for i in range(1, 5)]
    taken = [
        sum(work.count for work in share_batch([decode, *prompts[:many]], LIMITS)) - 1
        for many in range(1, 5)
    ]
    assert taken == [8, 16, 16, 16]
    two = [seq(8, 11, 10), seq(9, 11, 10)]
    assert sum(work.count for work in share_batch([*two, *prompts[:3]], LIMITS)) - 2 == 12


def test_a_prompt_that_is_far_on_gets_fewer_beside_decodes():
    limits = replace(LIMITS, cells=9_000, batch=1024, prefill=400, busy_prefill=300, deep=1000)
    decode = seq(0, 11, 10)
    for cached, count in (
        (0, 300),
        (500, 200),
        (1000, 150),
        (2000, 100),
        (8000, LEAST_PREFILL + 1),
    ):
        assert share_batch([decode, seq(1, 8_990, cached)], limits)[1] == Work(1, count)
    # No fewer than cost little less, and no more than the budget where that is small.
    for most, count in ((100, LEAST_PREFILL), (20, 20)):
        narrow = replace(limits, busy_prefill=most)
        assert share_batch([decode, seq(1, 8_990, 8000)], narrow)[1] == Work(1, count)
    assert share_batch([seq(1, 8_990, 8000)], limits) == (Work(1, 400),)
    # Half of the time is the oldest's, half the other's.
    both = [decode, seq(1, 8_990, 2000), seq(2, 8_980, 0)]
    assert share_batch(both, limits)[1:] == (Work(1, 100), Work(2, 300))


def test_half_is_the_oldests_and_the_rest_the_soonest_to_finish():
    running = [seq(0, 60, 0), seq(1, 20, 0), seq(2, 6, 0)]
    assert share_batch(running, LIMITS) == (Work(0, 12), Work(1, 6), Work(2, 6))


def test_what_the_others_leave_is_the_oldests():
    assert share_batch([seq(0, 60, 0), seq(1, 4, 0)], LIMITS) == (Work(0, 20), Work(1, 4))


def test_the_oldest_is_that_of_the_highest_priority():
    running = [seq(0, 60, 0), seq(1, 50, 0, priority=1)]
    assert share_batch(running, LIMITS) == (Work(1, 12), Work(0, 12))


def test_prefill_takes_no_more_cells_than_there_are():
    running = [seq(0, 90, 80), seq(1, 20, 12)]
    assert share_batch(running, LIMITS) == (Work(0, 4), Work(1, 4))


def test_rows_bound_prefill_whose_logits_are_wanted():
    running = [seq(0, 20, 0, rows_from=0), seq(1, 11, 10)]
    assert share_batch(running, LIMITS) == (Work(1, 1), Work(0, 7))
    # Those before the first row cost none.
    assert share_batch([seq(0, 40, 0, rows_from=10)], LIMITS) == (Work(0, 18),)


def test_the_last_token_alone_gives_a_row_where_no_other_is_wanted():
    assert [seq(0, 20, 5).outputs(count) for count in (14, 15)] == [0, 1]
    assert [seq(0, 20, 5, rows_from=0).outputs(count) for count in (0, 15)] == [0, 15]


def test_a_prompt_without_a_row_stops_before_its_last_token():
    running = [seq(0, 20, 0, rows_from=0), seq(1, 6, 0)]
    assert share_batch(running, LIMITS) == (Work(0, 8), Work(1, 5))


# ---------------------------------------------------------------------------------- 3: drafts


def test_drafts_take_what_is_left_in_even_shares():
    running = [seq(0, 11, 10, draft=9), seq(1, 11, 10, draft=1), seq(2, 11, 10, draft=9)]
    # Rows: three decodes and three drafts.
    assert share_batch(running, LIMITS) == (Work(0, 1, 1), Work(1, 1, 1), Work(2, 1, 1))
    assert share_batch(running[1:], LIMITS) == (Work(1, 1, 1), Work(2, 1, 3))
    assert share_batch(running[:1], LIMITS) == (Work(0, 1, 5),)


def test_who_drafts_gets_the_rows_of_who_does_not():
    running = [seq(0, 11, 10, draft=9), seq(1, 11, 10), seq(2, 11, 10, draft=1)]
    works = share_batch(running, replace(LIMITS, outputs=32, drafts=16))
    assert works == (Work(0, 1, 9), Work(1, 1, 0), Work(2, 1, 1))


@pytest.mark.parametrize(
    ("decodes", "drafted", "taken"),
    # Rows of 4: 5 and 6 are cut to 4, 7 is nearly 8; 2 and 3 have no tile before them.
    [(1, 1, 1), (1, 2, 2), (1, 4, 3), (1, 5, 3), (1, 6, 6), (4, 2, 0), (4, 3, 3), (5, 1, 1)],
)
def test_drafts_begin_no_tile_that_they_do_not_half_fill(decodes, drafted, taken):
    running = [seq(0, 11, 10, draft=drafted), *(seq(i, 11, 10) for i in range(1, decodes))]
    limits = replace(LIMITS, outputs=32, drafts=16, tile=4)
    assert share_batch(running, limits)[0].draft == taken
    assert share_batch(running, replace(limits, tile=1))[0].draft == drafted


def test_many_decodes_leave_no_row_to_drafts():
    running = [seq(i, 6, 5, draft=4) for i in range(4)]
    assert share_batch(running, replace(LIMITS, drafts=4)) == tuple(Work(i, 1) for i in range(4))


def test_drafts_leave_the_batch_and_the_cells_to_prefill():
    running = [seq(0, 11, 10, draft=9), seq(1, 40, 0)]
    assert share_batch(running, replace(LIMITS, batch=10)) == (Work(0, 1, 1), Work(1, 8))
    running = [seq(0, 92, 91, draft=9), seq(1, 40, 0)]
    assert share_batch(running, LIMITS) == (Work(0, 1), Work(1, 8))


def test_drafts_leave_the_rows_to_prefill():
    running = [seq(0, 11, 10, draft=9), seq(1, 40, 0, rows_from=0)]
    assert share_batch(running, replace(LIMITS, busy_prefill=6)) == (Work(0, 1, 1), Work(1, 6))
    assert share_batch(running, LIMITS) == (Work(0, 1), Work(1, 7))


# ------------------------------------------------------------------- 4 and 5: who is let in


def test_alone_it_may_use_every_cell():
    assert make_place([], seq(0, 100, 0), LIMITS) == ()


def test_it_must_fit_beside_what_those_that_run_still_need():
    running = [seq(0, 70, 20)]
    # 70 known and 4 to generate; 26 left, of which 4 are for its own text.
    assert make_place(running, seq(1, 22, 0), LIMITS) == ()
    assert make_place(running, seq(1, 23, 0), LIMITS) is None


def test_no_room_is_left_for_what_cannot_be_generated():
    running = [seq(0, 50, 49, limit=50)]
    assert make_place(running, seq(1, 50, 0, limit=50), LIMITS) == ()


def test_cells_that_it_shares_are_not_needed_twice():
    running = [seq(0, 60, 59, limit=60)]
    shared = seq(1, 95, 55, limit=95, spans=((0, 55),))
    assert make_place(running, seq(1, 95, 0, limit=95), LIMITS) is None
    assert make_place(running, shared, LIMITS) == ()


def test_no_more_than_parallel_run():
    running = [seq(i, 2, 1) for i in range(4)]
    assert make_place(running, seq(4, 2, 0), LIMITS) is None


def test_stalled_ones_give_their_place_up_youngest_first():
    running = [seq(i, 11, 10, stalled=i < 2) for i in range(4)]
    assert make_place(running, seq(4, 3, 0), LIMITS) == (1,)
    running = [seq(i, 31, 30, limit=31, stalled=True) for i in range(3)]
    assert make_place(running, seq(3, 50, 0, limit=50), LIMITS) == (2, 1)


def test_the_older_of_two_stalled_ones_goes_only_after_the_younger():
    running = [
        seq(0, 61, 60, limit=61, stalled=True),
        seq(1, 11, 10, limit=11, stalled=True),
    ]
    assert make_place(running, seq(2, 50, 0, limit=50), LIMITS) == (1, 0)


def test_one_that_is_only_paused_keeps_its_place():
    running = [seq(i, 11, 10, paused=True) for i in range(4)]
    assert make_place(running, seq(4, 3, 0), LIMITS) is None


def test_a_stalled_one_stays_where_its_going_would_not_help_or_is_not_needed():
    running = [seq(0, 90, 89, limit=90), seq(1, 6, 5, limit=6, stalled=True)]
    assert make_place(running, seq(2, 50, 0), LIMITS) is None
    assert make_place(running[1:], seq(2, 50, 0), LIMITS) == ()
