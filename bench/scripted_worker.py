"""A worker that costs next to nothing: it answers as the request says, to measure what is above it.

`python -m bench.scripted_worker --port N [--http-port M]`. It sends `max_tokens` deltas. The first message's text
is the pause between them in microseconds. With a pause the text of each token is the time it was
made, in nanoseconds on the clock that all processes of the machine share; without one all deltas
are one serialized message, sent as fast as they are taken. On the other port the same answers are
OpenAI's, over HTTP: for proxies of those, and for what a request costs without anything between.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Any

import uvloop
from grpc_health.v1 import health_pb2

from bench.http2 import Call, Connection, message
from bench.scripted_upstream import MODEL, Upstream, next_step, now_ns
from common import garbage
from protos.inference.v1 import inference_pb2 as pb

IDENTITY = "sha256:scripted"
_SERVICE = "/inference.v1.InferenceService/"


def _response(**event: Any) -> bytes:
    return message(pb.GenerateResponse(**event).SerializeToString())


_STARTED = _response(started=pb.Started(model_identity=IDENTITY, prompt_tokens=1))
_DELTA = _response(delta=pb.Delta(text=" token", completion_tokens=1, delivered_bytes=6))
_END = pb.ChoiceFinish(reason=pb.FINISH_REASON_LENGTH)
# Of a flat-out answer, at once: more would wait for the client's window anyway.
_BURST = 64
# Seconds between deltas of an answer that nobody reads before its end. Of those that are shown, what
# goes flat out is told token by token, busy edge or not: that is what is measured.
_WHOLE = 0.2
# Seconds until a window that is full is looked at again.
_FULL = 0.001


class _Answer:
    """One answer being given, by timers: a task for each would cost more than the rest."""

    def __init__(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        asked = pb.GenerateRequest.FromString(call.body)
        self._call, self._loop = call, loop
        self._tokens = asked.stop.max_tokens
        self._apart = asked.output.min_delta_interval.ToMilliseconds() / 1e3
        self._pause = int(asked.chat.messages[0].content[0].text) / 1e6
        self._sent = 0
        # What is not due yet, and when the last was.
        self._held = ""
        self._told = 0.0
        self._due = loop.time()
        call.send(_STARTED)
        (self._paced if self._pause else self._burst)()

    def _paced(self) -> None:
        if self._call.closed:
            return
        self._sent += 1
        self._held += f" {now_ns()}"
        over = self._sent == self._tokens
        now = self._loop.time()
        if over or now >= self._told + self._apart:
            delta = pb.Delta(text=self._held, completion_tokens=self._sent)
            self._call.send(_response(delta=delta))
            self._held, self._told = "", now
        if over:
            self._end()
            return
        # On a clock of its own: what comes late is not a reason for all others to be late.
        self._due = next_step(self._due, self._pause)
        self._loop.call_at(self._due, self._paced)

    def _burst(self) -> None:
        if self._call.closed:
            return
        if self._apart >= _WHOLE:
            # As a worker that has all of it already: in one piece, with its end.
            text = " token" * self._tokens
            delta = pb.Delta(text=text, completion_tokens=self._tokens, finish=_END)
            self._call.send(_response(delta=delta), self._finished())
            self._call.end()
            return
        if self._call.waiting:
            self._loop.call_later(_FULL, self._burst)
            return
        count = min(_BURST, self._tokens - self._sent)
        self._sent += count
        self._call.send(*[_DELTA] * count)
        if self._sent == self._tokens:
            self._end()
        else:
            self._loop.call_soon(self._burst)

    def _end(self) -> None:
        delta = pb.Delta(completion_tokens=self._tokens, finish=_END)
        self._call.send(_response(delta=delta), self._finished())
        self._call.end()

    def _finished(self) -> bytes:
        used = pb.Usage(prompt_tokens=1, completion_tokens=self._tokens)
        return _response(finished=pb.Finished(usage=used))


def _once(payload: bytes, *, end: bool) -> Callable[[Call], None]:
    """An answer of one message; without `end` the call stays open."""
    framed = message(payload)

    def answer(call: Call) -> None:
        call.send(framed)
        if end:
            call.end()

    return answer


_INFO = pb.GetModelInfoResponse(
    model=pb.ModelInfo(
        identity=IDENTITY,
        name=MODEL,
        kind="scripted",
        context_length=2**20,
        capabilities=[pb.CAPABILITY_GENERATE, pb.CAPABILITY_CHAT],
    )
)
_LOAD = pb.WatchLoadResponse(load=pb.LoadReport(incarnation="scripted"))
_HEALTHY = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def serve(port: int, http_port: int | None) -> None:
    """Serves until cancelled."""
    loop = asyncio.get_running_loop()
    handlers: dict[str, Callable[[Call], object]] = {
        _SERVICE + "Generate": lambda call: _Answer(call, loop),
        _SERVICE + "GetModelInfo": _once(_INFO.SerializeToString(), end=True),
        _SERVICE + "WatchLoad": _once(_LOAD.SerializeToString(), end=False),
        "/grpc.health.v1.Health/Watch": _once(_HEALTHY.SerializeToString(), end=False),
    }

    def handle(call: Call) -> None:
        handlers[call.path](call)

    server = await loop.create_server(lambda: Connection(handle), "127.0.0.1", port)
    async with server:
        if http_port is not None:
            await loop.create_server(lambda: Upstream(loop), "127.0.0.1", http_port)
        await server.serve_forever()


def main() -> None:
    """Runs until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.scripted_worker", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int)
    args = parser.parse_args()
    garbage.settle()
    uvloop.run(serve(args.port, args.http_port))


if __name__ == "__main__":
    main()
