"""The bodies of POST /v1/responses and of its count of tokens, types and ranges included.

Unknown keys are dropped.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from edge.openai.chat_request import MaxTokens, MetadataKey, MetadataValue
from edge.openai.fields import FIRST, Name, Object, Part, string_or, tagged
from edge.openai.sampling_fields import MAX_INT32, Sampled
from edge.openai.structure_fields import (
    JsonObjectFormat,
    OtherFormat,
    SchemaOrText,
    Structured,
    TextFormat,
)
from edge.responses.item_models import Input

# --------------------------------------------------------------------------------------- tools


class FunctionTool(Part):
    """A function that the model may call; `parameters` is a JSON schema, absent: no arguments."""

    beside = frozenset({"allowed_callers", "async", "defer_loading", "output_schema"})

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: Object | None = None
    strict: bool | None = None


class OtherTool(Part):
    """No tool that there is: hosted and custom ones are refused, with the types that there are."""

    type: Literal["function"]


Tool = Annotated[
    Annotated[FunctionTool, Tag("~function")] | Annotated[OtherTool, Tag("~other")],
    tagged("type", frozenset({"function"})),
]
Tools = Annotated[list[Tool], FIRST, Field(max_length=128)]


class FunctionChoice(Part):
    """This function and no other."""

    type: Literal["function"]
    name: str


class AllowedFunction(Part):
    """One of the allowed tools."""

    type: Literal["function"] = "function"
    name: str


class AllowedChoice(Part):
    """Only these tools, and whether one of them must be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedFunction], FIRST, Field(min_length=1, max_length=128)]


class OtherChoice(Part):
    """Exists to fail with the types that there are."""

    type: Literal["function", "allowed_tools"]


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("~string")]
    | Annotated[
        Annotated[
            Annotated[FunctionChoice, Tag("~function")]
            | Annotated[AllowedChoice, Tag("~allowed_tools")]
            | Annotated[OtherChoice, Tag("~other")],
            tagged("type", frozenset({"function", "allowed_tools"})),
        ],
        Tag("~object"),
    ],
    string_or(dict, "~object", "one of a string or object"),
]

# ---------------------------------------------------------------------------------------- text


class SchemaFormat(Part):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]
    name: Name
    schema_: Annotated[Object, Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


Format = Annotated[
    Annotated[TextFormat, Tag("~text")]
    | Annotated[JsonObjectFormat, Tag("~json_object")]
    | Annotated[SchemaFormat, Tag("~json_schema")]
    | Annotated[OtherFormat, Tag("~other")],
    tagged("type", frozenset({"text", "json_object", "json_schema"})),
]


class Text(Part):
    """What the text must look like; `verbosity` is for templates that know it."""

    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Part):
    """`effort` none switches thinking off and any other on, where the model can; templates get it.

    There are no summaries here: what is thought is told as it is.
    """

    beside = frozenset({"context", "mode"})

    effort: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]

# ------------------------------------------------------------------------------------- request


class StreamOptions(Part):
    """Obfuscation is accepted and not done."""

    include_obfuscation: bool | None = None


ResponseId = Annotated[str, Field(max_length=128)]
EndUser = Annotated[str, Field(max_length=1024)]


class _Asked(Part):
    """What responses and counts of their tokens have in common; checked first."""

    model: str
    input: Input | None = None
    instructions: str | None = None
    previous_response_id: ResponseId | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None

    conversation: SchemaOrText | None = None
    """Refused: conversations go on by `previous_response_id`."""

    # Beyond OpenAI, as for chats.
    chat_template_kwargs: Object | None = None
    documents: Annotated[list[Object], FIRST, Field(max_length=1024)] | None = None

    @property
    def functions(self) -> list[FunctionTool]:
        """The tools, of which other kinds were refused."""
        return [tool for tool in self.tools or () if isinstance(tool, FunctionTool)]


class CountRequest(_Asked):
    """Whose tokens are to be counted."""

    personality: Annotated[str, Field(max_length=64)] | None = None
    """Accepted and without effect here."""


# Bases from right to left, each from top to bottom: the order of fields is that of checks.
class ResponseRequest(Structured, Sampled, _Asked):
    """A response, as asked for. `None` is absent."""

    n: Annotated[int, Field(ge=1, le=1)] | None = None
    """There is always one."""
    max_output_tokens: MaxTokens | None = None
    max_tool_calls: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None
    """Of hosted tools, of which there are none."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Annotated[list[Includable], FIRST, Field(max_length=64)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    store: bool | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], FIRST, Field(max_length=16)] | None = None

    # Told again in the response, and without effect here.
    user: EndUser | None = None
    safety_identifier: EndUser | None = None
    prompt_cache_key: EndUser | None = None
    prompt_cache_retention: Annotated[str, Field(max_length=32)] | None = None
    service_tier: Annotated[str, Field(max_length=32)] | None = None

    # Refused.
    prompt: Object | None = None
    moderation: Object | None = None

    # Accepted and without effect here.
    context_management: Annotated[list[Object], FIRST, Field(max_length=64)] | None = None
    prompt_cache_options: Object | None = None
    background_options: Object | None = None
    image: Object | None = None
    access_programs: Object | None = None

    # Beyond OpenAI, as for chats.
    reasoning_budget: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None

    @property
    def stored(self) -> bool:
        """Whether it is kept."""
        return self.store is not False

    def includes(self, what: Includable) -> bool:
        """Whether this was asked for in `include`."""
        return what in (self.include or ())
