"""The bodies of POST /v1/messages and /v1/messages/count_tokens, types and ranges included.

Unknown keys are dropped.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edge.anthropic.blocks import CacheControl, Message, SystemText
from edge.openai.fields import FIRST, Name, Object, Part

MAX_MESSAGES = 4096
MAX_INT32 = 2**31 - 1

# --------------------------------------------------------------------------------------- tools


class Tool(Part):
    """A tool that the client runs. None runs on this server, and none is known by its type."""

    beside = frozenset(
        {"allowed_callers", "defer_loading", "eager_input_streaming", "input_examples"}
    )

    type: Literal["custom"] | None = None
    name: Name
    description: str | None = None
    input_schema: Object
    """A JSON schema of `type` `object`."""
    strict: bool | None = None
    """Whether the input must satisfy the schema; where it can be enforced it always does."""
    cache_control: CacheControl | None = None


class _Choice(Part):
    disable_parallel_tool_use: bool | None = None


class AutoChoice(_Choice):
    """Calls or text, as the model likes."""

    type: Literal["auto"]


class AnyChoice(_Choice):
    """At least one call."""

    type: Literal["any"]


class ToolChoiceTool(_Choice):
    """This tool."""

    type: Literal["tool"]
    name: str


class NoneChoice(Part):
    """No calls."""

    type: Literal["none"]


ToolChoice = Annotated[
    AutoChoice | AnyChoice | ToolChoiceTool | NoneChoice, Field(discriminator="type")
]

# ------------------------------------------------------------------------------------- thinking

Display = Literal["summarized", "omitted"]


class EnabledThinking(Part):
    """The model thinks first, at most so many tokens. One that cannot think does not."""

    type: Literal["enabled"]
    budget_tokens: Annotated[int, Field(ge=1, le=MAX_INT32)]
    display: Display | None = None


class AdaptiveThinking(Part):
    """The model thinks as long as it likes."""

    type: Literal["adaptive"]
    display: Display | None = None


class DisabledThinking(Part):
    """The model answers at once."""

    type: Literal["disabled"]


Thinking = Annotated[
    EnabledThinking | AdaptiveThinking | DisabledThinking, Field(discriminator="type")
]

# --------------------------------------------------------------------------------------- output


class JsonFormat(Part):
    """The answer is JSON that satisfies this schema."""

    type: Literal["json_schema"]
    schema_: Annotated[Object, Field(alias="schema")]


class OutputConfig(Part):
    """How much effort the answer is worth, where the model's template knows, and its form."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class Metadata(Part):
    """Accepted and without effect."""

    user_id: Annotated[str, Field(max_length=512)] | None = None


# ------------------------------------------------------------------------------------- requests

Share = Annotated[float, Field(ge=0, le=1)]
StopSequence = Annotated[str, Field(min_length=1, max_length=256)]


class CountRequest(Part):
    """What decides how many tokens a prompt has."""

    model: str
    messages: Annotated[list[Message], FIRST, Field(min_length=1, max_length=MAX_MESSAGES)]
    system: SystemText | None = None
    tools: Annotated[list[Tool], FIRST, Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None
    """As `output_config.format`, by its earlier name."""
    cache_control: CacheControl | None = None

    # Typed here, refused where they ask for something.
    mcp_servers: list[Object] | None = None
    """Refused unless empty: this server calls nobody."""
    compaction: Object | None = None
    """Refused, but not where tokens are counted: this server summarizes nothing."""


class MessagesRequest(CountRequest):
    """An answer, as asked for. `None` is absent."""

    max_tokens: Annotated[int, Field(ge=0, le=MAX_INT32)]
    """0 evaluates the prompt and generates nothing."""
    temperature: Share | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    stop_sequences: Annotated[list[StopSequence], FIRST, Field(max_length=16)] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    """Accepted; there is one."""
    container: str | Object | None = None
    """Refused: nothing is executed here."""
    thread: Object | None = None
    """Refused, in words that make the SDKs send whole conversations: none is kept here."""
