"""Every route on one screen."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from edge.anthropic import errors as anthropic
from edge.api import (
    chat,
    completions,
    docs,
    embeddings,
    home,
    infill,
    messages,
    models,
    rerank,
    responses,
    system,
    tokens,
)
from edge.errors import ApiError, Shape, Status, own_status

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

METRICS: Final = "/metrics"


@dataclass(frozen=True, slots=True)
class Route:
    """What is done at a path. `shape` writes errors as its clients expect them, `status` says theirs.

    `open`: everyone may ask, also where keys are needed.
    """

    method: str
    path: str
    handler: Handler
    shape: Shape = ApiError.body
    status: Status = own_status
    open: bool = False


# Of the server itself, and what clients of other servers ask theirs: at these paths only.
SYSTEM: Final = (
    Route("GET", "/", home.about, open=True),
    Route("GET", "/health", system.health, open=True),
    Route("GET", "/health/ready", system.ready, open=True),
    Route("GET", METRICS, system.metrics),
    Route("GET", "/openapi.json", docs.openapi, open=True),
    Route("GET", "/docs", docs.page, open=True),
    # OpenVINO's.
    Route("GET", "/v2/health/live", system.live, open=True),
    Route("GET", "/v2/health/ready", system.ready, open=True),
    Route("GET", "/v1/config", system.config),
    Route("POST", "/v1/config/reload", system.config),
    # Aana's.
    Route("GET", "/api/ready", system.is_ready, open=True),
    Route("GET", "/api/status", system.status),
    # Cohere's.
    Route("POST", "/v2/rerank", rerank.rerank),
)

# Any response, and not an address of OpenAI's that is not here.
_RESPONSE: Final = "{response_id:(?!compact$)[^/]+}"

# Of the APIs: below /v1, and at all the addresses that edge/aliases.py knows.
API: Final = (
    Route("GET", "/models", models.list_models),
    # Names of models may contain slashes.
    Route("GET", "/models/{id:.+}", models.retrieve_model),
    Route("DELETE", "/models/{id:.+}", models.delete_model),
    Route("GET", "/props", models.props),
    Route("POST", "/chat/completions", chat.chat_completions),
    Route("POST", "/completions", completions.completions),
    Route("POST", "/infill", infill.infill),
    Route("POST", "/responses", responses.create),
    Route("POST", "/responses/input_tokens", responses.count),
    Route("GET", f"/responses/{_RESPONSE}", responses.retrieve),
    Route("DELETE", f"/responses/{_RESPONSE}", responses.delete),
    Route("POST", "/responses/{response_id}/cancel", responses.cancel),
    Route("GET", "/responses/{response_id}/input_items", responses.input_items),
    Route("POST", "/messages", messages.messages, anthropic.body, anthropic.status),
    Route(
        "POST", "/messages/count_tokens", messages.count_tokens, anthropic.body, anthropic.status
    ),
    Route("POST", "/embeddings", embeddings.embeddings),
    Route("POST", "/rerank", rerank.rerank),
    # llama.cpp's.
    Route("POST", "/reranking", rerank.rerank),
    Route("POST", "/tokenize", tokens.tokenize),
    Route("POST", "/detokenize", tokens.detokenize),
    Route("POST", "/apply-template", tokens.apply_template),
)
BASE: Final = "/v1"


@dataclass(frozen=True, slots=True)
class Mounted:
    """A route at its path; `name`, the path without patterns, is what logs and metrics call it."""

    route: Route
    path: str
    name: str


def mounted() -> Iterator[Mounted]:
    """All of them, once: their other addresses are rewritten to these."""
    for route in SYSTEM:
        yield Mounted(route, route.path, _plain(route.path))
    for route in API:
        yield Mounted(route, BASE + route.path, _plain(BASE + route.path))


def _plain(path: str) -> str:
    """A path without its patterns: `/v1/models/{id}`."""
    return re.sub(r":[^{}]+\}", "}", path)
