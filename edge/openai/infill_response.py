"""The contract's events as llama.cpp's server tells of a completion: piece by piece, or whole. Pure.

What it tells of itself and not of the answer is left out or has its word for "none": the slot, the
prompt as it was processed, most of the settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.duration_pb2 import Duration

from edge.openai.chat_response import logprob_entry
from protos.inference.v1 import inference_pb2 as pb

Json = dict[str, Any]

_NO_SLOT = -1


@dataclass(frozen=True, slots=True)
class Asked:
    """What the answer depends on beside its events."""

    model: str
    # Longest prompt and answer together, in tokens.
    context_length: int
    seed: int
    # -1: what the context leaves.
    n_predict: int = -1
    logprobs: bool = False
    # Whether the tokens' ids are told.
    tokens: bool = False
    # What of the answer is sent. Empty: all.
    fields: Sequence[str] = ()


@dataclass(slots=True)
class _Answer:
    """What is known of an answer."""

    evaluated: int = 0
    predicted: int = 0
    text: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    probabilities: list[Json] = field(default_factory=list)
    # None: it was ended by nobody but the clock.
    finish: pb.ChoiceFinish | None = None

    def take(self, delta: pb.Delta) -> None:
        self.predicted = delta.completion_tokens
        self.text.append(delta.text)
        if delta.HasField("finish"):
            self.finish = delta.finish


class Chunks:
    """A stream: pieces with `stop` false, then what a whole answer has, but no text."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._answer = _Answer()

    def started(self, started: pb.Started) -> Iterator[Json]:
        """Nothing is said yet."""
        self._answer.evaluated = started.prompt_tokens
        yield from ()

    def delta(self, delta: pb.Delta) -> Iterator[Json]:
        """None for a delta that says nothing."""
        self._answer.take(delta)
        if not (delta.text or delta.token_ids or delta.logprobs):
            return
        piece: Json = {
            "index": 0,
            "content": delta.text,
            "tokens": list(delta.token_ids),
            "stop": False,
            "id_slot": _NO_SLOT,
            "tokens_predicted": self._answer.predicted,
            "tokens_evaluated": self._answer.evaluated,
        }
        if self._asked.logprobs:
            piece["completion_probabilities"] = [_probability(entry) for entry in delta.logprobs]
        yield piece

    def finished(self, finished: pb.Finished) -> Iterator[Json]:
        """The end."""
        yield _final(self._asked, self._answer, finished, "")


class Gathered:
    """A whole answer."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._answer = _Answer()
        self._finished = pb.Finished()

    def started(self, started: pb.Started) -> None:
        """Notes the length of the prompt."""
        self._answer.evaluated = started.prompt_tokens

    def delta(self, delta: pb.Delta) -> None:
        """Adds to the answer."""
        answer = self._answer
        answer.take(delta)
        if self._asked.tokens:
            answer.tokens.extend(delta.token_ids)
        if self._asked.logprobs:
            answer.probabilities.extend(_probability(entry) for entry in delta.logprobs)

    def finished(self, finished: pb.Finished) -> None:
        """Notes usage and timings."""
        self._finished = finished

    def json(self) -> Json:
        """The response's body."""
        return _final(self._asked, self._answer, self._finished, "".join(self._answer.text))


def selected(answer: Json, paths: Sequence[str]) -> Json:
    """`{"a/b": 1}` of `{"a": {"b": 1}}` for each path that leads to something."""
    found: Json = {}
    for path in paths:
        value: Any = answer
        for key in path.split("/"):
            if not isinstance(value, dict) or key not in value:
                break
            value = value[key]
        else:
            found[path] = value
    return found


def _final(asked: Asked, answer: _Answer, finished: pb.Finished, content: str) -> Json:
    finish = answer.finish
    limited = finish is None or finish.reason == pb.FINISH_REASON_LENGTH
    matched = "" if finish is None else finish.matched_stop
    whole: Json = {
        "index": 0,
        "content": content,
        "tokens": answer.tokens,
        "id_slot": _NO_SLOT,
        "stop": True,
        "model": asked.model,
        "tokens_predicted": answer.predicted,
        "tokens_evaluated": answer.evaluated,
        "generation_settings": {
            "n_ctx": asked.context_length,
            "n_predict": asked.n_predict,
            "seed": asked.seed,
        },
        "has_new_line": any("\n" in text for text in answer.text),
        # The context was full before it was done.
        "truncated": finish is not None and limited and answer.predicted != asked.n_predict,
        "stop_type": "limit" if limited else "word" if matched else "eos",
        "stopping_word": matched,
        "tokens_cached": finished.usage.cached_tokens,
        "timings": _timings(answer, finished),
    }
    if answer.probabilities:
        whole["completion_probabilities"] = answer.probabilities
    return selected(whole, asked.fields) if asked.fields else whole


def _timings(answer: _Answer, finished: pb.Finished) -> Json:
    usage, timings = finished.usage, finished.timings
    found: Json = {"cache_n": usage.cached_tokens}
    for name, count, duration in (
        ("prompt", max(answer.evaluated - usage.cached_tokens, 0), timings.prefill),
        ("predicted", answer.predicted, timings.decode),
    ):
        milliseconds = _milliseconds(duration)
        found[f"{name}_n"] = count
        found[f"{name}_ms"] = milliseconds
        found[f"{name}_per_token_ms"] = milliseconds / count if count else 0.0
        found[f"{name}_per_second"] = count / milliseconds * 1000 if milliseconds else 0.0
    if usage.draft_tokens:
        found["draft_n"] = usage.draft_tokens
        found["draft_n_accepted"] = usage.accepted_draft_tokens
    return found


def _milliseconds(duration: Duration) -> float:
    return duration.seconds * 1e3 + duration.nanos / 1e6


def _probability(entry: pb.TokenLogprob) -> Json:
    told = logprob_entry(entry)
    told["id"] = entry.token_id
    for top, source in zip(told["top_logprobs"], entry.top, strict=True):
        top["id"] = source.token_id
    return told
