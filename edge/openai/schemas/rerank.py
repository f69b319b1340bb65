"""Answers of POST /v1/rerank."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from edge.openai.schemas.common import Count, Json
from edge.openai.schemas.embeddings import PromptUsage


class Ranked(TypedDict):
    """How well document number `index` fits, 0..1; `document` where it was asked for."""

    index: Count
    relevance_score: Annotated[float, Field(ge=0, le=1)]
    document: NotRequired[Json]


class ApiVersion(TypedDict):
    """Cohere's, whose form this is."""

    version: Literal["2"]


class MetaTokens(TypedDict):
    """Counts of tokens, in Cohere's names."""

    input_tokens: Count
    output_tokens: Count


class Meta(TypedDict):
    """What Cohere's clients read beside the results."""

    api_version: ApiVersion
    tokens: MetaTokens


class Ranking(TypedDict):
    """The documents, best first."""

    id: str
    object: Literal["list"]
    model: str
    results: list[Ranked]
    usage: PromptUsage
    meta: Meta
