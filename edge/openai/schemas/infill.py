"""Answers of POST /v1/infill, in the form of llama.cpp's server."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from edge.openai.schemas.chat import Byte
from edge.openai.schemas.common import Count

Milliseconds = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0)]
# Of a worker's slots nothing is told.
NoSlot = Annotated[int, Field(ge=-1, le=-1)]


class LikelyId(TypedDict):
    """A token and the logarithm of its probability."""

    id: Count
    token: str
    logprob: Annotated[float, Field(le=0)]
    bytes: list[Byte]


class Probability(LikelyId):
    """A token that was generated, and what else was likely in its place."""

    top_logprobs: list[LikelyId]


class InfillSettings(TypedDict):
    """`n_ctx`: longest prompt and answer together, in tokens; `n_predict` -1: what that leaves."""

    n_ctx: Count
    n_predict: int
    seed: Count


class InfillTimings(TypedDict):
    """Of the prompt only what was not cached counts."""

    cache_n: Count
    prompt_n: Count
    prompt_ms: Milliseconds
    prompt_per_token_ms: Milliseconds
    prompt_per_second: Rate
    predicted_n: Count
    predicted_ms: Milliseconds
    predicted_per_token_ms: Milliseconds
    predicted_per_second: Rate
    draft_n: NotRequired[Count]
    draft_n_accepted: NotRequired[Count]


class Infill(TypedDict, total=False):
    """What fills the gap; with `response_fields`, only that of it.

    In a stream it is the last event, without `content`. `stop_type` `limit` is `n_predict`,
    `t_max_predict_ms` or, with `truncated`, the context.
    """

    index: Count
    content: str
    tokens: list[Count]
    id_slot: NoSlot
    stop: Literal[True]
    model: str
    tokens_predicted: Count
    tokens_evaluated: Count
    generation_settings: InfillSettings
    has_new_line: bool
    truncated: bool
    stop_type: Literal["eos", "limit", "word"]
    stopping_word: str
    tokens_cached: Count
    timings: InfillTimings
    completion_probabilities: list[Probability]


class InfillPiece(TypedDict):
    """What is new."""

    index: Count
    content: str
    tokens: list[Count]
    stop: Literal[False]
    id_slot: NoSlot
    tokens_predicted: Count
    tokens_evaluated: Count
    completion_probabilities: NotRequired[list[Probability]]


# An event's data.
InfillEvent = InfillPiece | Infill
