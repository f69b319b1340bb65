"""Answers of POST /v1/completions, whole and chunk by chunk."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from edge.openai.schemas.common import Count, Usage

FinishReason = Literal["stop", "length", "content_filter"]


class CompletionLogprobs(TypedDict):
    r"""Parallel lists, an entry a token. Of a prompt's first token nothing is told but itself.

    `top_logprobs` has the likeliest tokens, best first, and the chosen one; `text_offset` counts
    characters of the choice's text. A token that is a part of a character is written as its bytes:
    `bytes:\xf0\x9f`.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[Count]


class CompletionChoice(TypedDict):
    """One of the `n` answers of a prompt; numbered over all prompts, those of the first first."""

    text: str
    index: Count
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason


class Completion(TypedDict):
    """A whole answer; `created` is in seconds since 1970."""

    id: str
    object: Literal["text_completion"]
    created: Count
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage


class CompletionPiece(TypedDict):
    """What is new of a choice; `text` is empty in the chunk that ends it."""

    text: str
    index: Count
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class CompletionChunk(TypedDict):
    """An event's data. `choices` is empty in the last one, which has the usage, if that was asked for."""

    id: str
    object: Literal["text_completion"]
    created: Count
    model: str
    system_fingerprint: str
    choices: list[CompletionPiece]
    usage: NotRequired[Usage | None]
