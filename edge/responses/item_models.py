"""What a response can be made from, as clients send it: messages, calls, their outputs, thoughts.

What comes back in a response may be sent as it is; keys that mean nothing here are dropped.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from edge.openai.fields import FIRST, Part, StringOrArray, tagged
from edge.openai.messages import AudioPart, Detail, RefusalPart

MAX_ITEMS = 2048
# What messages of a worker's contract may have in all.
MAX_PARTS = 8192

ItemId = Annotated[str, Field(min_length=1, max_length=128)]
CallId = Annotated[str, Field(min_length=1, max_length=64)]
Status = Literal["in_progress", "completed", "incomplete"]

# ------------------------------------------------------------------------------------- content


class InputText(Part):
    """Text; `text` is what other implementations of the API call it."""

    beside = frozenset({"prompt_cache_breakpoint"})

    type: Literal["input_text", "text"]
    text: str


class InputImage(Part):
    """An image. There are no files here that `file_id` could name."""

    beside = frozenset({"prompt_cache_breakpoint"})

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Detail | None = None


class InputFile(Part):
    """A file, by value."""

    beside = frozenset({"detail", "prompt_cache_breakpoint"})

    type: Literal["input_file"]
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None


class OutputText(Part):
    """Text of an assistant; annotations and logprobs are of no use to it any more."""

    beside = frozenset({"annotations", "logprobs"})

    type: Literal["output_text", "text"]
    text: str


class ReasoningText(Part):
    """Thoughts as they were."""

    type: Literal["reasoning_text"]
    text: str


class SummaryText(Part):
    """A summary of thoughts, of a model that makes some."""

    type: Literal["summary_text"]
    text: str


class OtherText(Part):
    """No content that this message may have: exists to fail with what it may have."""

    type: Literal["input_text"]


class OtherInput(Part):
    """As above."""

    type: Literal["input_text", "input_image", "input_file", "input_audio"]


class OtherOutput(Part):
    """As above."""

    type: Literal["output_text", "refusal"]


_SIZE = Field(min_length=1, max_length=MAX_PARTS)

TextParts = Annotated[
    list[
        Annotated[
            Annotated[InputText, Tag("~input_text")]
            | Annotated[InputText, Tag("~text")]
            | Annotated[OtherText, Tag("~other")],
            tagged("type", frozenset({"input_text", "text"})),
        ]
    ],
    FIRST,
    _SIZE,
]
InputParts = Annotated[
    list[
        Annotated[
            Annotated[InputText, Tag("~input_text")]
            | Annotated[InputText, Tag("~text")]
            | Annotated[InputImage, Tag("~input_image")]
            | Annotated[InputFile, Tag("~input_file")]
            | Annotated[AudioPart, Tag("~input_audio")]
            | Annotated[OtherInput, Tag("~other")],
            tagged(
                "type",
                frozenset({"input_text", "text", "input_image", "input_file", "input_audio"}),
            ),
        ]
    ],
    FIRST,
    _SIZE,
]
OutputParts = Annotated[
    list[
        Annotated[
            Annotated[OutputText, Tag("~output_text")]
            | Annotated[OutputText, Tag("~text")]
            | Annotated[RefusalPart, Tag("~refusal")]
            | Annotated[OtherOutput, Tag("~other")],
            tagged("type", frozenset({"output_text", "text", "refusal"})),
        ]
    ],
    FIRST,
    # An answer that was empty comes back so.
    Field(max_length=MAX_PARTS),
]
TextContent = StringOrArray[TextParts]
InputContent = StringOrArray[InputParts]
OutputContent = StringOrArray[OutputParts]

# --------------------------------------------------------------------------------------- items


class SystemItem(Part):
    """Instructions."""

    beside = frozenset({"phase"})

    type: Literal["message"] | None = None
    role: Literal["system", "developer"]
    content: TextContent
    id: ItemId | None = None
    status: Status | None = None


class UserItem(Part):
    """What the person said."""

    beside = frozenset({"phase"})

    type: Literal["message"] | None = None
    role: Literal["user"]
    content: InputContent
    id: ItemId | None = None
    status: Status | None = None


class AssistantItem(Part):
    """What the model said; its `phase` is accepted and of no use here."""

    type: Literal["message"] | None = None
    role: Literal["assistant"]
    content: OutputContent
    id: ItemId | None = None
    status: Status | None = None
    phase: str | None = None


class OtherMessage(Part):
    """No role that exists: exists to fail with the roles that do."""

    role: Literal["user", "assistant", "system", "developer"]


class FunctionCallItem(Part):
    """A call that the model made; `arguments` is JSON as text."""

    beside = frozenset({"async", "caller", "namespace"})

    type: Literal["function_call"]
    call_id: CallId
    name: Annotated[str, Field(min_length=1, max_length=64)]
    arguments: str
    id: ItemId | None = None
    status: Status | None = None


class FunctionCallOutputItem(Part):
    """What the function answered."""

    beside = frozenset({"caller", "name", "namespace"})

    type: Literal["function_call_output"]
    call_id: CallId
    output: InputContent
    id: ItemId | None = None
    status: Status | None = None


class ReasoningItem(Part):
    """What the model thought: as text, or in the opaque form that was asked for."""

    type: Literal["reasoning"]
    summary: Annotated[list[SummaryText], FIRST, Field(max_length=MAX_PARTS)] = Field(
        default_factory=list
    )
    content: Annotated[list[ReasoningText], FIRST, Field(max_length=MAX_PARTS)] | None = None
    encrypted_content: str | None = None
    id: ItemId | None = None
    status: Status | None = None


class ItemReference(Part):
    """An item of a stored response, by its id."""

    type: Literal["item_reference"] | None = None
    id: ItemId


class OtherItem(Part):
    """No kind of item that is known here: exists to fail with the kinds that are."""

    type: Literal["message", "function_call", "function_call_output", "reasoning", "item_reference"]


def _of(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else getattr(value, key, None)


def _kind(value: Any) -> str:
    """The tag of an item: messages may come without a type, references too."""
    kind = _of(value, "type")
    if kind is None:
        kind = (
            "item_reference"
            if _of(value, "role") is None and _of(value, "id") is not None
            else "message"
        )
    if kind == "message":
        role = _of(value, "role")
        return _ROLES.get(role, "~other_message") if isinstance(role, str) else "~other_message"
    return f"~{kind}" if isinstance(kind, str) and kind in _KINDS else "~other"


_ROLES = {
    "system": "~system",
    "developer": "~system",
    "user": "~user",
    "assistant": "~assistant",
}
_KINDS = frozenset({"function_call", "function_call_output", "reasoning", "item_reference"})

MessageItem = SystemItem | UserItem | AssistantItem
# What is left once references are resolved.
PlainItem = MessageItem | FunctionCallItem | FunctionCallOutputItem | ReasoningItem
Item = Annotated[
    Annotated[SystemItem, Tag("~system")]
    | Annotated[UserItem, Tag("~user")]
    | Annotated[AssistantItem, Tag("~assistant")]
    | Annotated[OtherMessage, Tag("~other_message")]
    | Annotated[FunctionCallItem, Tag("~function_call")]
    | Annotated[FunctionCallOutputItem, Tag("~function_call_output")]
    | Annotated[ReasoningItem, Tag("~reasoning")]
    | Annotated[ItemReference, Tag("~item_reference")]
    | Annotated[OtherItem, Tag("~other")],
    Discriminator(_kind),
]
Items = Annotated[list[Item], FIRST, Field(max_length=MAX_ITEMS)]
Input = StringOrArray[Items]
