"""The scheduler: what holds of every situation, and whole lives."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.llama.kv.ledger import union
from services.llama.scheduler import (
    LEAST_PREFILL,
    Candidate,
    Limits,
    Work,
    make_place,
    make_room,
    share_batch,
)


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
        tile=draw(st.sampled_from([1, 4])),
        deep=draw(st.sampled_from([0, 5, 100])),
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


@settings(max_examples=200)
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
    most = limits.prefill
    if decodes:
        waiting = len(runnable) - len(decodes)
        most = int(limits.busy_prefill * min(2.0, max(1.0, waiting / len(decodes))))
    assert prefill <= most
    if decodes and limits.deep:
        # Nor do they take longer than so many at the beginning, but for the oldest's least.
        prompts = [(by_id[n], count) for n, count in counts.items() if n not in decodes]
        takes = [count * (1 + c.cached / limits.deep) for c, count in prompts]
        assert sum(takes) <= most or (len(prompts) == 1 and prefill <= LEAST_PREFILL)

    drafts = sum(item.draft for item in work)
    if drafts:
        assert len(decodes) + drafts <= limits.drafts
        assert all(item.id in decodes for item in work if item.draft)
        # Who guesses nothing has nothing to do with what the others guess.
        plain = share_batch([replace(c, draft=0) for c in kept], limits)
        assert {item.id: item.count for item in plain} == counts
        # No row is wasted on the beginning of a tile that was whole before it.
        begun = (len(decodes) + drafts) % limits.tile
        assert prefill or begun > limits.tile // 2 or drafts < begun or begun == 0


@settings(max_examples=200)
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


@settings(max_examples=30)
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
