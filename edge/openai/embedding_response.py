"""Vectors as the answer of POST /v1/embeddings. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import orjson

from protos.inference.v1 import inference_pb2 as pb

# Values that are written at once: some milliseconds' work.
_SLICE = 2**16


def packed(vector: pb.Embedding) -> bytes:
    """The values as little-endian float32: what the message's own encoding ends with."""
    vector.DiscardUnknownFields()
    data = vector.SerializeToString()
    return data[len(data) - 4 * len(vector.values) :]


def slices(answer: pb.EmbedResponse, *, as_base64: bool) -> Iterator[list[orjson.Fragment]]:
    """The answer's `data`, written already, in slices: between two of them others have their turn."""
    done: list[orjson.Fragment] = []
    values = 0
    for at, vector in enumerate(answer.embeddings):
        entry = {"object": "embedding", "index": at, "embedding": _written(vector, as_base64)}
        done.append(orjson.Fragment(orjson.dumps(entry)))
        values += len(vector.values)
        if values >= _SLICE:
            yield done
            done, values = [], 0
    yield done


def json(data: list[orjson.Fragment], model: str, usage: pb.Usage) -> dict[str, Any]:
    """The answer's body; `model` is the name that was asked for."""
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens},
    }


def _written(vector: pb.Embedding, as_base64: bool) -> str | list[float]:
    if as_base64:
        return base64.b64encode(packed(vector)).decode()
    return list(vector.values)
