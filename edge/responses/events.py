"""A response as events in OpenAI's order, numbered from 0; and the whole of it. Pure but the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from edge.errors import ApiError
from edge.responses import render
from edge.responses.output import CALL, MESSAGE, REASONING, Did, Output, Step
from protos.inference.v1 import inference_pb2 as pb

Json = dict[str, Any]


def retold(response: Json, start: int) -> list[Json]:
    """The events from this number on of one that ended and whose own are not kept.

    The end, with all of the response, is among them whatever the number is.
    """
    made = [] if start else [_event("response.created", 0, response=response)]
    return [*made, _event(_ending(response), max(1, start), response=response)]


def broken_off(error: ApiError, number: int) -> Json:
    """The event of this number where no more can be told, whatever became of the response."""
    return _event("error", number, code=error.code, message=error.message, param=error.param)


def _ending(response: Json) -> str:
    # There is none of a cancellation's name.
    status = render.INCOMPLETE if response["status"] == render.CANCELLED else response["status"]
    return f"response.{status}"


def _event(type_: str, number: int, **fields: Any) -> Json:
    return {"type": type_, "sequence_number": number, **fields}


class Whole:
    """A response, gathered from what a worker says."""

    def __init__(self, head: Json, output: Output, clock: Callable[[], float] = time.time) -> None:
        """`head` is render.header's; `clock` in seconds since 1970."""
        self._head = head
        self._output = output
        self._clock = clock
        self._reason: pb.FinishReason.ValueType = pb.FINISH_REASON_STOP
        # As it is now, and at last as it ended.
        self.response: Json = head

    def started(self, started: pb.Started) -> None:
        """It was admitted."""

    def delta(self, delta: pb.Delta) -> None:
        """Takes a delta. Raises ApiError."""
        for _ in self._feed(delta):
            pass

    def finished(self, finished: pb.Finished) -> None:
        """Takes the end."""
        for _ in self._finish(finished):
            pass

    def _feed(self, delta: pb.Delta) -> Iterator[Step]:
        if delta.index:
            # One choice was asked for.
            return
        yield from self._output.feed(delta)
        if delta.HasField("finish"):
            self._reason = delta.finish.reason

    def _finish(self, finished: pb.Finished) -> Iterator[Step]:
        whole = render.ended(self._head, [], finished.usage, self._reason, int(self._clock()))
        yield from self._output.end(whole["status"], whole=True)
        self.response = {**whole, "output": self._output.json()}

    def _fail(self, error: ApiError) -> Iterator[Step]:
        yield from self._output.end(render.INCOMPLETE, whole=False)
        self.response = render.failed(self._head, self._output.json(), error)

    def _cancel(self) -> Iterator[Step]:
        yield from self._output.end(render.INCOMPLETE, whole=False)
        self.response = render.cancelled(self._head, self._output.json())


class Events(Whole):
    """The same as events. Each is JSON with its `type`, and goes out under that name."""

    def __init__(self, head: Json, output: Output, clock: Callable[[], float] = time.time) -> None:
        super().__init__(head, output, clock)
        self._number = 0

    def begin(self) -> list[Json]:
        """What is told once it was admitted."""
        if not self._head["background"]:
            return [
                self._event("response.created", response=self._head),
                self._event("response.in_progress", response=self._head),
            ]
        queued = {**self._head, "status": render.QUEUED}
        return [
            self._event("response.created", response=queued),
            self._event("response.queued", response=queued),
            self._event("response.in_progress", response=self._head),
        ]

    def grow(self, delta: pb.Delta) -> Iterator[Json]:
        """The events of a delta. Raises ApiError."""
        return self._told(self._feed(delta))

    def finish(self, finished: pb.Finished) -> Iterator[Json]:
        """The events of the end: whatever is open is done, then the response."""
        yield from self._told(self._finish(finished))
        yield self._last()

    def fail(self, error: ApiError) -> Iterator[Json]:
        """The events of a failure in the middle."""
        yield from self._told(self._fail(error))
        yield self._event("error", code=error.code, message=error.message, param=error.param)
        yield self._last()

    def cancel(self) -> Iterator[Json]:
        """The events of a cancellation."""
        yield from self._told(self._cancel())
        yield self._last()

    def _last(self) -> Json:
        return self._event(_ending(self.response), response=self.response)

    def _event(self, type_: str, **fields: Any) -> Json:
        event = _event(type_, self._number, **fields)
        self._number += 1
        return event

    def _told(self, steps: Iterable[Step]) -> Iterator[Json]:
        for step in steps:
            match step.did:
                case Did.OPENED:
                    yield from self._opened(step)
                case Did.GREW:
                    yield self._grew(step)
                case Did.CLOSED:
                    yield from self._closed(step)

    def _opened(self, step: Step) -> Iterator[Json]:
        item = step.item
        yield self._event(
            "response.output_item.added",
            output_index=item.place,
            item=item.json(parts=False),
        )
        if item.kind != CALL:
            yield self._event(
                "response.content_part.added",
                item_id=item.id,
                output_index=item.place,
                content_index=0,
                part=item.part(),
            )

    def _grew(self, step: Step) -> Json:
        item = step.item
        if item.kind == MESSAGE:
            return self._event(
                "response.output_text.delta",
                item_id=item.id,
                output_index=item.place,
                content_index=0,
                delta=step.text,
                logprobs=list(step.logprobs),
            )
        if item.kind == REASONING:
            return self._event(
                "response.reasoning_text.delta",
                item_id=item.id,
                output_index=item.place,
                content_index=0,
                delta=step.text,
            )
        return self._event(
            "response.function_call_arguments.delta",
            item_id=item.id,
            output_index=item.place,
            delta=step.text,
        )

    def _closed(self, step: Step) -> Iterator[Json]:
        item = step.item
        at = {"item_id": item.id, "output_index": item.place}
        if item.kind == CALL:
            yield self._event(
                "response.function_call_arguments.done",
                **at,
                name=item.name,
                arguments=item.text,
            )
        else:
            text = item.text
            if item.kind == MESSAGE:
                yield self._event(
                    "response.output_text.done",
                    **at,
                    content_index=0,
                    text=text,
                    logprobs=list(item.logprobs),
                )
            else:
                yield self._event("response.reasoning_text.done", **at, content_index=0, text=text)
            yield self._event("response.content_part.done", **at, content_index=0, part=item.part())
        yield self._event("response.output_item.done", output_index=item.place, item=item.json())
