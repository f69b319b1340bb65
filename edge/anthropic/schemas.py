"""What POST /v1/messages, its stream and what belongs to it answer, as types."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Count = Annotated[int, Field(ge=0)]
StopReason = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "refusal",
    "model_context_window_exceeded",
]


class TextAnswer(TypedDict):
    """What the model said."""

    type: Literal["text"]
    text: str


class ThinkingAnswer(TypedDict):
    """What the model thought; `signature` belongs to it when it is sent back."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class ToolUseAnswer(TypedDict):
    """A call for the client to make."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


BlockAnswer = Annotated[TextAnswer | ThinkingAnswer | ToolUseAnswer, Field(discriminator="type")]


class OutputTokensDetails(TypedDict):
    """What output tokens were spent on."""

    thinking_tokens: Count


class FinalUsage(TypedDict):
    """Tokens: `input_tokens` are those of the prompt that were not found in the cache."""

    input_tokens: Count
    cache_creation_input_tokens: Count
    cache_read_input_tokens: Count
    output_tokens: Count
    output_tokens_details: OutputTokensDetails


class CacheCreation(TypedDict):
    """Nothing is billed for what is cached."""

    ephemeral_5m_input_tokens: Count
    ephemeral_1h_input_tokens: Count


class MessageUsage(FinalUsage):
    """The same in a message."""

    cache_creation: CacheCreation
    service_tier: Literal["standard"]


class MessageAnswer(TypedDict):
    """An answer. The first event of a stream has it without content and reason."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[BlockAnswer]
    stop_reason: StopReason | None
    stop_sequence: str | None
    stop_details: None
    container: None
    usage: MessageUsage


# --------------------------------------------------------------------------------------- events


class MessageStart(TypedDict):
    """First."""

    type: Literal["message_start"]
    message: MessageAnswer


class Ping(TypedDict):
    """After it, and in silence."""

    type: Literal["ping"]


class BlockStart(TypedDict):
    """A block begins, empty."""

    type: Literal["content_block_start"]
    index: Count
    content_block: BlockAnswer


class TextDelta(TypedDict):
    """Text."""

    type: Literal["text_delta"]
    text: str


class ThinkingDelta(TypedDict):
    """Thoughts."""

    type: Literal["thinking_delta"]
    thinking: str


class SignatureDelta(TypedDict):
    """The last of a block of thoughts."""

    type: Literal["signature_delta"]
    signature: str


class InputJsonDelta(TypedDict):
    """A piece of the JSON of a call's input."""

    type: Literal["input_json_delta"]
    partial_json: str


class BlockDelta(TypedDict):
    """A block grows."""

    type: Literal["content_block_delta"]
    index: Count
    delta: Annotated[
        TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta, Field(discriminator="type")
    ]


class BlockStop(TypedDict):
    """A block is whole."""

    type: Literal["content_block_stop"]
    index: Count


class Ending(TypedDict):
    """Why the answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None
    stop_details: None
    container: None


class MessageDelta(TypedDict):
    """The end of the answer, and all that was used."""

    type: Literal["message_delta"]
    delta: Ending
    usage: FinalUsage


class MessageStop(TypedDict):
    """Last."""

    type: Literal["message_stop"]


class MoreDetails(TypedDict):
    """What SDKs know how to go on from."""

    error_code: Literal["thread_unsupported_request"]


class ErrorDetails(TypedDict):
    """What is wrong: `type` is what a program reads."""

    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "billing_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "api_error",
        "timeout_error",
        "overloaded_error",
    ]
    message: str
    details: NotRequired[MoreDetails]


class ErrorAnswer(TypedDict):
    """An error, as Anthropic's clients know it; in a stream an event of this name, the last."""

    type: Literal["error"]
    error: ErrorDetails
    request_id: str | None


MessageEvent = Annotated[
    MessageStart
    | Ping
    | BlockStart
    | BlockDelta
    | BlockStop
    | MessageDelta
    | MessageStop
    | ErrorAnswer,
    Field(discriminator="type"),
]

# --------------------------------------------------------------------------------------- others


class TokenCount(TypedDict):
    """Tokens of the prompt, cached or not."""

    input_tokens: Count


class ModelAnswer(TypedDict):
    """A model; `created_at` is RFC 3339, the lengths are in tokens."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]
    max_input_tokens: Count | None
    max_tokens: Count | None


class ModelPage(TypedDict):
    """Some of the models, by name."""

    data: list[ModelAnswer]
    has_more: bool
    first_id: str | None
    last_id: str | None
