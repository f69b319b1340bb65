"""Blocks as parts of the contract's messages: texts, and images by value.

Pure: what is fetched was put in before (images.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from edge.anthropic.blocks import (
    Base64Image,
    DocumentBlock,
    ImageBlock,
    SearchResultBlock,
    TextBlock,
    TextSource,
)
from edge.anthropic.errors import wrong
from edge.anthropic.rules import blocks as blocks_of
from edge.openai.media import from_base64
from protos.inference.v1 import inference_pb2 as pb

_DATA_URL: Final = re.compile(r"data:(image/[a-z0-9.+-]+);base64,", re.IGNORECASE)


def parts(blocks: Iterable[object], at: int) -> list[pb.ContentPart]:
    """The parts of those that can be read; `at` is the index of their message. Raises ApiError 400."""
    out: list[pb.ContentPart] = []
    for block in blocks:
        match block:
            case TextBlock():
                out.append(pb.ContentPart(text=block.text))
            case ImageBlock():
                out.append(pb.ContentPart(media=_image(block, f"messages.{at}.content")))
            case DocumentBlock():
                out.extend(_document(block, at))
            case SearchResultBlock():
                out.extend(_search_result(block))
    return out


def joined(found: list[pb.ContentPart]) -> list[pb.ContentPart]:
    """One text, where there are only texts: not every template takes a list of a tool's."""
    if any(part.HasField("media") for part in found):
        return found
    return texts(["".join(part.text for part in found)])


def texts(found: Iterable[str]) -> list[pb.ContentPart]:
    """A part for each."""
    return [pb.ContentPart(text=text) for text in found]


def _document(block: DocumentBlock, at: int) -> Iterator[pb.ContentPart]:
    head = "<document>\n"
    if block.title:
        head += f"<title>{block.title}</title>\n"
    if block.context:
        head += f"<context>{block.context}</context>\n"
    yield pb.ContentPart(text=head)
    if isinstance(block.source, TextSource):
        yield pb.ContentPart(text=block.source.data)
    else:
        yield from parts(blocks_of(block.source.content), at)
    yield pb.ContentPart(text="\n</document>\n")


def _search_result(block: SearchResultBlock) -> list[pb.ContentPart]:
    head = f"<title>{block.title}</title>\n<source>{block.source}</source>\n"
    said = [text.text for text in block.content]
    return texts(["<search_result>\n" + head, *said, "\n</search_result>\n"])


def _image(block: ImageBlock, param: str) -> pb.Media:
    source = block.source
    if isinstance(source, Base64Image):
        return pb.Media(mime_type=source.media_type, data=_decoded(source.data, param))
    found = _DATA_URL.match(source.url)
    if found is None:
        raise wrong(
            f"{param}.image.source.url.url",
            "Input should be a base64-encoded data URL: this server does not fetch images",
        )
    data = _decoded(source.url[found.end() :], param)
    return pb.Media(mime_type=found.group(1).lower(), data=data)


def _decoded(text: str, param: str) -> bytes:
    data = from_base64(text)
    if not data:
        raise wrong(f"{param}.image.source", "Input should be an image in base64")
    return data
