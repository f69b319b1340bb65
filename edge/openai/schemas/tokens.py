"""Answers of /tokenize, /detokenize and /apply-template."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from edge.openai.schemas.chat import Byte
from edge.openai.schemas.common import Count


class TokenPiece(TypedDict):
    """A token; the bytes of its text where that is a part of a character."""

    id: Count
    piece: str | list[Byte]


class Tokenized(TypedDict):
    """The tokens; a list for each text where a list of texts was sent."""

    tokens: list[Count] | list[TokenPiece] | list[list[Count]] | list[list[TokenPiece]]
    count: Count
    max_model_len: Count
    token_strs: NotRequired[list[str] | list[list[str]]]


class Detokenized(TypedDict):
    """The text, under two names."""

    prompt: str
    content: str


class Rendered(TypedDict):
    """What the model would read."""

    prompt: str
