from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.llama.scheduler import (
    Candidate,
    Limits,
    Plan,
    Work,
    choose_victim,
    plan_step,
)

LIMITS = Limits(cells=100, slots=4, batch=32, busy_prefill=8, headroom=4)


def seq(
    number: int,
    length: int,
    cached: int,
    *,
    limit: int = 100,
    paused: bool = False,
    stalled: bool = False,
) -> Candidate:
    return Candidate(number, length, cached, limit, paused or stalled, stalled)


def test_nothing_to_do():
    assert plan_step([], [], LIMITS) == Plan()


def test_all_decodes_come_before_prefill():
    plan = plan_step([seq(0, 40, 0), seq(1, 11, 10), seq(2, 6, 5)], [], LIMITS)
    assert plan.work == (Work(1, 1), Work(2, 1), Work(0, 8))


def test_prefill_takes_the_whole_batch_when_nobody_decodes():
    plan = plan_step([seq(0, 20, 0), seq(1, 40, 0)], [], LIMITS)
    assert plan.work == (Work(0, 20), Work(1, 12))


def test_a_new_sequence_starts_in_the_step_that_admits_it():
    plan = plan_step([], [seq(0, 5, 0)], LIMITS)
    assert plan == Plan(admit=(0,), work=(Work(0, 5),))


def test_admission_keeps_the_order_of_arrival():
    waiting = [seq(2, 1, 0), seq(0, 90, 0), seq(1, 50, 0)]
    assert plan_step([], waiting, LIMITS).admit == (0,)


def test_admission_counts_what_running_prompts_still_need():
    assert plan_step([seq(0, 80, 8)], [seq(1, 30, 0)], LIMITS).admit == ()
    assert plan_step([seq(0, 40, 8)], [seq(1, 30, 0)], LIMITS).admit == (1,)


def test_admission_leaves_no_more_room_than_can_be_used():
    running = [seq(0, 50, 49, limit=50)]
    assert plan_step(running, [seq(1, 50, 0, limit=50)], LIMITS).admit == (1,)


def test_one_that_fills_the_cache_is_admitted_alone():
    assert plan_step([], [seq(0, 100, 0), seq(1, 1, 0)], LIMITS).admit == (0,)


def test_admission_stops_at_the_slots():
    waiting = [seq(i, 2, 0) for i in range(6)]
    assert plan_step([], waiting, LIMITS).admit == (0, 1, 2, 3)


def test_the_youngest_gives_its_cells_up_and_nobody_is_admitted():
    running = [seq(0, 50, 49), seq(1, 27, 26), seq(2, 26, 25)]
    plan = plan_step(running, [seq(3, 1, 0)], LIMITS)
    assert plan == Plan(preempt=(2,), work=(Work(0, 1), Work(1, 1)))


def test_one_whose_reader_sleeps_gives_up_before_the_youngest():
    running = [seq(0, 50, 49), seq(1, 27, 26, paused=True), seq(2, 26, 25)]
    assert plan_step(running, [], LIMITS).preempt == (1,)


def test_two_half_prefilled_prompts_cannot_block_each_other():
    plan = plan_step([seq(0, 80, 50), seq(1, 80, 50)], [], LIMITS)
    assert plan == Plan(preempt=(1,), work=(Work(0, 30),))


def test_a_paused_sequence_does_nothing_and_keeps_its_cells():
    plan = plan_step([seq(0, 11, 10, paused=True), seq(1, 6, 5)], [], LIMITS)
    assert plan == Plan(work=(Work(1, 1),))


def test_one_that_waits_and_is_paused_lets_the_others_pass():
    waiting = [seq(0, 90, 0, paused=True), seq(1, 50, 0)]
    assert plan_step([], waiting, LIMITS).admit == (1,)
    assert plan_step([], waiting[:1], LIMITS) == Plan()


def test_a_stalled_sequence_gives_its_slot_to_one_that_waits():
    running = [seq(i, 11, 10, stalled=i < 2) for i in range(4)]
    plan = plan_step(running, [seq(4, 3, 0)], LIMITS)
    assert plan == Plan(preempt=(1,), admit=(4,), work=(Work(2, 1), Work(3, 1), Work(4, 3)))


def test_as_many_stalled_sequences_give_way_as_one_that_waits_needs():
    running = [seq(i, 31, 30, limit=31, stalled=True) for i in range(3)]
    assert plan_step(running, [seq(3, 50, 0, limit=50)], LIMITS).preempt == (2, 1)


def test_a_stalled_sequence_stays_where_its_going_would_not_help():
    running = [seq(0, 90, 89, limit=90), seq(1, 6, 5, limit=6, stalled=True)]
    assert plan_step(running, [seq(2, 50, 0)], LIMITS) == Plan(work=(Work(0, 1),))


def test_a_stalled_sequence_stays_while_there_is_place():
    plan = plan_step([seq(0, 6, 5, stalled=True)], [seq(1, 5, 0)], LIMITS)
    assert plan == Plan(admit=(1,), work=(Work(1, 5),))


def test_nobody_is_a_victim_alone():
    assert choose_victim([seq(0, 5, 4)]) is None


@st.composite
def situations(draw):
    slots = draw(st.integers(1, 6))
    cells = draw(st.integers(8, 60))
    limits = Limits(
        cells=cells,
        slots=slots,
        batch=draw(st.integers(slots, 40)),
        busy_prefill=draw(st.integers(1, 40)),
        headroom=draw(st.integers(0, 20)),
    )
    running, waiting, free = [], [], cells
    for number in range(draw(st.integers(0, slots))):
        length = draw(st.integers(1, cells))
        cached = draw(st.integers(0, min(length - 1, free)))
        free -= cached
        limit = draw(st.integers(length, cells))
        paused = draw(st.booleans())
        stalled = paused and draw(st.booleans())
        running.append(Candidate(number, length, cached, limit, paused, stalled))
    for number in range(100, 100 + draw(st.integers(0, 4))):
        length = draw(st.integers(1, cells))
        limit = draw(st.integers(length, cells))
        waiting.append(Candidate(number, length, 0, limit, draw(st.booleans())))
    return running, waiting, limits


@given(situations())
def test_every_plan_fits_and_makes_progress(situation):
    running, waiting, limits = situation
    plan = plan_step(running, waiting, limits)
    by_id = {c.id: c for c in [*running, *waiting]}
    kept = [c for c in running if c.id not in plan.preempt]
    counts = {work.id: work.count for work in plan.work}

    assert set(plan.preempt) <= {c.id for c in running}
    assert set(plan.admit) <= {c.id for c in waiting}
    assert len(counts) == len(plan.work)
    assert set(counts) <= {c.id for c in kept} | set(plan.admit)
    assert len(kept) + len(plan.admit) <= limits.slots
    assert sum(counts.values()) <= limits.batch
    assert sum(c.cached for c in kept) + sum(counts.values()) <= limits.cells
    for number, count in counts.items():
        assert 1 <= count <= by_id[number].pending
        assert not by_id[number].paused

    decodes = [c for c in kept if c.pending == 1 and not c.paused]
    assert all(counts[c.id] == 1 for c in decodes)
    runnable = [c for c in running if not c.paused]
    if runnable:
        oldest = min(runnable, key=lambda c: c.id)
        assert oldest.id not in plan.preempt
    ready = [c for c in waiting if not c.paused]
    assert set(plan.admit) <= {c.id for c in ready}
    # Those that stalled can keep nobody out.
    if any(not c.paused for c in kept) or (ready and all(c.stalled for c in running)):
        assert plan.work
    if decodes:
        prefill = sum(n for number, n in counts.items() if by_id[number].pending > 1)
        assert prefill <= limits.busy_prefill


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.data())
def test_everything_ends_whatever_the_cache(lengths, data):
    """Simulates whole lives: prompts of these lengths that each want to generate some tokens."""
    limits = Limits(
        cells=40, slots=4, batch=8, busy_prefill=3, headroom=data.draw(st.integers(0, 9))
    )
    waiting = {
        number: Candidate(number, length, 0, data.draw(st.integers(length, 40)))
        for number, length in enumerate(lengths)
    }
    running: dict[int, Candidate] = {}
    for _ in range(5000):
        if not waiting and not running:
            return
        plan = plan_step(list(running.values()), list(waiting.values()), limits)
        for number in plan.preempt:
            victim = running.pop(number)
            waiting[number] = Candidate(number, victim.length, 0, victim.limit)
        for number in plan.admit:
            running[number] = waiting.pop(number)
        for work in plan.work:
            old = running[work.id]
            cached = old.cached + work.count
            if cached < old.length:
                running[work.id] = Candidate(old.id, old.length, cached, old.limit)
            elif old.length < old.limit:
                running[work.id] = Candidate(old.id, old.length + 1, cached, old.limit)
            else:
                del running[work.id]
    raise AssertionError(f"stuck with {running} and {waiting}")
