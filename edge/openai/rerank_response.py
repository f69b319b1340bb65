"""Ranks as the answer of POST /v1/rerank: what Cohere's and Jina's clients read, in one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from protos.inference.v1 import inference_pb2 as pb


def merge(answers: Sequence[tuple[int, pb.RerankResponse]], top_n: int | None) -> pb.RerankResponse:
    """One ranking of several, each with the number of its first document; best first."""
    out = pb.RerankResponse()
    ranked = [
        (-result.score, first + result.index)
        for first, answer in answers
        for result in answer.results
    ]
    for score, index in sorted(ranked)[:top_n]:
        out.results.add(index=index, score=-score)
    out.usage.prompt_tokens = sum(answer.usage.prompt_tokens for _, answer in answers)
    return out


def json(
    answer: pb.RerankResponse, *, identifier: str, model: str, documents: Sequence[Any] | None
) -> dict[str, Any]:
    """The answer's body; `documents`, as they were sent, where they are to come back."""
    used = answer.usage.prompt_tokens
    results = []
    for result in answer.results:
        entry: dict[str, Any] = {"index": result.index, "relevance_score": result.score}
        if documents is not None:
            document = documents[result.index]
            entry["document"] = {"text": document} if isinstance(document, str) else document
        results.append(entry)
    return {
        "id": identifier,
        "object": "list",
        "model": model,
        "results": results,
        "usage": {"prompt_tokens": used, "total_tokens": used},
        "meta": {
            "api_version": {"version": "2"},
            "tokens": {"input_tokens": used, "output_tokens": 0},
        },
    }
