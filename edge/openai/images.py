"""The images of a chat that are at http addresses, and their places in it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from edge.errors import ApiError, invalid
from edge.fetching import Image, is_http
from edge.openai.chat_request import ChatRequest
from edge.openai.messages import ImagePart


def addressed(chat: ChatRequest) -> Iterator[Image]:
    """All of them."""
    for at, message in enumerate(chat.messages):
        content = getattr(message, "content", None)
        if not isinstance(content, list):
            continue
        for place, part in enumerate(content):
            if isinstance(part, ImagePart) and is_http(part.image_url.url):
                param = f"messages[{at}].content[{place}].image_url.url"
                yield Image(param, part.image_url.url, partial(_put, content, place, part))


def not_had(param: str, why: str) -> ApiError:
    """400: an image that was not fetched. See fetching.Wrong."""
    code = None if param == "messages" else "invalid_image_url"
    return invalid(f"Invalid '{param}': {why}.", param, code)


def _put(content: list[Any], at: int, part: ImagePart, url: str) -> None:
    place = part.image_url.model_copy(update={"url": url})
    content[at] = part.model_copy(update={"image_url": place})
