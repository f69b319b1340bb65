"""The contract's events as OpenAI's chat completion: chunk by chunk, or gathered into one. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from edge.openai.content_logprobs import ContentLogprobs
from protos.inference.v1 import inference_pb2 as pb

FINISH: Final[dict[pb.FinishReason.ValueType, str]] = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
    pb.FINISH_REASON_CONTENT_FILTER: "content_filter",
}

# JSON has no -inf: what OpenAI says of what is too unlikely to say.
LEAST_LOGPROB: Final = -9999.0

Json = dict[str, Any]


@lru_cache(maxsize=64)
def fingerprint(identity: str) -> str:
    """`system_fingerprint`: equal for workers whose answers are interchangeable."""
    return "fp_" + hashlib.sha256(identity.encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True)
class Header:
    """What every chunk of an answer repeats. `created` is in seconds since 1970."""

    id: str
    created: int
    model: str
    # Number of choices.
    n: int = 1
    # Calls go out as `function_call`, as they were asked for before there were tools.
    legacy: bool = False


class Chunks:
    """A stream's chunks in OpenAI's order: role, deltas, finish of each choice, then usage."""

    def __init__(self, header: Header, include_usage: bool = False) -> None:
        self._header = header
        self._include_usage = include_usage
        self._fingerprint = ""
        self._open: set[int] = set()
        self._tokens = [ContentLogprobs() for _ in range(header.n)]

    def started(self, started: pb.Started) -> list[Json]:
        """One chunk a choice with the assistant's role."""
        self._fingerprint = fingerprint(started.model_identity)
        self._open = set(range(self._header.n))
        first = {"role": "assistant", "content": "", "refusal": None}
        return [self._chunk(index, dict(first), None) for index in range(self._header.n)]

    def delta(self, delta: pb.Delta) -> list[Json]:
        """None for a delta that only counts, two for one that also ends its choice."""
        out = []
        content = _delta_json(delta, self._header.legacy)
        entries = self._tokens[delta.index].add(delta) if delta.index < self._header.n else ()
        if content or entries:
            shown = content or {"content": ""}
            out.append(self._chunk(delta.index, shown, _logprobs(entries)))
        if delta.HasField("finish"):
            out.append(self._finish(delta.index, delta.finish.reason))
        return out

    def finished(self, finished: pb.Finished) -> list[Json]:
        """What is missing of the finish chunks, and the usage where it was asked for."""
        out = [self._finish(index, pb.FINISH_REASON_STOP) for index in sorted(self._open)]
        if self._include_usage:
            last = self._base([])
            last["usage"] = usage(finished.usage)
            out.append(last)
        return out

    def _finish(self, index: int, reason: pb.FinishReason.ValueType) -> Json:
        self._open.discard(index)
        return self._chunk(index, {}, None, finish(reason, self._header.legacy))

    def _chunk(
        self, index: int, delta: Json, logprobs: Json | None, end: str | None = None
    ) -> Json:
        return self._base(
            [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": end}]
        )

    def _base(self, choices: list[Json]) -> Json:
        base: Json = {
            "id": self._header.id,
            "object": "chat.completion.chunk",
            "created": self._header.created,
            "model": self._header.model,
            "system_fingerprint": self._fingerprint,
            "choices": choices,
        }
        if self._include_usage:
            base["usage"] = None
        return base


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    tokens: ContentLogprobs = field(default_factory=ContentLogprobs)
    logprobs: list[Json] = field(default_factory=list)
    finish: pb.FinishReason.ValueType = pb.FINISH_REASON_STOP


class Gathered:
    """A whole answer, gathered from its events."""

    def __init__(self, header: Header, logprobs: bool = False) -> None:
        self._header = header
        self._logprobs = logprobs
        self._identity = ""
        self._choices = [_Choice() for _ in range(header.n)]
        self._usage = pb.Usage()

    def started(self, started: pb.Started) -> None:
        """Notes who answers."""
        self._identity = started.model_identity

    def delta(self, delta: pb.Delta) -> None:
        """Adds to the delta's choice; one beyond `n` is the worker's mistake and left out."""
        if delta.index >= len(self._choices):
            return
        choice = self._choices[delta.index]
        if delta.text:
            choice.text.append(delta.text)
        if delta.reasoning:
            choice.reasoning.append(delta.reasoning)
        for piece in delta.tool_calls:
            call = choice.calls.setdefault(piece.index, _Call())
            call.id = call.id or piece.id
            call.name = call.name or piece.name
            call.arguments.append(piece.arguments_json)
        choice.logprobs.extend(logprob_entry(entry) for entry in choice.tokens.add(delta))
        if delta.HasField("finish"):
            choice.finish = delta.finish.reason

    def finished(self, finished: pb.Finished) -> None:
        """Notes the usage."""
        self._usage = finished.usage

    def json(self) -> Json:
        """The response's body."""
        return {
            "id": self._header.id,
            "object": "chat.completion",
            "created": self._header.created,
            "model": self._header.model,
            "system_fingerprint": fingerprint(self._identity),
            "choices": [
                {
                    "index": index,
                    "message": _message(choice, self._header.legacy),
                    "logprobs": (
                        {"content": choice.logprobs, "refusal": None} if self._logprobs else None
                    ),
                    "finish_reason": finish(choice.finish, self._header.legacy),
                }
                for index, choice in enumerate(self._choices)
            ],
            "usage": usage(self._usage),
        }


def usage(used: pb.Usage) -> Json:
    """Counts of tokens, with their details."""
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def finish(reason: pb.FinishReason.ValueType, legacy: bool = False) -> str:
    """`finish_reason`; a reason of a later contract reads as stop."""
    if legacy and reason == pb.FINISH_REASON_TOOL_CALLS:
        return "function_call"
    return FINISH.get(reason, "stop")


def _message(choice: _Choice, legacy: bool) -> Json:
    text = "".join(choice.text)
    message: Json = {
        "role": "assistant",
        # Null only where the calls are the answer.
        "content": text if text or not choice.calls else None,
        "refusal": None,
        "annotations": [],
    }
    if choice.reasoning:
        reasoning = "".join(choice.reasoning)
        message["reasoning_content"] = reasoning
        message["reasoning"] = reasoning
    calls = [choice.calls[index] for index in sorted(choice.calls)]
    if calls and legacy:
        message["function_call"] = {
            "name": calls[0].name,
            "arguments": "".join(calls[0].arguments),
        }
    elif calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for call in calls
        ]
    return message


def _delta_json(delta: pb.Delta, legacy: bool) -> Json:
    out: Json = {}
    if delta.text:
        out["content"] = delta.text
    if delta.reasoning:
        out["reasoning_content"] = delta.reasoning
        out["reasoning"] = delta.reasoning
    if delta.tool_calls and legacy:
        pieces = [piece for piece in delta.tool_calls if piece.index == 0]
        call: Json = {"name": pieces[0].name} if pieces and pieces[0].name else {}
        call["arguments"] = "".join(piece.arguments_json for piece in pieces)
        out["function_call"] = call
    elif delta.tool_calls:
        out["tool_calls"] = list(_tool_calls(delta.tool_calls))
    return out


def _tool_calls(pieces: Iterable[pb.ToolCallDelta]) -> Iterable[Json]:
    """One entry a call: clients do not add up two of the same index in one chunk."""
    calls: dict[int, list[pb.ToolCallDelta]] = {}
    for piece in pieces:
        calls.setdefault(piece.index, []).append(piece)
    for index, parts in calls.items():
        entry: Json = {"index": index}
        function: Json = {}
        if parts[0].id:
            entry["id"] = parts[0].id
            entry["type"] = "function"
            function["name"] = parts[0].name
        function["arguments"] = "".join(part.arguments_json for part in parts)
        entry["function"] = function
        yield entry


def _logprobs(entries: Sequence[pb.TokenLogprob]) -> Json | None:
    if not entries:
        return None
    return {"content": [logprob_entry(entry) for entry in entries], "refusal": None}


def logprob_entry(entry: pb.TokenLogprob) -> Json:
    """A token as OpenAI tells it: its likelihood and those of the others."""
    return {**_likely(entry), "top_logprobs": [_likely(top) for top in entry.top]}


def _likely(entry: pb.TokenLogprob) -> Json:
    return {
        # The text may be a part of a character: `bytes` has it exactly.
        "token": entry.token.decode(errors="replace"),
        "logprob": max(entry.logprob, LEAST_LOGPROB)
        if entry.HasField("logprob")
        else LEAST_LOGPROB,
        "bytes": list(entry.token),
    }
