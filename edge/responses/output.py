"""Deltas become items: thoughts, messages and calls, one after the other. Pure.

`feed` and `end` say what each delta did, step by step, for whoever tells it as events. A reader
that falls behind gets several deltas as one, whose thoughts then come before its text, and that
before its calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from edge import errors
from edge.openai.chat_response import logprob_entry
from edge.openai.content_logprobs import ContentLogprobs
from edge.responses import sealed
from edge.responses.ids import Ids
from protos.inference.v1 import inference_pb2 as pb

Json = dict[str, Any]

MESSAGE: Final = "message"
REASONING: Final = "reasoning"
CALL: Final = "function_call"


class Did(Enum):
    """What a delta did to an item."""

    OPENED = "opened"
    GREW = "grew"
    CLOSED = "closed"


@dataclass(slots=True)
class OutputItem:
    """One item; `pieces` joined are its text, its thoughts or its arguments."""

    kind: str
    id: str
    # Among the items of the response.
    place: int
    status: str = "in_progress"
    pieces: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    call_id: str = ""
    name: str = ""
    # The worker's number of the call.
    number: int = -1
    seal: bool = False

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self.pieces)

    def part(self) -> Json:
        """Its only part of content, where it has one."""
        if self.kind == REASONING:
            return {"type": "reasoning_text", "text": self.text}
        return {
            "type": "output_text",
            "annotations": [],
            "logprobs": list(self.logprobs),
            "text": self.text,
        }

    def json(self, *, parts: bool = True) -> Json:
        """The item; without `parts` as it is told when it begins."""
        if self.kind == CALL:
            return {
                "id": self.id,
                "type": CALL,
                "status": self.status,
                "arguments": self.text,
                "call_id": self.call_id,
                "name": self.name,
            }
        content = [self.part()] if parts else []
        if self.kind == MESSAGE:
            return {
                "id": self.id,
                "type": MESSAGE,
                "status": self.status,
                "role": "assistant",
                "content": content,
            }
        made: Json = {
            "id": self.id,
            "type": REASONING,
            "summary": [],
            "content": content,
            "status": self.status,
        }
        if self.seal:
            made["encrypted_content"] = sealed.closed(self.text) if parts else ""
        return made


@dataclass(frozen=True, slots=True)
class Step:
    """`text` and `logprobs` are what it grew by."""

    did: Did
    item: OutputItem
    text: str = ""
    logprobs: Sequence[Json] = ()


class Output:
    """The items of one response. State: those so far, of which the last may be open."""

    def __init__(self, ids: Ids, *, seal: bool = False) -> None:
        """`seal`: whether thoughts are told in their opaque form, too."""
        self._ids = ids
        self._seal = seal
        self.items: list[OutputItem] = []
        self._open: OutputItem | None = None
        self._tokens = ContentLogprobs()

    def feed(self, delta: pb.Delta) -> Iterator[Step]:
        """What a delta did. Raises ApiError where it goes on with a call that is over."""
        logprobs = [logprob_entry(entry) for entry in self._tokens.add(delta)]
        if delta.reasoning:
            yield from self._grow(REASONING, delta.reasoning)
        if delta.text or logprobs:
            yield from self._grow(MESSAGE, delta.text, logprobs)
        for piece in delta.tool_calls:
            yield from self._call(piece)

    def end(self, status: str, *, whole: bool) -> Iterator[Step]:
        """Closes what is open with this status.

        `whole`: the model came to an end, so there is a message, if an empty one.
        """
        said = any(item.kind != REASONING for item in self.items)
        if whole and not said and (status == "completed" or not self.items):
            yield from self._grow(MESSAGE, "")
        yield from self._close(status)

    def json(self) -> list[Json]:
        """All items."""
        return [item.json() for item in self.items]

    def _is_open(self, kind: str) -> bool:
        return self._open is not None and self._open.kind == kind

    def _grow(self, kind: str, text: str, logprobs: Sequence[Json] = ()) -> Iterator[Step]:
        if not self._is_open(kind):
            yield from self._begin(kind)
        item = self._open
        assert item is not None
        if text or logprobs:
            item.pieces.append(text)
            item.logprobs.extend(logprobs)
            yield Step(Did.GREW, item, text, logprobs)

    def _call(self, piece: pb.ToolCallDelta) -> Iterator[Step]:
        last = self._open
        if last is None or last.number != piece.index:
            if any(item.number == piece.index for item in self.items):
                raise errors.internal()
            yield from self._begin(CALL, piece)
            last = self._open
            assert last is not None
        if piece.arguments_json:
            last.pieces.append(piece.arguments_json)
            yield Step(Did.GREW, last, piece.arguments_json)

    def _begin(self, kind: str, call: pb.ToolCallDelta | None = None) -> Iterator[Step]:
        yield from self._close("completed")
        place = len(self.items)
        item = OutputItem(kind, self._ids.output(kind, place), place)
        item.seal = self._seal and kind == REASONING
        if call is not None:
            item.call_id, item.name, item.number = call.id, call.name, call.index
        self.items.append(item)
        self._open = item
        yield Step(Did.OPENED, item)

    def _close(self, status: str) -> Iterator[Step]:
        item, self._open = self._open, None
        if item is not None:
            item.status = status
            yield Step(Did.CLOSED, item)
