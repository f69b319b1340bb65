"""The body of POST /v1/chat/completions as OpenAI defines it, types and ranges included.

Unknown keys are dropped.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from edge.openai.fields import FIRST, Name, Object, Part, string_or, tagged
from edge.openai.messages import Message

MAX_MESSAGES = 2048
MAX_INT32 = 2**31 - 1

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

# ------------------------------------------------------------------------------ response format


class TextFormat(Part):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(Part):
    """Any JSON object; beyond OpenAI, as llama.cpp's server has it, one that satisfies a schema."""

    type: Literal["json_object"]
    schema_: Annotated[Object | None, Field(alias="schema")] = None


class JsonSchema(Part):
    """A schema with its name; without `schema` any JSON object will do."""

    name: Name
    description: str | None = None
    schema_: Annotated[Object | None, Field(alias="schema")] = None
    strict: bool | None = None


class JsonSchemaFormat(Part):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class OtherFormat(Part):
    """Exists to fail with the formats that there are."""

    type: Literal["json_object", "json_schema", "text"]


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("~text")]
    | Annotated[JsonObjectFormat, Tag("~json_object")]
    | Annotated[JsonSchemaFormat, Tag("~json_schema")]
    | Annotated[OtherFormat, Tag("~other")],
    tagged("type", frozenset({"text", "json_object", "json_schema"})),
]

# Beyond OpenAI: what vLLM calls guided decoding, and later structured outputs.
Choices = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=4096)]],
    FIRST,
    Field(min_length=1, max_length=1024),
]
SchemaOrText = Annotated[
    Annotated[str, Tag("~string")] | Annotated[Object, Tag("~object")],
    string_or(dict, "~object", "one of a string or object"),
]


class StructuredOutputs(Part):
    """Exactly one of these; a schema may be its JSON text."""

    json_: Annotated[SchemaOrText | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None


# ------------------------------------------------------------------------------------- request


class StreamOptions(Part):
    """What a stream carries besides the deltas. Obfuscation is accepted and not done."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


StopString = Annotated[str, Field(min_length=1, max_length=256)]
Stop = Annotated[
    Annotated[StopString, Tag("~string")]
    | Annotated[Annotated[list[StopString], FIRST, Field(max_length=16)], Tag("~array")],
    string_or(list, "~array", "one of a string or array of strings"),
]
MaxTokens = Annotated[int, Field(ge=1, le=MAX_INT32)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class ChatRequest(Part):
    """A chat completion, as asked for. `None` is absent; the order of fields is that of checks."""

    model: str
    messages: Annotated[list[Message], FIRST, Field(min_length=1, max_length=MAX_MESSAGES)]

    max_completion_tokens: MaxTokens | None = None
    max_tokens: MaxTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Share | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stop | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Field(ge=-100, le=100)]], FIRST, Field(max_length=1024)
        ]
        | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
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
    service_tier: str | None = None
    prediction: Object | None = None
    web_search_options: Object | None = None
    modalities: Annotated[list[Literal["text", "audio"]], FIRST] | None = None
    audio: Object | None = None

    # Beyond OpenAI: what `extra_body` of the SDK puts at the top level. top_k -1 is off, as 0.
    top_k: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: (
        Annotated[list[Annotated[int, Field(ge=0, le=MAX_INT32)]], FIRST, Field(max_length=64)]
        | None
    ) = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: Object | None = None
    reasoning_budget: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    documents: Annotated[list[Object], FIRST, Field(max_length=1024)] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None

    # Beyond OpenAI, structured output: vLLM's names, then those of llama.cpp's server.
    guided_json: SchemaOrText | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None
    grammar: str | None = None
    json_schema: Object | None = None
