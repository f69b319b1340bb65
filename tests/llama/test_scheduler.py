"""The scheduler: an example of every rule, what holds of every situation, and whole lives."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.llama.kv.ledger import union
from services.llama.scheduler import (
    Candidate,
    Limits,
    Work,
    choose_victim,
    make_place,
    make_room,
    share_batch,
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


def test_nobody_is_a_victim_alone():
    assert choose_victim([seq(0, 5, 4)]) is None
    assert make_room([seq(0, 101, 100)], LIMITS) == ()


def test_where_all_readers_sleep_nobody_must_give_way():
    running = [seq(0, 51, 50, paused=True), seq(1, 51, 50, paused=True)]
    assert make_room(running, LIMITS) == ()
    assert share_batch(running, LIMITS) == ()


# --------------------------------------------------------------------------------- 2: prefill


def test_prefill_has_a_small_budget_beside_decodes_and_a_large_one_alone():
    assert share_batch([seq(0, 11, 10), seq(1, 40, 0)], LIMITS) == (Work(0, 1), Work(1, 8))
    assert share_batch([seq(1, 40, 0)], LIMITS) == (Work(1, 24),)
    assert share_batch([seq(1, 40, 0)], replace(LIMITS, batch=10)) == (Work(1, 10),)


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


def test_one_that_is_only_paused_keeps_its_place():
    running = [seq(i, 11, 10, paused=True) for i in range(4)]
    assert make_place(running, seq(4, 3, 0), LIMITS) is None


def test_a_stalled_one_stays_where_its_going_would_not_help_or_is_not_needed():
    running = [seq(0, 90, 89, limit=90), seq(1, 6, 5, limit=6, stalled=True)]
    assert make_place(running, seq(2, 50, 0), LIMITS) is None
    assert make_place(running[1:], seq(2, 50, 0), LIMITS) == ()


# --------------------------------------------------------------------- of every situation


@st.composite
def all_limits(draw):
    parallel = draw(st.integers(1, 6))
    return Limits(
        cells=draw(st.integers(8, 60)),
        parallel=parallel,
        batch=draw(st.integers(parallel, 40)),
        outputs=draw(st.integers(parallel, 12)),
        prefill=draw(st.integers(1, 40)),
        busy_prefill=draw(st.integers(1, 40)),
        headroom=draw(st.integers(0, 20)),
        drafts=draw(st.integers(0, 12)),
    )


@st.composite
def situations(draw):
    """Sequences that may share the cells of one prefix, within the cells that there are."""
    limits = draw(all_limits())
    common = draw(st.integers(0, limits.cells // 2))
    free, running = limits.cells - common, []
    for number in range(draw(st.integers(0, limits.parallel))):
        shared = draw(st.integers(0, common))
        most = min(free, limits.cells - 1 - shared)
        own = draw(st.integers(0, most)) if most > 0 else 0
        if shared < common and own and draw(st.booleans()):
            shared = common if common + own < limits.cells else shared
        cached = shared + own
        length = draw(
            st.one_of(st.just(cached + 1), st.integers(cached + 1, limits.cells)),
        )
        free -= own
        spans = tuple((n, k) for n, k in ((-1, shared), (number, own)) if k)
        paused = draw(st.integers(0, 3)) == 0
        running.append(
            Candidate(
                number,
                length,
                cached,
                limit=draw(st.integers(length, limits.cells)),
                spans=spans,
                priority=draw(st.integers(-1, 1)),
                draft=draw(st.integers(0, 8)) if length == cached + 1 else 0,
                rows_from=draw(st.none() | st.integers(0, length - 1)),
                paused=paused,
                stalled=paused and draw(st.booleans()),
            )
        )
    return running, limits


@settings(max_examples=200, deadline=None)
@given(situations())
def test_a_batch_fits_and_serves_everyone_in_order(situation):
    running, limits = situation
    victims = make_room(running, limits)
    kept = [c for c in running if c.id not in victims]
    by_id = {c.id: c for c in kept}
    work = share_batch(kept, limits)

    assert len({item.id for item in work}) == len(work)
    assert all(1 <= item.count <= by_id[item.id].pending for item in work)
    assert all(0 <= item.draft <= by_id[item.id].draft for item in work)
    assert not any(by_id[item.id].paused for item in work)
    total = sum(item.count + item.draft for item in work)
    assert total <= limits.batch
    assert union(c.spans for c in kept) + total <= limits.cells
    assert sum(by_id[i.id].outputs(i.count) + i.draft for i in work) <= limits.outputs

    runnable = [c for c in kept if not c.paused]
    decodes = {c.id for c in runnable if c.pending == 1}
    counts = {item.id: item.count for item in work}
    assert all(counts.get(number) == 1 for number in decodes)
    prefill = sum(count for number, count in counts.items() if number not in decodes)
    assert prefill <= (limits.busy_prefill if decodes else limits.prefill)

    drafts = sum(item.draft for item in work)
    if drafts:
        assert len(decodes) + drafts <= limits.drafts
        assert all(item.id in decodes for item in work if item.draft)
        # Who guesses nothing has nothing to do with what the others guess.
        plain = share_batch([replace(c, draft=0) for c in kept], limits)
        assert {item.id: item.count for item in plain} == counts


@settings(max_examples=200, deadline=None)
@given(situations())
def test_the_oldest_of_the_highest_priority_always_advances(situation):
    running, limits = situation
    runnable = [c for c in running if not c.paused]
    if not runnable:
        assert make_room(running, limits) == ()
        return
    first = min(runnable, key=lambda c: (-c.priority, c.id))
    victims = make_room(running, limits)
    assert first.id not in victims
    work = share_batch([c for c in running if c.id not in victims], limits)
    assert first.id in {item.id for item in work}


@settings(deadline=None)
@given(situations())
def test_who_gives_way_is_worth_less_than_who_stays_and_no_more_do_than_needed(situation):
    running, limits = situation
    victims = make_room(running, limits)
    worth = {c.id: (not c.paused, c.priority, -c.id) for c in running}
    kept = [c for c in running if c.id not in victims]
    assert all(worth[gone] < worth[c.id] for gone in victims for c in kept)
    for count in range(len(victims)):
        fewer = [c for c in running if c.id not in victims[:count]]
        decodes = sum(c.pending == 1 and not c.paused for c in fewer)
        assert union(c.spans for c in fewer) + decodes + 1 > limits.cells


@settings(deadline=None)
@given(situations(), st.data())
def test_a_place_is_made_by_as_few_stalled_ones_as_that_takes(situation, data):
    running, limits = situation
    length = data.draw(st.integers(1, limits.cells))
    newcomer = Candidate(99, length, 0, data.draw(st.integers(length, limits.cells)))

    def needed(c: Candidate) -> int:
        end: int = min(c.length + limits.headroom, c.limit)
        return end - c.cached

    def fits(others: list[Candidate]) -> bool:
        together = union(c.spans for c in others) + sum(map(needed, [*others, newcomer]))
        return not others or (len(others) < limits.parallel and together <= limits.cells)

    gone = make_place(running, newcomer, limits)
    stalled = [c for c in running if c.stalled]
    stalled.sort(key=lambda c: (c.priority, -c.id))
    if gone is None:
        assert not fits([c for c in running if not c.stalled])
        return
    assert gone == tuple(c.id for c in stalled[: len(gone)])
    assert fits([c for c in running if c.id not in gone])
    for count in range(len(gone)):
        assert not fits([c for c in running if c.id not in gone[:count]])


# ------------------------------------------------------------------------------ whole lives


class Lives:
    """Carries out what the scheduler decides; nobody shares cells, readers come and go."""

    def __init__(self, jobs: list[tuple[int, int]], limits: Limits, random: Random) -> None:
        self.limits, self.random = limits, random
        self.running: dict[int, Candidate] = {}
        self.waiting = {}
        for number, (wanted, priority) in enumerate(jobs):
            length = min(wanted, limits.cells)
            limit = random.randint(length, limits.cells)
            self.waiting[number] = Candidate(number, length, 0, limit, priority=priority)

    def step(self) -> None:
        for number, c in self.running.items():
            paused = self.random.random() < 0.3
            stalled = paused and self.random.random() < 0.3
            draft = self.random.randint(0, min(4, c.limit - c.length)) if c.pending == 1 else 0
            self.running[number] = replace(c, paused=paused, stalled=stalled, draft=draft)
        victims = make_room(list(self.running.values()), self.limits)
        for number in victims:
            self.leave(number)
        if not victims:
            self.let_in()
        for item in share_batch(list(self.running.values()), self.limits):
            self.evaluate(item)
        assert len(self.running) <= self.limits.parallel
        assert union(c.spans for c in self.running.values()) <= self.limits.cells

    def leave(self, number: int) -> None:
        gone = self.running.pop(number)
        self.waiting[number] = replace(gone, cached=0, spans=(), paused=False, stalled=False)

    def let_in(self) -> None:
        for c in sorted(self.waiting.values(), key=lambda c: (-c.priority, c.id)):
            gone = make_place(list(self.running.values()), c, self.limits)
            if gone is None:
                return
            for number in gone:
                self.leave(number)
            self.running[c.id] = self.waiting.pop(c.id)

    def evaluate(self, item: Work) -> None:
        old = self.running[item.id]
        cached, length = old.cached + item.count, old.length
        if cached == length:
            accepted = self.random.randint(0, item.draft)
            cached, length = cached + accepted, length + accepted + 1
        if length > old.limit:
            del self.running[item.id]
        else:
            spans = ((item.id, cached),)
            self.running[item.id] = replace(old, cached=cached, length=length, spans=spans)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(-1, 1)), min_size=1, max_size=12),
    all_limits(),
    st.randoms(use_true_random=False),
)
def test_everything_ends_whatever_the_cache(jobs, limits, random):
    lives = Lives(jobs, limits, random)
    for _ in range(3000):
        if not lives.running and not lives.waiting:
            return
        lives.step()
    raise AssertionError(f"stuck with {lives.running} and {lives.waiting}")
