"""How much of a body is images and sounds: texts have a limit of their own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from edge.config import EdgeSettings
from edge.errors import ApiError, too_large
from edge.openai import jsonbody
from protos.inference.v1 import inference_pb2 as pb

# Where OpenAI's and Anthropic's APIs have them, as base64 or as `data:` URLs.
_KEYS: Final = frozenset({"url", "image_url", "data", "file_data"})
# What JSON spends its time on and base64 has none of (but a few escaped slashes).
_NO_MEDIA: Final = (b'"', b",", b":", b"\\")
_TAKES: Final = frozenset({pb.CAPABILITY_IMAGE, pb.CAPABILITY_AUDIO})


def largest_body(settings: EdgeSettings) -> int:
    """Bytes of the largest body that is ever read."""
    return settings.max_body_bytes + settings.max_media_bytes


def most(settings: EdgeSettings, models: Iterable[pb.ModelInfo]) -> int:
    """Bytes of the largest body while these models are served: more only where one takes media."""
    takes = any(not _TAKES.isdisjoint(model.capabilities) for model in models)
    return largest_body(settings) if takes else settings.max_body_bytes


def parse(body: bytes, limit: int) -> dict[str, Any]:
    """The JSON of a body of which no more than `limit` bytes are anything else.

    Raises ApiError 400, and 413 also for what is larger and no JSON.
    """
    if len(body) > limit and sum(map(body.count, _NO_MEDIA)) > limit:
        # So much else that to parse it would be what the limit is there to prevent.
        raise too_large(limit)
    try:
        found = jsonbody.parse(body)
    except ApiError:
        if len(body) > limit:
            raise too_large(limit) from None
        raise
    if len(body) > limit and len(body) - _media(found) > limit:
        raise too_large(limit)
    return found


def _media(value: Any) -> int:
    """Characters; the body has been bounded in depth and number."""
    if isinstance(value, Mapping):
        return sum(
            len(item) if key in _KEYS and isinstance(item, str) else _media(item)
            for key, item in value.items()
        )
    return sum(map(_media, value)) if isinstance(value, list) else 0
