"""The body of POST /v1/chat/completions as OpenAI defines it, types and ranges included.

Unknown keys are dropped.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from edge.openai.fields import FIRST, Name, Object, Part, string_or, tagged
from edge.openai.messages import Message
from edge.openai.sampling_fields import MAX_INT32, Sampled, StreamOptions
from edge.openai.structure_fields import Structured

MAX_MESSAGES = 2048

# --------------------------------------------------------------------------------------- tools


class Function(Part):
    """A function that the model may call; `parameters` is a JSON schema, absent: no arguments."""

    name: Name
    description: str | None = None
    parameters: Object | None = None
    strict: bool | None = None


class Tool(Part):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class FunctionName(Part):
    """A function by name."""

    name: str


class NamedToolChoice(Part):
    """This function and no other."""

    type: Literal["function"]
    function: FunctionName


class AllowedTool(Part):
    """One of the allowed tools."""

    type: Literal["function"] = "function"
    function: FunctionName


class AllowedTools(Part):
    """A subset of the tools, and whether one of it must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], FIRST, Field(min_length=1, max_length=128)]


class AllowedToolChoice(Part):
    """Only these tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class OtherToolChoice(Part):
    """Exists to fail with the types that there are."""

    type: Literal["function", "allowed_tools"]


_CHOICE = string_or(dict, "~object", "one of a string or object")

ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("~string")]
    | Annotated[
        Annotated[
            Annotated[NamedToolChoice, Tag("~function")]
            | Annotated[AllowedToolChoice, Tag("~allowed_tools")]
            | Annotated[OtherToolChoice, Tag("~other")],
            tagged("type", frozenset({"function", "allowed_tools"})),
        ],
        Tag("~object"),
    ],
    _CHOICE,
]
FunctionChoice = Annotated[
    Annotated[Literal["none", "auto"], Tag("~string")] | Annotated[FunctionName, Tag("~object")],
    _CHOICE,
]

# ------------------------------------------------------------------------------------- request

MaxTokens = Annotated[int, Field(ge=1, le=MAX_INT32)]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class _Asked(Part):
    """What is checked first."""

    model: str
    messages: Annotated[list[Message], FIRST, Field(min_length=1, max_length=MAX_MESSAGES)]

    max_completion_tokens: MaxTokens | None = None
    max_tokens: MaxTokens | None = None


# Bases from right to left, each from top to bottom: the order of fields is that of checks.
class ChatRequest(Structured, Sampled, _Asked):
    """A chat completion, as asked for. `None` is absent."""

    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: Annotated[list[Tool], FIRST, Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], FIRST, Field(min_length=1, max_length=128)] | None = None
    function_call: FunctionChoice | None = None
    reasoning_effort: Annotated[str, Field(max_length=32)] | None = None
    verbosity: Annotated[str, Field(max_length=32)] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], FIRST, Field(max_length=16)] | None = None

    # Accepted and without effect here.
    store: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Object | None = None
    service_tier: str | None = None
    prediction: Object | None = None
    web_search_options: Object | None = None
    modalities: Annotated[list[Literal["text", "audio"]], FIRST] | None = None
    audio: Object | None = None

    # Refused: whoever asks for it counts on it.
    moderation: Object | None = None

    # Beyond OpenAI, as far as only chats have it.
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: Object | None = None
    reasoning_budget: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    documents: Annotated[list[Object], FIRST, Field(max_length=1024)] | None = None
