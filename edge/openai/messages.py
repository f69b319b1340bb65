"""The messages of a chat as OpenAI defines them: roles, content parts, tool calls."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from edge.openai.fields import FIRST, Object, Part, StringOrArray, tagged

# ------------------------------------------------------------------------------------- content


class TextPart(Part):
    """Text."""

    beside = frozenset({"prompt_cache_breakpoint"})

    type: Literal["text"]
    text: str


class RefusalPart(Part):
    """What an assistant refused with."""

    type: Literal["refusal"]
    refusal: str


Detail = Literal["auto", "low", "high", "original"]


class ImageUrl(Part):
    """Where an image is: a `data:` URL, or an address at one of the hosts of `--media-hosts`."""

    url: str
    detail: Detail | None = None


class ImagePart(Part):
    """An image."""

    beside = frozenset({"prompt_cache_breakpoint"})

    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(Part):
    """A sound, and how it is packed."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Part):
    """A sound in base64."""

    beside = frozenset({"prompt_cache_breakpoint"})

    type: Literal["input_audio"]
    input_audio: InputAudio


class FilePart(Part):
    """A file: typed here, refused later for want of a model that reads one."""

    beside = frozenset({"prompt_cache_breakpoint"})

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


TextParts = Annotated[
    list[
        Annotated[
            Annotated[TextPart, Tag("~text")] | Annotated[OtherTextPart, Tag("~other")],
            tagged("type", frozenset({"text"})),
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
            tagged("type", frozenset({"text", "image_url", "input_audio", "file"})),
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
            tagged("type", frozenset({"text", "refusal"})),
        ]
    ],
    FIRST,
    Field(min_length=1),
]
TextContent = StringOrArray[TextParts]
UserContent = StringOrArray[UserParts]
AssistantContent = StringOrArray[AssistantParts]

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

    beside = frozenset({"annotations", "audio"})

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

    beside = frozenset({"name"})

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
    tagged("role", ROLES),
]
