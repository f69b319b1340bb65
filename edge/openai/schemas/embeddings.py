"""Answers of POST /v1/embeddings."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from edge.openai.schemas.common import Count


class PromptUsage(TypedDict):
    """Counts of tokens where nothing is generated."""

    prompt_tokens: Count
    total_tokens: Count


class Embedding(TypedDict):
    """The vector of input number `index`, of norm 1: numbers, or their little-endian float32 in base64."""

    object: Literal["embedding"]
    index: Count
    embedding: list[float] | str


class EmbeddingList(TypedDict):
    """A vector for each input, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: PromptUsage
