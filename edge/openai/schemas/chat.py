"""Answers of POST /v1/chat/completions, whole and chunk by chunk."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from edge.openai.schemas.common import Count, Json, Usage

Byte = Annotated[int, Field(ge=0, le=255)]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class LikelyToken(TypedDict):
    """A token and the logarithm of its probability; `bytes` where the text is half a character."""

    token: str
    logprob: Annotated[float, Field(le=0)]
    bytes: list[Byte]


class TokenLogprob(LikelyToken):
    """A token that was generated, and what else was likely in its place."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(TypedDict):
    """Logprobs of the tokens; those of a refusal are not told apart."""

    content: list[TokenLogprob]
    refusal: None


class FunctionCalled(TypedDict):
    """A call; `arguments` is JSON as text, as the model wrote it."""

    name: str
    arguments: str


class ToolCalled(TypedDict):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: FunctionCalled


class ChatAnswer(TypedDict):
    """What the model said. `content` is null where the calls are the answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    annotations: list[Json]
    reasoning_content: NotRequired[str]
    reasoning: NotRequired[str]
    tool_calls: NotRequired[list[ToolCalled]]
    function_call: NotRequired[FunctionCalled]


class ChatChoice(TypedDict):
    """One of the `n` answers."""

    index: Count
    message: ChatAnswer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(TypedDict):
    """A whole answer; `created` is in seconds since 1970."""

    id: str
    object: Literal["chat.completion"]
    created: Count
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class FunctionPiece(TypedDict):
    """`name` comes once, whole, with the first piece of the call."""

    name: NotRequired[str]
    arguments: str


class ToolCallPiece(TypedDict):
    """A piece of the call number `index`; `id` and `type` come with its first."""

    index: Count
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionPiece


class ChatDelta(TypedDict):
    """What is new; empty in the chunk that ends its choice."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    refusal: NotRequired[str | None]
    reasoning_content: NotRequired[str]
    reasoning: NotRequired[str]
    tool_calls: NotRequired[list[ToolCallPiece]]
    function_call: NotRequired[FunctionPiece]


class ChunkChoice(TypedDict):
    """News of one of the `n` answers."""

    index: Count
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(TypedDict):
    """An event's data. `choices` is empty in the last one, which has the usage, if that was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: Count
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: NotRequired[Usage | None]
