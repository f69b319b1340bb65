"""The body of POST /v1/chat/completions as OpenAI defines it, types and ranges included.

Unknown keys are dropped. Unions are chosen by callable discriminators whose tags begin with `~`,
so that `edge.openai.invalid` can leave them out of the path of an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, Tag

MAX_MESSAGES = 2048
MAX_INT32 = 2**31 - 1


class Part(BaseModel):
    """Base of everything in a body: no coercion (a bool is no int, "5" is no int), no NaN."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )


class _First(FailFast):
    """Stops a list at its first error: a body full of errors would take seconds and megabytes."""

    # typing's `|` needs members that hash, which the dataclass it derives from does not.
    __hash__ = object.__hash__


FIRST = _First()
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", min_length=1, max_length=64)]
Object = dict[str, Any]


def _tag(key: str, known: frozenset[str]) -> Discriminator:
    """Chooses by the string under `key`; what is not known is left to the `~other` member."""

    def choose(value: Any) -> str:
        found = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        return f"~{found}" if isinstance(found, str) and found in known else "~other"

    return Discriminator(choose)


def _string_or(member: type, tag: str, wanted: str) -> Discriminator:
    """Chooses between a string and `member`; anything else is an error that says `wanted`."""

    def choose(value: Any) -> str | None:
        if isinstance(value, str):
            return "~string"
        return tag if isinstance(value, member) else None

    return Discriminator(
        choose,
        custom_error_type="wanted",
        custom_error_message=wanted,
    )


# ------------------------------------------------------------------------------------- content


class TextPart(Part):
    """Text."""

    type: Literal["text"]
    text: str


class RefusalPart(Part):
    """What an assistant refused with."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(Part):
    """Where an image is: only `data:` URLs are read, nothing is fetched."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Part):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(Part):
    """A sound in base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Part):
    """A sound."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class FilePart(Part):
    """A file: typed here, refused later for want of a model that reads one."""

    type: Literal["file"]
    file: Object


class OtherTextPart(Part):
    """No part that this message may have: exists to fail with the values it may have."""

    type: Literal["text"]


class OtherUserPart(Part):
    """As above."""

    type: Literal["text", "image_url", "input_audio", "file"]


class OtherAssistantPart(Part):
    """As above."""

    type: Literal["text", "refusal"]


_CONTENT = "one of a string or array of objects"
_PARTS = _string_or(list, "~array", _CONTENT)

TextParts = Annotated[
    list[
        Annotated[
            Annotated[TextPart, Tag("~text")] | Annotated[OtherTextPart, Tag("~other")],
            _tag("type", frozenset({"text"})),
        ]
    ],
    FIRST,
    Field(min_length=1),
]
UserParts = Annotated[
    list[
        Annotated[
            Annotated[TextPart, Tag("~text")]
            | Annotated[ImagePart, Tag("~image_url")]
            | Annotated[AudioPart, Tag("~input_audio")]
            | Annotated[FilePart, Tag("~file")]
            | Annotated[OtherUserPart, Tag("~other")],
            _tag("type", frozenset({"text", "image_url", "input_audio", "file"})),
        ]
    ],
    FIRST,
    Field(min_length=1),
]
AssistantParts = Annotated[
    list[
        Annotated[
            Annotated[TextPart, Tag("~text")]
            | Annotated[RefusalPart, Tag("~refusal")]
            | Annotated[OtherAssistantPart, Tag("~other")],
            _tag("type", frozenset({"text", "refusal"})),
        ]
    ],
    FIRST,
    Field(min_length=1),
]
TextContent = Annotated[
    Annotated[str, Tag("~string")] | Annotated[TextParts, Tag("~array")], _PARTS
]
UserContent = Annotated[
    Annotated[str, Tag("~string")] | Annotated[UserParts, Tag("~array")], _PARTS
]
AssistantContent = Annotated[
    Annotated[str, Tag("~string")] | Annotated[AssistantParts, Tag("~array")], _PARTS
]

# ------------------------------------------------------------------------------------ messages

Participant = Annotated[str, Field(max_length=64)]


class FunctionCall(Part):
    """A call as an assistant made it; `arguments` is JSON as text, as the model wrote it."""

    name: str
    arguments: str = ""


class AssistantToolCall(Part):
    """A call of a tool in an assistant's turn."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    type: Literal["function"] = "function"
    function: FunctionCall


class SystemMessage(Part):
    """Instructions."""

    role: Literal["system", "developer"]
    content: TextContent
    name: Participant | None = None


class UserMessage(Part):
    """What the person said."""

    role: Literal["user"]
    content: UserContent
    name: Participant | None = None


class AssistantMessage(Part):
    """What the model said; content may be null where there are calls."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: Participant | None = None
    tool_calls: Annotated[list[AssistantToolCall], FIRST, Field(max_length=128)] | None = None
    function_call: FunctionCall | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ToolMessage(Part):
    """What a tool answered."""

    role: Literal["tool"]
    content: TextContent
    tool_call_id: Annotated[str, Field(min_length=1, max_length=64)]


class FunctionMessage(Part):
    """What a function answered (the form before tools)."""

    role: Literal["function"]
    content: str | None
    name: str


class OtherMessage(Part):
    """No role that exists: exists to fail with the roles that do."""

    role: Literal["system", "assistant", "user", "function", "tool", "developer"]


ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

Message = Annotated[
    Annotated[SystemMessage, Tag("~system")]
    | Annotated[SystemMessage, Tag("~developer")]
    | Annotated[UserMessage, Tag("~user")]
    | Annotated[AssistantMessage, Tag("~assistant")]
    | Annotated[ToolMessage, Tag("~tool")]
    | Annotated[FunctionMessage, Tag("~function")]
    | Annotated[OtherMessage, Tag("~other")],
    _tag("role", ROLES),
]

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


_CHOICE = _string_or(dict, "~object", "one of a string or object")

ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("~string")]
    | Annotated[
        Annotated[
            Annotated[NamedToolChoice, Tag("~function")]
            | Annotated[AllowedToolChoice, Tag("~allowed_tools")]
            | Annotated[OtherToolChoice, Tag("~other")],
            _tag("type", frozenset({"function", "allowed_tools"})),
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
    """Any JSON object."""

    type: Literal["json_object"]


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
    _tag("type", frozenset({"text", "json_object", "json_schema"})),
]

# ------------------------------------------------------------------------------------- request


class StreamOptions(Part):
    """What a stream carries besides the deltas. Obfuscation is accepted and not done."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


StopString = Annotated[str, Field(min_length=1, max_length=256)]
Stop = Annotated[
    Annotated[StopString, Tag("~string")]
    | Annotated[Annotated[list[StopString], FIRST, Field(max_length=16)], Tag("~array")],
    _string_or(list, "~array", "one of a string or array of strings"),
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
    documents: Annotated[list[Object], FIRST, Field(max_length=1024)] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
