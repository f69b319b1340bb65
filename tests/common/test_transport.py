"""Failures survive the way over the wire; options agree with one another."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from common.transport import (
    ERROR_DOMAIN,
    Failure,
    channel_options,
    failure_status,
    read_failure,
    server_options,
)
from protos.inference.v1 import inference_pb2 as pb

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
REASONS = [value for value in pb.ErrorReason.values() if value]


@given(
    st.builds(
        Failure,
        code=st.sampled_from(CODES),
        message=st.text(st.characters(codec="utf-8"), max_size=40),
        reason=st.sampled_from(REASONS),
        metadata=st.dictionaries(
            st.text("abc_", min_size=1), st.text(st.characters(codec="utf-8"))
        ),
        retry_after=st.none() | st.integers(0, 10_000).map(lambda ms: ms / 1000),
    )
)
def test_a_failure_is_read_as_it_was_sent(failure: Failure):
    status = failure_status(failure)

    assert read_failure(status.code, status.details, status.trailing_metadata) == failure


def details(*messages: object) -> list[tuple[str, str | bytes]]:
    packed = []
    for message in messages:
        entry = any_pb2.Any()
        entry.Pack(message)  # type: ignore[arg-type]
        packed.append(entry)
    status = status_pb2.Status(code=14, details=packed)
    return [("grpc-status-details-bin", status.SerializeToString())]


@pytest.mark.parametrize(
    "trailers",
    [
        None,
        [],
        [("grpc-status-details-bin", b"\xff\xff")],
        [("grpc-status-details-bin", "text")],
        [("other-bin", b"x")],
        details(error_details_pb2.ErrorInfo(domain="another", reason="QUEUE_FULL")),
        details(error_details_pb2.BadRequest()),
    ],
)
def test_details_that_are_not_ours_are_left_out(trailers: list[tuple[str, str | bytes]] | None):
    failure = read_failure(grpc.StatusCode.UNAVAILABLE, None, trailers)

    assert failure == Failure(grpc.StatusCode.UNAVAILABLE, "", pb.ERROR_REASON_UNSPECIFIED)


def test_a_later_versions_reason_keeps_its_metadata():
    info = error_details_pb2.ErrorInfo(domain=ERROR_DOMAIN, reason="TOO_NEW", metadata={"a": "b"})

    failure = read_failure(grpc.StatusCode.UNAVAILABLE, "", details(info))

    assert failure.reason == pb.ERROR_REASON_UNSPECIFIED
    assert failure.metadata == {"a": "b"}


def test_the_server_permits_the_pings_of_the_client():
    client, server = dict(channel_options()), dict(server_options())

    interval = client["grpc.keepalive_time_ms"]
    assert server["grpc.http2.min_recv_ping_interval_without_data_ms"] < interval
    assert server["grpc.keepalive_permit_without_calls"] == 1
    assert client["grpc.http2.max_pings_without_data"] == 0
    assert client["grpc.http2.ping_timeout_ms"] <= 5000
    assert server["grpc.so_reuseport"] == 0
