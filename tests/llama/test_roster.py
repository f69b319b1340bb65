"""Who runs and who waits, step by step: a roster over a fake runtime, without thread and loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.llama.interface import NoRoomError
from services.llama.job import Job, OutputParams
from services.llama.load import Meter, Metrics
from services.llama.lookup import SpeculationParams
from services.llama.roster import Planned, Roster
from services.llama.scheduler import Limits, Work
from services.llama.sequence import Sequence
from services.llama.stream import Stream
from tests.llama.engine_kit import job
from tests.llama.fake_runtime import BOS, FakeRuntime

SYSTEM = "You are a camel. You know the desert and every well in it. "


class Steps:
    """Does what the engine does in a step."""

    def __init__(self, runtime: FakeRuntime, **limits: int) -> None:
        self.runtime = runtime
        numbers = {
            "parallel": 8,
            "batch": runtime.batch_size,
            "outputs": runtime.outputs,
            "prefill": 512,
            "busy_prefill": 256,
            "headroom": 4,
            "drafts": 16,
            **limits,
        }
        self.limits = Limits(cells=runtime.cells, **numbers)
        self.roster = Roster(runtime, self.limits, Meter(runtime.cells, Metrics()))
        self.now = 1.0
        self.next_id = 0

    def add(self, one: Job, context: int = 1024) -> Sequence:
        sequence = Sequence(one, Stream(lambda: None), self.runtime.vocabulary, context)
        sequence.id, sequence.timings.arrived = self.next_id, self.now
        self.next_id += 1
        self.roster.add(sequence)
        return sequence

    def step(self) -> Planned:
        self.now += 1.0
        work = self.roster.plan(self.now)
        if not work:
            return work
        chunks = [sequence.chunk(item.count, item.draft) for sequence, item in work]
        try:
            rows = self.runtime.decode(chunks)
        except NoRoomError:
            assert not self.roster.give_way(work, self.now)
            return []
        self.roster.evaluated(work)
        for (sequence, item), logits in zip(work, rows, strict=True):
            known = len(sequence.tokens)
            delta = sequence.take(logits, item.count, self.now)
            self.roster.sampled(sequence, item, known)
            if delta is not None and delta.ended is not None:
                self.roster.retire(sequence)
        self.roster.kv.check()
        return work

    def until_all_ended(self, most: int = 500) -> None:
        for _ in range(most):
            if not self.roster.everyone():
                return
            self.step()
        raise AssertionError(f"not ended: {self.roster.everyone()}")


def test_drafts_fit_beside_prompt_logprobs():
    runtime = FakeRuntime(outputs=12)
    steps = Steps(runtime, parallel=4)
    for seed in range(2):
        speculation = SpeculationParams(max_ngram=1)
        steps.add(replace(job("abab" * 9, tokens=20, seed=seed), speculation=speculation))
    steps.step()
    steps.add(job(SYSTEM * 3, tokens=2, output=OutputParams(prompt_logprobs=True)))
    steps.until_all_ended()


def test_a_long_tail_of_one_that_must_wait_does_not_hold_up_a_higher_priority():
    """The maker of a prefix may be starved by others; who is more important does not wait."""
    steps = Steps(FakeRuntime(batch_size=32), prefill=16, busy_prefill=16)
    steps.add(job(SYSTEM * 2 + "low", priority=0))
    steps.step()
    same = steps.add(job(SYSTEM * 2 + "same", priority=0))
    high = steps.add(job(SYSTEM * 2 + "high", priority=1))
    steps.step()
    assert high.id in steps.roster.running
    assert same.id in steps.roster.waiting


@pytest.mark.parametrize("paused", [False, True])
def test_over_a_recurrent_model_nobody_waits_for_cells_it_cannot_have(paused: bool):
    steps = Steps(FakeRuntime(partial=False))
    first = steps.add(job(SYSTEM + "one", tokens=200))
    steps.step()
    if paused:
        first.paused_since = steps.now
    second = steps.add(job(SYSTEM + "two", tokens=5))
    steps.step()
    assert second.id in steps.roster.running


class Cramped(FakeRuntime):
    """Has less room than it says when several want some."""

    def decode(self, chunks: Any) -> Any:
        if len(chunks) > 1 or len([1 for cells in self.cache.values() if cells]) > 1:
            raise NoRoomError
        return super().decode(chunks)


def test_a_runtime_that_always_has_less_room_than_it_says_serves_one_after_the_other():
    steps = Steps(Cramped())
    for seed in range(3):
        steps.add(job(f"{seed} {SYSTEM}", tokens=6, seed=seed))
    steps.until_all_ended()


class WithoutDrafts(FakeRuntime):
    """Has no room for more than one token of a text that it has begun."""

    def decode(self, chunks: Any) -> Any:
        if any(chunk.start > 0 and len(chunk.tokens) > 1 for chunk in chunks):
            raise NoRoomError
        return super().decode(chunks)


def test_one_that_is_alone_is_tried_without_its_draft_before_it_fails():
    steps = Steps(WithoutDrafts(script="abcd" * 9))
    only = steps.add(job("abcdabcd\x00", tokens=20))
    only.tokens[-1] = BOS
    steps.until_all_ended()
    steps = Steps(FakeRuntime())
    alone = steps.add(job("hello"))
    work = [(alone, Work(alone.id, 5))]
    steps.roster.plan(steps.now)
    assert steps.roster.give_way(work, steps.now) == []
    assert steps.roster.give_way(work, steps.now) == [alone]


def test_one_that_stepped_back_is_let_in_when_those_that_stayed_are_paused():
    steps = Steps(FakeRuntime())
    first, second = (steps.add(job(f"{i}", tokens=20)) for i in range(2))
    steps.runtime.no_room_at = {0}
    steps.step()
    assert list(steps.roster.waiting) == [second.id]
    first.paused_since = steps.now
    steps.step()
    assert second.id in steps.roster.running


def test_nobody_looks_for_drafts_that_the_batch_has_no_row_for(monkeypatch):
    asked: list[int] = []
    guess = Sequence.guess

    def noted(sequence: Sequence, most: int) -> None:
        asked.append(most)
        guess(sequence, most)

    monkeypatch.setattr(Sequence, "guess", noted)
    steps = Steps(FakeRuntime(), drafts=4)
    many = [steps.add(job(f"abab {i}", tokens=9)) for i in range(4)]
    steps.step()
    asked.clear()
    steps.step()
    assert asked == [0, 0, 0, 0]
    many[0].paused_since = steps.now
    asked.clear()
    steps.step()
    assert asked == [1, 1, 1]
