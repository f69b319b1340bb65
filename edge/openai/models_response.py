"""GET /v1/models in OpenAI's shape. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from protos.inference.v1 import inference_pb2 as pb


def model(info: pb.ModelInfo, since: int) -> dict[str, Any]:
    """One model; `since` is its `created` (seconds since 1970) where the worker knows none."""
    created = info.created.seconds if info.HasField("created") else since
    return {
        "id": info.name,
        "object": "model",
        "created": created,
        "owned_by": info.owned_by or "caravan",
    }


def models(infos: Iterable[pb.ModelInfo], since: int) -> dict[str, Any]:
    """The list, sorted by name."""
    data = [model(info, since) for info in sorted(infos, key=lambda info: info.name)]
    return {"object": "list", "data": data}
