"""Where an answer stands, and who may go on with it: pure decisions."""

from __future__ import annotations

import grpc
import pytest

from common.transport import Failure
from edge.resume import MAX_TOKENS, Attempts, Loss, Progress, loss, resumable
from protos.inference.v1 import inference_pb2 as pb

FINISH = pb.ChoiceFinish(reason=pb.FINISH_REASON_STOP)
UNSPECIFIED = pb.ERROR_REASON_UNSPECIFIED
Code = grpc.StatusCode


def test_progress_is_what_the_deltas_brought() -> None:
    progress = Progress(3)
    progress.take(pb.Delta(index=2, token_ids=[9], completion_tokens=1))
    progress.take(pb.Delta(index=0, token_ids=[5, 6], completion_tokens=2, delivered_bytes=3))
    progress.take(pb.Delta(index=0, token_ids=[7], completion_tokens=3, delivered_bytes=8))
    progress.take(
        pb.Delta(index=2, token_ids=[1], completion_tokens=2, delivered_bytes=4, finish=FINISH)
    )
    assert progress.whole
    assert progress.resume() == pb.Resume(
        choices=[
            pb.ResumeChoice(index=0, token_ids=[5, 6, 7], delivered_bytes=8),
            pb.ResumeChoice(index=2, token_ids=[9, 1], delivered_bytes=4, finished=True),
        ]
    )
    assert [progress.knows(index) for index in range(3)] == [True, False, True]


@pytest.mark.parametrize(
    "delta",
    [
        pb.Delta(text="x", completion_tokens=1),
        pb.Delta(text="x", token_ids=[1, 2], completion_tokens=1),
        pb.Delta(text="x", token_ids=[1], completion_tokens=2),
    ],
    ids=["no ids", "too many", "a gap"],
)
def test_a_token_that_is_not_known_makes_it_unknown(delta: pb.Delta) -> None:
    progress = Progress(1)
    progress.take(delta)
    assert not progress.whole
    progress.take(pb.Delta(token_ids=[3], completion_tokens=1))
    assert not progress.resume().choices


def test_what_is_kept_is_bounded() -> None:
    progress = Progress(2)
    half = range(MAX_TOKENS // 2)
    seen = []
    for index, ids, so_far in (
        (0, half, len(half)),
        (1, half, len(half)),
        # Nobody asked for a third choice.
        (2, [1], 1),
        (1, [1], len(half) + 1),
    ):
        progress.take(pb.Delta(index=index, token_ids=ids, completion_tokens=so_far))
        seen.append(progress.whole)
    assert seen == [True, True, True, False]
    assert not progress.resume().choices


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (Code.RESOURCE_EXHAUSTED, pb.ERROR_REASON_QUEUE_FULL, Loss.REFUSED),
        (Code.UNAVAILABLE, pb.ERROR_REASON_DRAINING, Loss.REFUSED),
        (Code.UNAVAILABLE, pb.ERROR_REASON_LOADING, Loss.REFUSED),
        (Code.FAILED_PRECONDITION, pb.ERROR_REASON_MODEL_MISMATCH, Loss.REFUSED),
        (Code.UNAVAILABLE, UNSPECIFIED, Loss.GONE),
        (Code.CANCELLED, UNSPECIFIED, Loss.GONE),
        (Code.INTERNAL, pb.ERROR_REASON_ENGINE_FAILED, Loss.BROKEN),
        (Code.INTERNAL, UNSPECIFIED, Loss.BROKEN),
        (Code.UNKNOWN, UNSPECIFIED, Loss.BROKEN),
        (Code.DEADLINE_EXCEEDED, pb.ERROR_REASON_DEADLINE, Loss.FINAL),
        (Code.DEADLINE_EXCEEDED, UNSPECIFIED, Loss.FINAL),
        (Code.INVALID_ARGUMENT, pb.ERROR_REASON_INVALID_FIELD, Loss.FINAL),
        (Code.INVALID_ARGUMENT, pb.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED, Loss.FINAL),
        (Code.UNIMPLEMENTED, pb.ERROR_REASON_UNSUPPORTED, Loss.FINAL),
        (Code.RESOURCE_EXHAUSTED, UNSPECIFIED, Loss.FINAL),
    ],
)
def test_what_a_failure_says_of_the_worker(
    code: grpc.StatusCode, reason: pb.ErrorReason.ValueType, expected: Loss
) -> None:
    assert loss(Failure(code, "", reason)) is expected


@pytest.mark.parametrize(
    ("lost_by", "before", "after"),
    [
        (Loss.REFUSED, 9, 9),
        (Loss.GONE, 2, 2),
        (Loss.BROKEN, 1, 1),
        (Loss.STALLED, 0, 1),
        (Loss.FINAL, 0, 0),
    ],
)
def test_a_request_that_kills_workers_does_not_go_round_all_of_them(
    lost_by: Loss, before: int, after: int
) -> None:
    for delivered, survives in ((False, before), (True, after)):
        attempts = Attempts()
        allowed = [attempts.lose(lost_by, delivered=delivered) for _ in range(9)]
        assert allowed == [True] * survives + [False] * (9 - survives)


def test_refusals_are_no_losses() -> None:
    attempts = Attempts()
    for lost_by in (Loss.REFUSED, Loss.GONE, Loss.REFUSED, Loss.GONE):
        assert attempts.lose(lost_by, delivered=False)
    assert not attempts.lose(Loss.GONE, delivered=False)


def test_a_worker_gets_a_request_again_only_when_it_was_started_anew() -> None:
    attempts = Attempts()
    assert attempts.may_begin("a:1", "")
    attempts.began("a:1", "first")
    assert not attempts.may_begin("a:1", "first")
    assert attempts.may_begin("a:1", "second")
    assert attempts.may_begin("b:1", "first")
    attempts.began("b:1", "")
    # Who said nothing then may be the same process now.
    assert not attempts.may_begin("b:1", "later")


def test_what_cannot_be_continued_at_all() -> None:
    seeded = pb.SamplingParams(seed=0)
    assert resumable(pb.GenerateRequest(sampling=seeded))
    assert resumable(pb.GenerateRequest(sampling=seeded, n=2, best_of=2))
    assert not resumable(pb.GenerateRequest(sampling=seeded, n=2, best_of=3))
    assert not resumable(pb.GenerateRequest(sampling=seeded, best_of=2))
    assert not resumable(pb.GenerateRequest())
