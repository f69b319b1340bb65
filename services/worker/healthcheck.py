"""`python -m services.worker.healthcheck HOST:PORT`: exits 0 when that worker serves, else 1."""

# ruff: noqa: T201 -- a command speaks to the person who typed it

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.settings import EXIT_CONFIG
from common.transport import channel_options

_SECONDS = 3.0


def check(address: str, seconds: float = _SECONDS) -> str | None:
    """None when the worker serves; else why not, in one line."""
    with grpc.insecure_channel(address, options=channel_options()) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError as error:
            call: Any = error  # it is a grpc.Call, too
            return f"{address}: {call.code().name}: {call.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    return f"{address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    args = sys.argv[1:] if argv is None else argv
    if len(args) != 1:
        print("usage: python -m services.worker.healthcheck HOST:PORT", file=sys.stderr)
        return EXIT_CONFIG
    why = check(args[0])
    if why is not None:
        print(why, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
