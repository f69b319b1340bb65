"""The messages of a request as Anthropic defines them: turns of blocks.

What a union is chosen by stands in an error's path (`messages.0.content.1.text.text`), as it does
in Anthropic's own.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, Tag

from edge.openai.fields import FIRST, Object, Part, string_or, tagged

T = TypeVar("T")
_StringOrList = Annotated[
    Annotated[str, Tag("~string")] | Annotated[T, Tag("~list")],
    string_or(list, "~list", "Input should be a valid string or a valid list"),
]
ToolId = Annotated[str, Field(min_length=1, max_length=64)]


class CacheControl(Part):
    """Where a cached prefix ends. Accepted; every prefix is cached here, of itself."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class _Block(Part):
    cache_control: CacheControl | None = None


class TextBlock(_Block):
    """Text."""

    beside = frozenset({"citations"})

    type: Literal["text"]
    text: str


# ------------------------------------------------------------------------------------- sources


class Base64Image(Part):
    """An image by value."""

    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class ImageUrl(Part):
    """Where an image is: a `data:` URL, or an address at one of the hosts of `--media-hosts`."""

    type: Literal["url"]
    url: str


class ImageBlock(_Block):
    """An image."""

    beside = frozenset({"transformations"})

    type: Literal["image"]
    source: Annotated[Base64Image | ImageUrl, Field(discriminator="type")]


class TextSource(Part):
    """A document as plain text."""

    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str


ContentParts = Annotated[
    list[Annotated[TextBlock | ImageBlock, Field(discriminator="type")]], FIRST
]


class ContentSource(Part):
    """A document of blocks."""

    type: Literal["content"]
    content: _StringOrList[ContentParts]


class DocumentBlock(_Block):
    """A document, which becomes text of the turn. PDFs, files and addresses are refused."""

    type: Literal["document"]
    source: Annotated[TextSource | ContentSource, Field(discriminator="type")]
    title: str | None = None
    context: str | None = None
    citations: Object | None = None
    """Accepted; answers cite nothing."""


class SearchResultBlock(_Block):
    """Something that a search found, which becomes text of the turn."""

    type: Literal["search_result"]
    source: str
    title: str
    content: Annotated[list[TextBlock], FIRST]
    citations: Object | None = None
    """Accepted; answers cite nothing."""


# --------------------------------------------------------------------------- thoughts and tools


class ThinkingBlock(_Block):
    """What the assistant thought; the signature is any."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinkingBlock(_Block):
    """Thoughts that nobody here can read: left out of the prompt."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(_Block):
    """A call that the assistant made."""

    beside = frozenset({"caller", "toolset_name"})

    type: Literal["tool_use"]
    id: ToolId
    name: Annotated[str, Field(min_length=1, max_length=200)]
    input: Object


ResultParts = Annotated[
    list[
        Annotated[
            TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")
        ]
    ],
    FIRST,
]


class ToolResultBlock(_Block):
    """What came of a call."""

    beside = frozenset({"toolset_name"})

    type: Literal["tool_result"]
    tool_use_id: ToolId
    content: _StringOrList[ResultParts] | None = None
    is_error: bool | None = None


# ---------------------------------------------------------------------------------------- turns

UserBlock = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolResultBlock
AssistantBlock = TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock
TextBlocks = Annotated[list[TextBlock], FIRST]


class UserMessage(Part):
    """What the person said, and the results of tools."""

    role: Literal["user"]
    content: _StringOrList[
        Annotated[list[Annotated[UserBlock, Field(discriminator="type")]], FIRST]
    ]


class AssistantMessage(Part):
    """What the model said. As the last message it is continued."""

    role: Literal["assistant"]
    content: _StringOrList[
        Annotated[list[Annotated[AssistantBlock, Field(discriminator="type")]], FIRST]
    ]


SystemText = _StringOrList[TextBlocks]


class SystemMessage(Part):
    """Instructions within the conversation."""

    role: Literal["system"]
    content: SystemText


class OtherMessage(Part):
    """No role that exists: exists to fail with the roles that do."""

    role: Literal["user", "assistant", "system"]


Message = Annotated[
    Annotated[UserMessage, Tag("~user")]
    | Annotated[AssistantMessage, Tag("~assistant")]
    | Annotated[SystemMessage, Tag("~system")]
    | Annotated[OtherMessage, Tag("~other")],
    tagged("role", frozenset({"user", "assistant", "system"})),
]
