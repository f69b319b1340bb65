"""Chunks as events, and OpenAI's end of a stream: for its APIs that generate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from edge import sse
from edge.errors import ApiError
from protos.inference.v1 import inference_pb2 as pb

Json = dict[str, Any]


class Chunks(Protocol):
    """What an API makes of the contract's events."""

    def started(self, started: pb.Started) -> Iterable[Json]: ...

    def delta(self, delta: pb.Delta) -> Iterable[Json]: ...

    def finished(self, finished: pb.Finished) -> Iterable[Json]: ...


class OpenAIStream:
    """An answering.Streamed."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def started(self, started: pb.Started) -> Iterator[bytes]:
        return map(sse.event, self._chunks.started(started))

    def delta(self, delta: pb.Delta) -> Iterator[bytes]:
        return map(sse.event, self._chunks.delta(delta))

    def finished(self, finished: pb.Finished) -> Iterator[bytes]:
        yield from map(sse.event, self._chunks.finished(finished))
        yield sse.DONE

    def failed(self, error: ApiError) -> Iterator[bytes]:
        yield sse.event(error.body())
