"""Images and sounds of a message, by value: `data:` URLs and base64. Nothing is fetched."""

from __future__ import annotations

import base64
import re
from typing import Final

from edge.errors import invalid
from edge.openai.messages import AudioPart, ImagePart
from protos.inference.v1 import inference_pb2 as pb

_DATA_URL: Final = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+);base64,", re.IGNORECASE)
_SOUNDS: Final = {"wav": "audio/wav", "mp3": "audio/mpeg"}


def image(part: ImagePart, param: str) -> pb.Media:
    """The image of a `data:` URL; `param` is the part's path. Raises ApiError 400."""
    url = part.image_url.url
    match = _DATA_URL.match(url)
    if match is None:
        raise invalid(
            f"Invalid '{param}.image_url.url': expected a base64-encoded data URL; this server "
            "does not fetch images.",
            f"{param}.image_url.url",
            "invalid_value",
        )
    mime = match.group(1).lower()
    if not mime.startswith("image/"):
        raise invalid(
            f"Invalid '{param}.image_url.url': expected an image.",
            f"{param}.image_url.url",
            "invalid_value",
        )
    data = _decode(url[match.end() :], f"{param}.image_url.url")
    detail = part.image_url.detail or ""
    # As much as there is: no model here knows more than that.
    return pb.Media(mime_type=mime, data=data, detail="high" if detail == "original" else detail)


def sound(part: AudioPart, param: str) -> pb.Media:
    """The sound of an input_audio part. Raises ApiError 400."""
    data = _decode(part.input_audio.data, f"{param}.input_audio.data")
    return pb.Media(mime_type=_SOUNDS[part.input_audio.format], data=data)


def from_base64(text: str) -> bytes:
    """What it holds; nothing where it is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _decode(text: str, param: str) -> bytes:
    data = from_base64(text)
    if not data:
        raise invalid(f"Invalid '{param}': expected base64 data.", param, "invalid_value")
    return data
