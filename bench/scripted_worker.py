"""A worker that costs next to nothing: it answers as the request says, to measure what is above it.

`python -m bench.scripted_worker --port N`. It sends `max_tokens` deltas. The first message's text
is the pause between them in microseconds. With a pause each delta's text is the time it was
sent, in nanoseconds on the clock that all processes of the machine share; without one all deltas
are one serialized message, sent as fast as they are taken.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from common.transport import server_options
from protos.inference.v1 import inference_pb2 as pb

IDENTITY = "sha256:scripted"
MODEL = "scripted"
_SERVICE = "inference.v1.InferenceService"


def request(tokens: int, pause_us: int) -> pb.GenerateRequest:
    """A request as a client that speaks gRPC sends it."""
    message = pb.Message(role=pb.ROLE_USER, content=[pb.ContentPart(text=str(pause_us))])
    return pb.GenerateRequest(
        model_identity=IDENTITY,
        chat=pb.ChatInput(messages=[message]),
        stop=pb.StopConditions(max_tokens=tokens, ignore_eos=True),
    )


def now_ns() -> int:
    """The shared clock (CLOCK_MONOTONIC)."""
    return time.monotonic_ns()


def _response(**event: Any) -> bytes:
    return pb.GenerateResponse(**event).SerializeToString()


_STARTED = _response(started=pb.Started(model_identity=IDENTITY, prompt_tokens=1))
_DELTA = _response(delta=pb.Delta(text=" token", completion_tokens=1, delivered_bytes=6))
_END = pb.ChoiceFinish(reason=pb.FINISH_REASON_LENGTH)


async def generate(asked: pb.GenerateRequest, context: Any) -> AsyncIterator[bytes]:
    """See the contract; yields serialized responses."""
    del context
    tokens = asked.stop.max_tokens
    pause = int(asked.chat.messages[0].content[0].text) / 1e6
    yield _STARTED
    for count in range(1, tokens + 1):
        if pause:
            if count > 1:
                await asyncio.sleep(pause)
            stamp = f" {now_ns()}"
            yield _response(delta=pb.Delta(text=stamp, completion_tokens=count))
        else:
            yield _DELTA
    yield _response(delta=pb.Delta(completion_tokens=tokens, finish=_END))
    yield _response(finished=pb.Finished(usage=pb.Usage(prompt_tokens=1, completion_tokens=tokens)))


async def _model_info(asked: pb.GetModelInfoRequest, context: Any) -> pb.GetModelInfoResponse:
    del asked, context
    model = pb.ModelInfo(
        identity=IDENTITY,
        name=MODEL,
        kind="scripted",
        context_length=2**20,
        capabilities=[pb.CAPABILITY_GENERATE, pb.CAPABILITY_CHAT],
    )
    return pb.GetModelInfoResponse(model=model)


async def _watch_load(
    asked: pb.WatchLoadRequest, context: Any
) -> AsyncIterator[pb.WatchLoadResponse]:
    del asked, context
    while True:
        yield pb.WatchLoadResponse(load=pb.LoadReport(incarnation="scripted"))
        await asyncio.sleep(2)


async def serve(port: int) -> None:
    """Serves until cancelled."""
    server = grpc.aio.server(options=server_options())
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Generate": grpc.unary_stream_rpc_method_handler(
            generate, request_deserializer=pb.GenerateRequest.FromString
        ),
        "GetModelInfo": grpc.unary_unary_rpc_method_handler(
            _model_info,
            request_deserializer=pb.GetModelInfoRequest.FromString,
            response_serializer=pb.GetModelInfoResponse.SerializeToString,
        ),
        "WatchLoad": grpc.unary_stream_rpc_method_handler(
            _watch_load,
            request_deserializer=pb.WatchLoadRequest.FromString,
            response_serializer=pb.WatchLoadResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    await healthy.set(_SERVICE, health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    """Runs until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.scripted_worker", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
