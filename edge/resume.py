"""Going on elsewhere: whether a lost attempt may, who can, and from where. Pure."""

from __future__ import annotations

import math
from enum import Enum, StrEnum
from typing import Final

import grpc

from common.transport import Failure
from protos.inference.v1 import inference_pb2 as pb

# Of one generation, all choices together (see Resume in the contract).
MAX_TOKENS: Final = 2**20


class Loss(Enum):
    """How an attempt was lost."""

    # The worker is well, and took nothing or leaves in order: another try costs nothing.
    REFUSED = "refused"
    # The process or the connection is no more.
    GONE = "gone"
    # The engine failed, perhaps because of a neighbour.
    BROKEN = "broken"
    # It had admitted the request and then said nothing for too long.
    STALLED = "stalled"
    # The request is at fault or its time is over: nobody else could do better.
    FINAL = "final"


class Outcome(StrEnum):
    """What became of an answer whose worker was lost in the middle of it."""

    RESUMED = "resumed"
    # No other worker with the same model took it in time.
    NO_WORKER = "no_worker"
    # Its worker or its kind cannot be continued.
    UNSUPPORTED = "unsupported"
    # It had lost too many workers.
    TOO_OFTEN = "too_often"


_REASONS: Final = {
    pb.ERROR_REASON_QUEUE_FULL: Loss.REFUSED,
    pb.ERROR_REASON_DRAINING: Loss.REFUSED,
    pb.ERROR_REASON_LOADING: Loss.REFUSED,
    pb.ERROR_REASON_MODEL_MISMATCH: Loss.REFUSED,
}
_CODES: Final = {
    grpc.StatusCode.UNAVAILABLE: Loss.GONE,
    # Not by us: a server that ends without its calls.
    grpc.StatusCode.CANCELLED: Loss.GONE,
    grpc.StatusCode.INTERNAL: Loss.BROKEN,
    grpc.StatusCode.UNKNOWN: Loss.BROKEN,
}

# How many losses, this one counted and refusals not, a request survives: while nothing of it is
# delivered, when it starts anew; and then, when it is resumed. Few: a request that kills its
# worker must not go round all of them, nor one that hangs it wait for each.
SURVIVES: Final[dict[Loss, tuple[float, float]]] = {
    Loss.REFUSED: (math.inf, math.inf),
    Loss.GONE: (2, 2),
    Loss.BROKEN: (1, 1),
    # Before the first token it may have been in the queue: another queue is no shorter.
    Loss.STALLED: (0, 1),
    Loss.FINAL: (0, 0),
}


def loss(failure: Failure) -> Loss:
    """What a call's failure says of its worker."""
    return _REASONS.get(failure.reason) or _CODES.get(failure.code, Loss.FINAL)


def resumes(model: pb.ModelInfo) -> bool:
    """Whether a worker with this description can continue what another one began."""
    return pb.CAPABILITY_RESUME in model.capabilities


def resumable(request: pb.GenerateRequest) -> bool:
    """Whether this kind of request can be continued at all.

    Not with best_of: its choices are numbered by rank when they are told, by draw when they are
    made. Not without a seed: the next worker would draw another.
    """
    return request.best_of <= choices(request) and request.sampling.HasField("seed")


def choices(request: pb.GenerateRequest) -> int:
    """Choices that come back."""
    return request.n or 1


class Attempts:
    """Who had a request, and what it has lost. State: those workers, and the losses that count."""

    def __init__(self) -> None:
        # Address and incarnation of those that had it.
        self._tried: dict[str, str] = {}
        self._losses = 0

    def began(self, address: str, incarnation: str) -> None:
        """A worker has it now."""
        self._tried[address] = incarnation

    def may_begin(self, address: str, incarnation: str) -> bool:
        """Whether a worker may have it: not again, save when it was started anew since."""
        before = self._tried.get(address)
        return before is None or before not in ("", incarnation)

    def lose(self, lost_by: Loss, *, delivered: bool) -> bool:
        """Counts a loss; whether another worker may try."""
        self._losses += lost_by is not Loss.REFUSED
        return self._losses <= SURVIVES[lost_by][delivered]


class Progress:
    """How far each choice of an answer has come. State: one ResumeChoice a choice.

    What counts is what reached the edge: a client that reads slower gets it from here.
    """

    def __init__(self, count: int) -> None:
        """`count`: choices that come back."""
        self._count = count
        self._choices: dict[int, pb.ResumeChoice] = {}
        self._tokens = 0
        # Whether every token of every choice is known: without one of them nothing can go on.
        self.whole = True

    def take(self, delta: pb.Delta) -> None:
        """Adds what a delta brings; a choice beyond the number asked for is left out."""
        if not self.whole or delta.index >= self._count:
            return
        choice = self._choices.get(delta.index)
        if choice is None:
            choice = self._choices[delta.index] = pb.ResumeChoice(index=delta.index)
        choice.token_ids.extend(delta.token_ids)
        choice.delivered_bytes = delta.delivered_bytes
        choice.finished |= delta.HasField("finish")
        self._tokens += len(delta.token_ids)
        if len(choice.token_ids) != delta.completion_tokens or self._tokens > MAX_TOKENS:
            self.whole = False
            self._choices.clear()

    def knows(self, index: int) -> bool:
        """Whether anything of this choice has come."""
        return index in self._choices

    def resume(self) -> pb.Resume:
        """Where another worker goes on."""
        return pb.Resume(choices=[self._choices[index] for index in sorted(self._choices)])
