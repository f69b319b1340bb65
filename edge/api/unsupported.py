"""Addresses that other servers have and this one has not: a 404 that says so. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge import errors
from edge.errors import ApiError

# Parts of a path that may come before the address itself: prefixes, deployments.
_MOST_BEFORE: Final = 5


@dataclass(frozen=True, slots=True)
class Missing:
    """An address below /v1 and all below it; `what` it is elsewhere, and what to use `instead`."""

    path: str
    what: str
    instead: str = ""


# docs/api/unsupported.md has the same table, which a test compares.
MISSING: Final = (
    Missing("audio", "transcription, translation or speech"),
    Missing("files", "files"),
    Missing("uploads", "uploads"),
    Missing("batches", "batches"),
    Missing("images", "images as answers"),
    Missing("videos", "videos"),
    Missing("moderations", "moderation"),
    Missing("realtime", "realtime sessions"),
    Missing("fine_tuning", "fine-tuning"),
    Missing("fine-tunes", "fine-tuning"),
    Missing("evals", "evaluations"),
    Missing("graders", "graders"),
    Missing("vector_stores", "vector stores"),
    Missing("containers", "containers"),
    Missing("skills", "skills"),
    Missing("assistants", "assistants", "/v1/responses"),
    Missing("threads", "threads", "/v1/responses"),
    Missing("conversations", "stored conversations", "previous_response_id of /v1/responses"),
    Missing("responses/compact", "compaction", "truncation of /v1/responses"),
    Missing("chat/completions", "stored chat completions", "/v1/responses"),
    Missing("edits", "edits", "/v1/chat/completions"),
    Missing("organization", "administration"),
    # Of Anthropic.
    Missing("messages/batches", "batches", "/v1/messages"),
    # Of llama.cpp's server.
    Missing("completion", "llama.cpp's own completions", "/v1/completions"),
    Missing("embedding", "llama.cpp's own embeddings", "/v1/embeddings"),
    Missing("slots", "slots"),
    Missing("lora-adapters", "changes of adapters"),
    # Of vLLM, TEI and KServe.
    Missing("score", "scores of pairs", "/v1/rerank"),
    Missing("classify", "classification"),
    Missing("pooling", "raw hidden states", "/v1/embeddings"),
    Missing("embed", "TEI's own embeddings", "/v1/embeddings"),
    Missing("v2/models", "KServe's protocol"),
)
_BY_PARTS: Final = {tuple(one.path.split("/")): one for one in MISSING}
_MOST_PARTS: Final = max(map(len, _BY_PARTS))


def not_found(method: str, path: str) -> ApiError:
    """404: no such address here; what it would be elsewhere, where that is known."""
    error = errors.unknown_url(method, path)
    missing = _find(path)
    if missing is None:
        return error
    instead = f" Use {missing.instead} instead." if missing.instead else ""
    return ApiError(
        404,
        f"{error.message}. This server does not offer {missing.what}.{instead}",
        code="unsupported_endpoint",
    )


def _find(path: str) -> Missing | None:
    """The first that any part of the path begins, the longest of several."""
    parts = [part for part in path.split("/", _MOST_BEFORE + _MOST_PARTS) if part]
    for begin in range(min(len(parts), _MOST_BEFORE)):
        for count in range(_MOST_PARTS, 0, -1):
            found = _BY_PARTS.get(tuple(parts[begin : begin + count]))
            if found is not None:
                return found
    return None
