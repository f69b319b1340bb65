"""A generation as an HTTP response, streamed or whole: the same for every API.

An API brings its own words (`Streamed`, `Gathers`); when the head is sent, what is measured, how a
stream ends and how it fails is decided here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Final, Protocol

import structlog
from aiohttp import web

from edge import errors, sse, stream
from edge.context import Context
from edge.errors import ApiError, Names
from edge.generation import Generation, Patience
from edge.intake import Intake
from edge.several import Several, Source
from edge.state import Edge
from protos.inference.v1 import inference_pb2 as pb

log = structlog.get_logger()

# Tokens of a prompt whose logprobs take so long to tell (some 10 ms) that other streams would
# stand still: they are told in a thread.
_MANY: Final = 1000
# Between deltas that nobody waits for; what is lost with a worker is no more than that.
_UNHURRIED_MS: Final = 250


class Streamed(Protocol):
    """An API's stream: what it writes for each event, as bytes of whole SSE events."""

    def started(self, started: pb.Started) -> Iterable[bytes]:
        """Once, first: the request was admitted."""
        ...

    def delta(self, delta: pb.Delta) -> Iterable[bytes]:
        """For every delta, of which several may have been merged."""
        ...

    def finished(self, finished: pb.Finished) -> Iterable[bytes]:
        """Once, last, with whatever ends the stream."""
        ...

    def failed(self, error: ApiError) -> Iterable[bytes]:
        """Instead of `finished`: the error, and whatever ends the stream."""
        ...


class Gathers(Protocol):
    """An API's whole answer, made of the events."""

    def started(self, started: pb.Started) -> None:
        """Once, first."""
        ...

    def delta(self, delta: pb.Delta) -> None:
        """For every delta."""
        ...

    def finished(self, finished: pb.Finished) -> None:
        """Once, last."""
        ...


@contextmanager
def generation(
    intake: Intake, wanted: pb.GenerateRequest, names: Names = errors.CHAT
) -> Iterator[Generation]:
    """The generation of a request, ended however the block ends. `Intake.model` was called.

    `names` are those of errors.
    """
    edge, ctx = intake.edge, intake.ctx
    settings = edge.settings
    wanted.tenant = ctx.identity.name
    made = Generation(
        edge.pool,
        ctx.model,
        wanted,
        request_id=ctx.request_id,
        timeout=settings.request_timeout,
        patience=Patience(
            settings.admission_timeout, settings.first_token_timeout, settings.stall_timeout
        ),
        max_resumes=settings.max_resumes,
        on_cut=lambda outcome: edge.metrics.resumed.labels(str(outcome)).inc(),
        names=names,
    )
    edge.generations.add(made)
    try:
        yield made
    finally:
        ctx.worker = made.worker
        ctx.resumed += made.resumed
        edge.generations.discard(made)
        made.close()


@asynccontextmanager
async def generations(
    intake: Intake, wanted: Sequence[pb.GenerateRequest], names: Sequence[Names]
) -> AsyncIterator[Source]:
    """As `generation`, of several prompts with equally many choices (see several.py)."""
    with ExitStack() as stack:
        made = [
            stack.enter_context(generation(intake, one, called))
            for one, called in zip(wanted, names, strict=True)
        ]
        if len(made) == 1:
            yield made[0]
            return
        several = Several(made, wanted[0].n or 1)
        try:
            yield several
        finally:
            await several.close()


async def whole(intake: Intake, generation: Source, into: Gathers) -> None:
    """Reads the generation to its end. Raises ApiError."""
    meter = _Meter(intake.ctx, intake.edge, streamed=False)
    generation.apart(_UNHURRIED_MS)
    started = await generation.start()
    meter.started(started)
    into.started(started)
    while isinstance(event := await generation.next(), pb.Delta):
        meter.delta(event)
        if len(event.prompt_logprobs) > _MANY:
            await asyncio.to_thread(into.delta, event)
        else:
            into.delta(event)
    meter.finished(event)
    into.finished(event)


async def streamed(
    intake: Intake,
    generation: Source,
    answer: Streamed,
    ping: bytes = sse.PING,
    before_end: Callable[[], Awaitable[None]] | None = None,
) -> web.StreamResponse:
    """Sends the generation as it comes. Raises ApiError before the head is sent, later never.

    `ping` is sent in silence; `before_end` is waited for once the answer is whole, before its last
    events are told.
    """
    request, edge, ctx = intake.request, intake.edge, intake.ctx
    settings = edge.settings
    meter = _Meter(ctx, edge)
    generation.apart(edge.pace.interval_ms())
    # What is wrong with the request is said before `started`, so also before the 200.
    started = await generation.start()
    meter.started(started)
    out = stream.EventStream(
        request,
        heartbeat=settings.heartbeat_interval,
        write_timeout=settings.write_timeout,
        ping=ping,
    )
    events = stream.Events(generation, out)
    try:
        await out.open()
        for written in answer.started(started):
            await out.write(written)
        over = False
        while not over:
            for event in await events.next():
                if isinstance(event, pb.Delta):
                    meter.delta(event)
                    many = len(event.prompt_logprobs) > _MANY
                    told = answer.delta(event)
                    for written in await asyncio.to_thread(list, told) if many else told:
                        await out.write(written)
                else:
                    meter.finished(event)
                    over = True
                    await _end(out, answer.finished(event), before_end)
    except ApiError as error:
        ctx.error = error.code or error.kind
        await _end(out, answer.failed(error), before_end)
    except (stream.ClientGoneError, ConnectionError):
        raise
    except Exception:
        if not out.opened:
            raise
        # A second response behind the first would leave the client waiting for ever.
        log.exception("stream failed", request_id=ctx.request_id)
        failure = errors.internal()
        ctx.error = failure.code or failure.kind
        await _end(out, answer.failed(failure), before_end)
    finally:
        await events.close()
        await out.release()
    return out.response


async def _end(
    out: stream.EventStream,
    last: Iterable[bytes],
    before: Callable[[], Awaitable[None]] | None,
) -> None:
    events = list(last)
    if before is not None:
        await before()
    await out.close(events)


class _Meter:
    """Notes in the context and the metrics what passes."""

    def __init__(self, ctx: Context, edge: Edge, *, streamed: bool = True) -> None:
        self._ctx = ctx
        self._streamed = streamed
        self._first = edge.metrics.first_token.labels(ctx.model)
        self._between = edge.metrics.inter_token.labels(ctx.model)
        self._tokens = edge.metrics.tokens
        self._last = 0.0

    def started(self, started: pb.Started) -> None:
        self._ctx.prompt_tokens = started.prompt_tokens

    def delta(self, delta: pb.Delta) -> None:
        now = time.monotonic()
        if self._ctx.first_token is None:
            self._ctx.first_token = now
            self._first.observe(now - self._ctx.began)
        elif self._streamed and not delta.HasField("finish"):
            self._between.observe(now - self._last)
        self._last = now

    def finished(self, finished: pb.Finished) -> None:
        used = finished.usage
        self._ctx.completion_tokens = used.completion_tokens
        for kind, count in (
            ("prompt", used.prompt_tokens),
            ("completion", used.completion_tokens),
            ("cached", used.cached_tokens),
        ):
            self._tokens.labels(self._ctx.model, kind).inc(count)
