"""GET /v1/models as Anthropic's clients expect it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from edge.anthropic.errors import wrong
from protos.inference.v1 import inference_pb2 as pb

MOST: Final = 1000
DEFAULT: Final = 20


def model(info: pb.ModelInfo, since: int) -> dict[str, Any]:
    """One model; `since` is its `created_at` (seconds since 1970) where the worker knows none."""
    created = info.created.seconds if info.HasField("created") else since
    return {
        "type": "model",
        "id": info.name,
        "display_name": info.name,
        "created_at": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": info.context_length or None,
        "max_tokens": info.context_length or None,
    }


def models(infos: Iterable[pb.ModelInfo], since: int, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of the list, sorted by name: `limit`, `after_id`, `before_id`. Raises ApiError 400."""
    found = sorted(infos, key=lambda info: info.name)
    limit = _limit(query.get("limit"))
    after, before = query.get("after_id"), query.get("before_id")
    if before:
        found = [info for info in found if info.name < before]
        page, more = found[-limit:], len(found) > limit
    else:
        found = [info for info in found if not after or info.name > after]
        page, more = found[:limit], len(found) > limit
    return {
        "data": [model(info, since) for info in page],
        "has_more": more,
        "first_id": page[0].name if page else None,
        "last_id": page[-1].name if page else None,
    }


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MOST):
        raise wrong("limit", f"Input should be an integer from 1 to {MOST}")
    return int(text)
