"""The body of POST /v1/completions as OpenAI defines it, types and ranges included.

Unknown keys are dropped.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from edge.openai.fields import FIRST, Part
from edge.openai.sampling_fields import MAX_INT32, Sampled, StreamOptions, Tokens
from edge.openai.structure_fields import Structured

MAX_PROMPTS = 2048

TokenId = Annotated[int, Field(ge=0, le=MAX_INT32)]
TokenIds = Annotated[list[TokenId], FIRST, Field(min_length=1, max_length=2**20)]


def _kind(value: Any) -> str | None:
    """By the first of an array; what it cannot be fails as an array of strings."""
    if isinstance(value, str):
        return "~string"
    if not isinstance(value, list):
        return None
    match value[:1]:
        case [bool()]:
            return "~strings"
        case [int()]:
            return "~tokens"
        case [list()]:
            return "~arrays"
        case _:
            return "~strings"


Prompt = Annotated[
    Annotated[str, Tag("~string")]
    | Annotated[
        Annotated[list[str], FIRST, Field(min_length=1, max_length=MAX_PROMPTS)], Tag("~strings")
    ]
    | Annotated[TokenIds, Tag("~tokens")]
    | Annotated[
        Annotated[list[TokenIds], FIRST, Field(min_length=1, max_length=MAX_PROMPTS)],
        Tag("~arrays"),
    ],
    Discriminator(
        _kind,
        custom_error_type="wanted",
        custom_error_message=(
            "one of a string, array of strings, array of integers, or array of integer arrays"
        ),
    ),
]


class _Asked(Part):
    """What is checked first."""

    model: str
    prompt: Prompt | None = None
    """One or several; absent: the beginning of a text."""
    suffix: str | None = None
    """Text behind the gap that is to be filled."""
    max_tokens: Tokens | None = None
    """Default 16; 0 only reads the prompt."""


# Bases from right to left, each from top to bottom: the order of fields is that of checks.
class CompletionRequest(Structured, Sampled, _Asked):
    """A completion, as asked for. `None` is absent."""

    best_of: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    """Alternatives of each token; 0: the token's own logprob alone."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # Accepted and without effect here.
    user: str | None = None

    # Beyond OpenAI.
    add_special_tokens: bool | None = None
    """Whether a text begins with the model's BOS token; default: as the model's file says."""
