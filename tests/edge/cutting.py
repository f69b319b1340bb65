"""Workers that are cut off where a test says, without a network: one answer, many attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import grpc

from common.transport import Failure, failure_status
from edge.generation import Generation, Patience
from edge.pool import Pool
from edge.resume import Outcome
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import WorkerError

IDENTITY = "sha256:m"
ABLE = pb.ModelInfo(identity=IDENTITY, capabilities=[pb.CAPABILITY_RESUME])


def rpc_error(error: WorkerError | grpc.StatusCode) -> grpc.aio.AioRpcError:
    """The failure as a caller reads it; of a mere code, as the transport makes it."""
    trailers = grpc.aio.Metadata()
    if isinstance(error, WorkerError):
        failure = error.failure()
        for key, value in failure_status(failure).trailing_metadata:
            trailers.add(key, value)
    else:
        failure = Failure(error, "", pb.ERROR_REASON_UNSPECIFIED)
    return grpc.aio.AioRpcError(failure.code, grpc.aio.Metadata(), trailers, failure.message)


@dataclass(frozen=True)
class Answer:
    """What one choice says: pieces of raw text, one a token; token ids are their places.

    `held[k]`: characters of the first k tokens' text that are not shown yet.
    """

    pieces: Sequence[str]
    held: Sequence[int]

    def shown(self, tokens: int) -> int:
        """Bytes of its text that a reader may have after so many tokens."""
        text = "".join(self.pieces[:tokens])
        held = 0 if tokens == len(self.pieces) else self.held[tokens]
        return len(text[: max(0, len(text) - held)].encode())

    def delta(self, index: int, since: int, tokens: int, delivered: int) -> pb.Delta:
        """What tokens `since`..`tokens` bring to a reader who has `delivered` bytes."""
        raw = "".join(self.pieces).encode()
        # Never back: what was shown once stays shown.
        upto = max(delivered, self.shown(tokens))
        delta = pb.Delta(
            index=index,
            text=raw[delivered:upto].decode(),
            token_ids=range(since, tokens),
            completion_tokens=tokens,
            delivered_bytes=upto,
        )
        for token in range(since, tokens):
            delta.logprobs.add(token_id=token, token=self.pieces[token].encode(), logprob=-token)
        if tokens == len(self.pieces):
            delta.finish.reason = pb.FINISH_REASON_LENGTH
        return delta


@dataclass
class Attempt:
    """One worker's part: so many events, then this end; `steps` tokens a delta, round and round."""

    events: int = 10**9
    ends_with: WorkerError | grpc.StatusCode | None = None
    steps: Sequence[int] = (1,)
    # Which choice is next, by place among those still open; round and round, too.
    order: Sequence[int] = (0,)
    model: pb.ModelInfo = field(default_factory=lambda: ABLE)
    address: str = ""
    incarnation: str = "a"


class Call:
    def __init__(self, events: Iterator[pb.GenerateResponse], attempt: Attempt) -> None:
        self._events = events
        self._left = attempt.events
        self._end = attempt.ends_with

    async def read(self) -> Any:
        if self._left == 0 and self._end is not None:
            raise rpc_error(self._end)
        self._left -= 1
        return next(self._events, grpc.aio.EOF)

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    def cancel(self) -> None:
        pass


class World:
    """The workers, one after the other, and what they were asked."""

    def __init__(self, answers: Sequence[Answer], attempts: Sequence[Attempt]) -> None:
        self._answers = answers
        self._left = [
            self._worker(attempt, f"10.0.0.{at}:1") for at, attempt in enumerate(attempts, 1)
        ]
        self.requests: list[pb.GenerateRequest] = []
        self.timeouts: list[float] = []
        self.outcomes: list[Outcome] = []

    def generation(self, max_resumes: int = 5, **fields: Any) -> Generation:
        request = pb.GenerateRequest(n=len(self._answers), **fields)
        request.sampling.seed = 1
        return Generation(
            cast(Pool, SimpleNamespace(lease=self._lease)),
            "m",
            request,
            request_id="req_1",
            timeout=60,
            patience=Patience(60, 60, 60),
            max_resumes=max_resumes,
            on_cut=self.outcomes.append,
        )

    def _worker(self, attempt: Attempt, address: str) -> Any:
        def generate(request: pb.GenerateRequest, *, timeout: float, **_: Any) -> Call:
            asked = pb.GenerateRequest()
            asked.CopyFrom(request)
            self.requests.append(asked)
            self.timeouts.append(timeout)
            return Call(events(self._answers, asked, attempt), attempt)

        return SimpleNamespace(
            address=attempt.address or address,
            incarnation=attempt.incarnation,
            info=attempt.model,
            stub=SimpleNamespace(Generate=generate),
        )

    def _lease(
        self, _model: str, _request: pb.GenerateRequest, suits: Callable[[Any], bool]
    ) -> Any:
        while self._left:
            worker = self._left.pop(0)
            if suits(worker):
                return SimpleNamespace(worker=worker, model=worker.info, release=lambda: None)
        return None


def events(
    answers: Sequence[Answer], request: pb.GenerateRequest, attempt: Attempt
) -> Iterator[pb.GenerateResponse]:
    """What a worker says that keeps to the contract; asserts that the request does."""
    at, delivered = [0] * len(answers), [0] * len(answers)
    open_ = set(range(len(answers)))
    for choice in request.resume.choices:
        index, answer = choice.index, answers[choice.index]
        assert list(choice.token_ids) == list(range(len(choice.token_ids)))
        assert choice.finished == (len(choice.token_ids) == len(answer.pieces))
        at[index], delivered[index] = len(choice.token_ids), choice.delivered_bytes
        if choice.finished:
            open_.discard(index)
    yield pb.GenerateResponse(started=pb.Started(model_identity=IDENTITY, prompt_tokens=3))
    turn, told = 0, False
    while open_:
        index = sorted(open_)[attempt.order[turn % len(attempt.order)] % len(open_)]
        answer = answers[index]
        upto = min(len(answer.pieces), at[index] + attempt.steps[turn % len(attempt.steps)])
        delta = answer.delta(index, at[index], upto, delivered[index])
        at[index], delivered[index] = upto, delta.delivered_bytes
        if request.output.prompt_logprobs and index == 0 and not told:
            delta.prompt_logprobs.add(token_id=7)
            told = True
        if delta.HasField("finish"):
            open_.discard(index)
        turn += 1
        if not request.output.token_ids:
            delta.ClearField("token_ids")
        yield pb.GenerateResponse(delta=delta)
    used = pb.Usage(prompt_tokens=3, completion_tokens=sum(at))
    yield pb.GenerateResponse(finished=pb.Finished(usage=used))
