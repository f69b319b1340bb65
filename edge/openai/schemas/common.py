"""What the answers of several endpoints have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

Count = Annotated[int, Field(ge=0)]
Json = dict[str, Any]


class ErrorDetails(TypedDict):
    """What is wrong: `param` is the path of the parameter at fault, `code` what a program reads."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(TypedDict):
    """An error, as OpenAI's clients know it. All four keys are always there."""

    error: ErrorDetails


class PromptDetails(TypedDict):
    """`cached_tokens` of the prompt were computed before, for this or another request."""

    cached_tokens: Count
    audio_tokens: Count


class CompletionDetails(TypedDict):
    """What the completion's tokens were spent on."""

    reasoning_tokens: Count
    audio_tokens: Count
    accepted_prediction_tokens: Count
    rejected_prediction_tokens: Count


class Usage(TypedDict):
    """Counts of tokens."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails
