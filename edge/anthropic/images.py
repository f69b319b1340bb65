"""The images of a request that are at http addresses, and their places in it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from edge.anthropic.blocks import (
    ContentSource,
    DocumentBlock,
    ImageBlock,
    ImageUrl,
    ToolResultBlock,
)
from edge.anthropic.errors import wrong
from edge.anthropic.request import CountRequest
from edge.errors import ApiError
from edge.fetching import Image, is_http


def addressed(request: CountRequest) -> Iterator[Image]:
    """All of them, those in results and documents, too."""
    for at, message in enumerate(request.messages):
        yield from _in(getattr(message, "content", ""), f"messages.{at}.content")


def not_had(path: str, why: str) -> ApiError:
    """400: an image that was not fetched, in Anthropic's shape. See fetching.Wrong."""
    return wrong(path, why[:1].upper() + why[1:])


def _in(content: Any, path: str) -> Iterator[Image]:
    """`path` is the content's, as validation would say it: with what unions are chosen by."""
    if not isinstance(content, list):
        return
    for at, block in enumerate(content):
        here = f"{path}.{at}.{getattr(block, 'type', '')}"
        match block:
            case ImageBlock(source=ImageUrl(url=url)) if is_http(url):
                yield Image(f"{here}.source.url.url", url, partial(_put, content, at, block))
            case ToolResultBlock(content=parts):
                yield from _in(parts, f"{here}.content")
            case DocumentBlock(source=ContentSource(content=parts)):
                yield from _in(parts, f"{here}.source.content.content")


def _put(content: list[Any], at: int, block: ImageBlock, url: str) -> None:
    source = block.source.model_copy(update={"url": url})
    content[at] = block.model_copy(update={"source": source})
