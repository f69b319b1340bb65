"""The contract's events as Anthropic's message: event by event, or gathered into one. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pydantic_core

from edge import sse
from edge.anthropic import errors
from edge.anthropic.growing import Blocks, Json
from edge.errors import ApiError
from protos.inference.v1 import inference_pb2 as pb

PING: Final = sse.named("ping", {"type": "ping"})


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an answer before there is one."""

    id: str
    model: str
    max_tokens: int
    # Whether the text of thoughts is part of the answer.
    show_thinking: bool = True
    # Of the HTTP request, for errors.
    request_id: str = ""


class Stream:
    """The answer as events. See edge.answering.Streamed."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._blocks = Blocks(show_thinking=header.show_thinking)
        self._finish = pb.ChoiceFinish()

    def started(self, started: pb.Started) -> Iterator[bytes]:
        """The message without content; how much of the prompt was cached comes with the end."""
        used = pb.Usage(prompt_tokens=started.prompt_tokens)
        message = _message(self._header, [], None, used)
        yield _event({"type": "message_start", "message": message})
        yield PING

    def delta(self, delta: pb.Delta) -> Iterator[bytes]:
        """Blocks that begin, grow and end."""
        if delta.HasField("finish"):
            self._finish = delta.finish
        return map(_event, self._blocks.delta(delta))

    def finished(self, finished: pb.Finished) -> Iterator[bytes]:
        """The end of the open block, why it ended, and all that was used."""
        yield from map(_event, self._blocks.end())
        stop = stop_reason(self._finish, finished.usage, self._header.max_tokens)
        delta = {**stop, "stop_details": None, "container": None}
        yield _event({"type": "message_delta", "delta": delta, "usage": usage(finished.usage)})
        yield _event({"type": "message_stop"})

    def failed(self, error: ApiError) -> Iterator[bytes]:
        """The error; nothing comes after it."""
        error.request_id = self._header.request_id
        yield _event(errors.body(error))


class Gathered:
    """The whole answer. See edge.answering.Gathers."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._growing = Blocks(show_thinking=header.show_thinking)
        self._blocks: list[_Block] = []
        self._finish = pb.ChoiceFinish()
        self._usage = pb.Usage()

    def started(self, started: pb.Started) -> None:
        """Nothing of it is needed."""

    def delta(self, delta: pb.Delta) -> None:
        """Adds what it brings."""
        if delta.HasField("finish"):
            self._finish = delta.finish
        self._take(self._growing.delta(delta))

    def finished(self, finished: pb.Finished) -> None:
        """Notes the usage."""
        self._take(self._growing.end())
        self._usage = finished.usage

    def json(self) -> Json:
        """The response's body, for orjson."""
        content = [block.json() for block in self._blocks]
        stop = stop_reason(self._finish, self._usage, self._header.max_tokens)
        return _message(self._header, content, stop, self._usage)

    def _take(self, events: Iterator[Json]) -> None:
        for event in events:
            match event["type"]:
                case "content_block_start":
                    self._blocks.append(_Block(event["content_block"]))
                case "content_block_delta":
                    self._blocks[event["index"]].grow(event["delta"])


class _Block:
    """A block and the pieces that it grew by."""

    def __init__(self, begun: Json) -> None:
        self._begun = begun
        self._pieces: list[str] = []

    def grow(self, delta: Json) -> None:
        if delta["type"] == "signature_delta":
            self._begun["signature"] = delta["signature"]
            return
        (piece,) = (value for name, value in delta.items() if name != "type")
        self._pieces.append(piece)

    def json(self) -> Json:
        whole = "".join(self._pieces)
        match self._begun["type"]:
            case "tool_use":
                return {**self._begun, "input": _input(whole)}
            case "thinking":
                return {**self._begun, "thinking": whole}
        return {**self._begun, "text": whole}


def stop_reason(finish: pb.ChoiceFinish, used: pb.Usage, max_tokens: int) -> Json:
    """`stop_reason` and `stop_sequence`; a reason of a later contract reads as end_turn."""
    match finish.reason:
        case pb.FINISH_REASON_STOP if finish.matched_stop:
            return {"stop_reason": "stop_sequence", "stop_sequence": finish.matched_stop}
        case pb.FINISH_REASON_LENGTH if used.completion_tokens < max_tokens:
            reason = "model_context_window_exceeded"
        case pb.FINISH_REASON_LENGTH:
            reason = "max_tokens"
        case pb.FINISH_REASON_TOOL_CALLS:
            reason = "tool_use"
        case pb.FINISH_REASON_CONTENT_FILTER:
            reason = "refusal"
        case _:
            reason = "end_turn"
    return {"stop_reason": reason, "stop_sequence": None}


def usage(used: pb.Usage) -> Json:
    """Counts of tokens: those of the prompt that were cached are not among `input_tokens`.

    Whatever is computed is cached, at no cost: none counts as written to the cache.
    """
    cached = min(used.cached_tokens, used.prompt_tokens)
    return {
        "input_tokens": used.prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"thinking_tokens": used.reasoning_tokens},
    }


def _message(header: Header, content: list[Json], stop: Json | None, used: pb.Usage) -> Json:
    return {
        "id": header.id,
        "type": "message",
        "role": "assistant",
        "model": header.model,
        "content": content,
        **(stop or {"stop_reason": None, "stop_sequence": None}),
        "stop_details": None,
        "container": None,
        "usage": {
            **usage(used),
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "service_tier": "standard",
        },
    }


def _input(text: str) -> orjson.Fragment:
    """The arguments as they were written; of those cut off what came, as streams' readers read it."""
    try:
        if isinstance(orjson.loads(text), dict):
            return orjson.Fragment(text)
        found = None
    except orjson.JSONDecodeError:
        found = _begun(text)
    return orjson.Fragment(pydantic_core.to_json(found if isinstance(found, dict) else {}))


def _begun(text: str) -> Any:
    try:
        return pydantic_core.from_json(text or "{}", allow_inf_nan=False, allow_partial=True)
    except ValueError:
        return None


def _event(data: Json) -> bytes:
    return sse.named(data["type"], data)
