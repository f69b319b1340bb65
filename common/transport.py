"""The gRPC transport as both ends must set it: channel and server options, error details.

The keepalive figures belong together: the server must permit the pings that the client sends,
or it closes the connection (GOAWAY too_many_pings) in the middle of a silent prefill.
`ping_timeout_ms` is what makes a dead peer noticed: `keepalive_timeout_ms` alone took a minute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from protos.inference.v1 import inference_pb2 as pb

ERROR_DOMAIN = "inference.v1"
REQUEST_ID_KEY = "x-request-id"
MAX_REQUEST_ID = 128
MAX_MESSAGE_BYTES = 64 * 2**20
MAX_METADATA_BYTES = 16 * 2**10

PING_INTERVAL_MS = 2_000
PING_TIMEOUT_MS = 2_000

Options = list[tuple[str, Any]]

_COMMON: Options = [
    ("grpc.keepalive_time_ms", PING_INTERVAL_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Bandwidth probing grows the windows until a reader that stopped costs 45,000 messages.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
]


def channel_options() -> Options:
    """Options of a caller's channel to one worker."""
    return [
        *_COMMON,
        # A channel is a worker: no sharing of connections, no long wait after a restart.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.enable_retries", 0),
        ("grpc.lb_policy_name", "pick_first"),
        # A proxy of the environment is for the outside: through it no worker is ever reached.
        ("grpc.enable_http_proxy", 0),
    ]


def server_options() -> Options:
    """Options of a worker's server."""
    return [
        *_COMMON,
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_INTERVAL_MS // 4),
        ("grpc.http2.max_ping_strikes", 0),
        # Otherwise two workers bind one port unnoticed.
        ("grpc.so_reuseport", 0),
    ]


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call as the contract describes it (see ErrorReason in inference.proto)."""

    code: grpc.StatusCode
    message: str
    # ERROR_REASON_UNSPECIFIED: the status did not come from a worker but from the transport.
    reason: pb.ErrorReason.ValueType
    metadata: Mapping[str, str] = field(default_factory=dict)
    # Seconds until a retry on the same worker can make sense; None: not said.
    retry_after: float | None = None


def failure_status(failure: Failure) -> Any:
    """The failure as a grpc.Status for `context.abort_with_status`, with its details attached."""
    details: list[any_pb2.Any] = []
    info = error_details_pb2.ErrorInfo(
        domain=ERROR_DOMAIN,
        reason=pb.ErrorReason.Name(failure.reason).removeprefix("ERROR_REASON_"),
        metadata=dict(failure.metadata),
    )
    details.append(_pack(info))
    if failure.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(seconds=failure.retry_after))
        details.append(_pack(retry))
    code: int = failure.code.value[0]
    assert code != code_pb2.OK
    return rpc_status.to_status(
        status_pb2.Status(code=code, message=failure.message, details=details)
    )


def read_failure(
    code: grpc.StatusCode, message: str | None, trailers: Sequence[tuple[str, str | bytes]] | None
) -> Failure:
    """The failure that a call ended with; details that cannot be read are left out."""
    reason: pb.ErrorReason.ValueType = pb.ERROR_REASON_UNSPECIFIED
    metadata: dict[str, str] = {}
    retry_after: float | None = None
    for detail in _details(trailers):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            if info.domain == ERROR_DOMAIN:
                metadata = dict(info.metadata)
                value = pb.ErrorReason.DESCRIPTOR.values_by_name.get(f"ERROR_REASON_{info.reason}")
                # A later version's reason stays UNSPECIFIED.
                reason = pb.ErrorReason.ValueType(value.number) if value else reason
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    return Failure(code, message or "", reason, metadata, retry_after)


def read_rpc_error(error: grpc.aio.AioRpcError) -> Failure:
    """The failure that an asynchronous call ended with."""
    trailers: Any = error.trailing_metadata()
    return read_failure(error.code(), error.details(), tuple(trailers or ()))


def _pack(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _details(trailers: Sequence[tuple[str, str | bytes]] | None) -> Sequence[any_pb2.Any]:
    for key, value in trailers or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return ()
    return ()
