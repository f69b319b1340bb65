"""Answers of /v1/responses: the response, its items, and the events that tell of it."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from edge.openai.schemas.chat import TokenLogprob
from edge.openai.schemas.common import Count, Json

Status = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

# ------------------------------------------------------------------------------- what comes out


class OutputText(TypedDict):
    """Text of the model; logprobs where they were asked for."""

    type: Literal["output_text"]
    text: str
    annotations: list[Json]
    logprobs: list[TokenLogprob]


class ReasoningText(TypedDict):
    """Thoughts of the model, as they were."""

    type: Literal["reasoning_text"]
    text: str


class OutputMessage(TypedDict):
    """What the model said. It has no content yet when it begins."""

    id: str
    type: Literal["message"]
    status: Status
    role: Literal["assistant"]
    content: list[OutputText]


class ReasoningOutput(TypedDict):
    """What the model thought; `encrypted_content` where it was asked for."""

    id: str
    type: Literal["reasoning"]
    summary: list[Json]
    content: list[ReasoningText]
    status: Status
    encrypted_content: NotRequired[str]


class FunctionCalled(TypedDict):
    """A call; `arguments` is JSON as text, as the model wrote it."""

    id: str
    type: Literal["function_call"]
    status: Status
    arguments: str
    call_id: str
    name: str


OutputItem = Annotated[
    OutputMessage | ReasoningOutput | FunctionCalled, Field(discriminator="type")
]

# --------------------------------------------------------------------------------- the response


class ResponseError(TypedDict):
    """Why a response failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(TypedDict):
    """Why a response was cut off."""

    reason: Literal["max_output_tokens", "content_filter"]


class ReasoningAsked(TypedDict):
    """What was asked about thinking."""

    effort: str | None
    summary: str | None


class TextAsked(TypedDict):
    """What was asked about the text."""

    format: Json
    verbosity: Literal["low", "medium", "high"]


class ToolAsked(TypedDict):
    """A function that the model might call."""

    type: Literal["function"]
    name: str
    description: str | None
    parameters: Json | None
    strict: bool | None


class InputDetails(TypedDict):
    """`cached_tokens` of the prompt were computed before, for this or another request."""

    cached_tokens: Count
    cache_write_tokens: Count


class OutputDetails(TypedDict):
    """What the output's tokens were spent on."""

    reasoning_tokens: Count


class ResponseUsage(TypedDict):
    """Counts of tokens."""

    input_tokens: Count
    input_tokens_details: InputDetails
    output_tokens: Count
    output_tokens_details: OutputDetails
    total_tokens: Count


class Response(TypedDict):
    """A response: what was asked, and what came of it. All keys are always there.

    Times are in seconds since 1970.
    """

    id: str
    object: Literal["response"]
    created_at: Count
    status: ResponseStatus
    background: bool
    completed_at: Count | None
    error: ResponseError | None
    frequency_penalty: float
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    presence_penalty: float
    previous_response_id: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    reasoning: ReasoningAsked
    safety_identifier: str | None
    service_tier: Literal["default"]
    store: bool
    temperature: float
    text: TextAsked
    tool_choice: Literal["none", "auto", "required"] | Json
    tools: list[ToolAsked]
    top_logprobs: Count
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]


class DeletedResponse(TypedDict):
    """It is gone."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputTokens(TypedDict):
    """Tokens that a prompt would have."""

    object: Literal["response.input_tokens"]
    input_tokens: Count


# -------------------------------------------------------------------------------- what went in


class InputMessage(TypedDict):
    """A message that went in; its content is of parts as they were sent."""

    id: str
    type: Literal["message"]
    role: Literal["user", "assistant", "system", "developer"]
    status: Status
    content: list[Json]


class FunctionOutput(TypedDict):
    """What a function answered."""

    id: str
    type: Literal["function_call_output"]
    call_id: str
    output: str | list[Json]
    status: Status


InputItem = Annotated[
    InputMessage | ReasoningOutput | FunctionCalled | FunctionOutput, Field(discriminator="type")
]


class InputItemList(TypedDict):
    """A page of what a response was made from."""

    object: Literal["list"]
    data: list[InputItem]
    first_id: str | None
    last_id: str | None
    has_more: bool


# -------------------------------------------------------------------------------------- events


class _Event(TypedDict):
    sequence_number: Count


class ResponseEvent(_Event):
    """The response as it begins, and as it ended."""

    type: Literal[
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: Response


class ItemEvent(_Event):
    """An item begins, and is done."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: Count
    item: OutputItem


class _OfItem(_Event):
    item_id: str
    output_index: Count


class PartEvent(_OfItem):
    """The content of an item begins, and is done."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    content_index: Count
    part: Annotated[OutputText | ReasoningText, Field(discriminator="type")]


class TextDelta(_OfItem):
    """A piece of text."""

    type: Literal["response.output_text.delta"]
    content_index: Count
    delta: str
    logprobs: list[TokenLogprob]


class TextDone(_OfItem):
    """All of a text."""

    type: Literal["response.output_text.done"]
    content_index: Count
    text: str
    logprobs: list[TokenLogprob]


class ReasoningDelta(_OfItem):
    """A piece of thoughts."""

    type: Literal["response.reasoning_text.delta"]
    content_index: Count
    delta: str


class ReasoningDone(_OfItem):
    """All of the thoughts."""

    type: Literal["response.reasoning_text.done"]
    content_index: Count
    text: str


class ArgumentsDelta(_OfItem):
    """A piece of a call's arguments."""

    type: Literal["response.function_call_arguments.delta"]
    delta: str


class ArgumentsDone(_OfItem):
    """All of a call's arguments."""

    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


class ErrorEvent(_Event):
    """What went wrong; the response as it failed comes next."""

    type: Literal["error"]
    code: str | None
    message: str
    param: str | None


StreamEvent = Annotated[
    ResponseEvent
    | ItemEvent
    | PartEvent
    | TextDelta
    | TextDone
    | ReasoningDelta
    | ReasoningDone
    | ArgumentsDelta
    | ArgumentsDone
    | ErrorEvent,
    Field(discriminator="type"),
]
