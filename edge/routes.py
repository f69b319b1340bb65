"""Every route on one screen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from edge.api import chat, embeddings, models, rerank, responses, system, tokens
from edge.errors import ApiError, Shape

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """What is done at a path. `shape` writes errors as that API's clients expect them."""

    method: str
    path: str
    handler: Handler
    shape: Shape = ApiError.body


# Of the server itself: at the root only.
SYSTEM: Final = (
    Route("GET", "/", system.about),
    Route("GET", "/health", system.health),
    Route("GET", "/health/ready", system.ready),
    Route("GET", "/metrics", system.metrics),
    # Cohere's.
    Route("POST", "/v2/rerank", rerank.rerank),
)

# Of the APIs: below every prefix. The name of the route, in logs and metrics, is that below /v1.
API: Final = (
    Route("GET", "/models", models.list_models),
    # Names of models may contain slashes.
    Route("GET", "/models/{id:.+}", models.retrieve_model),
    Route("DELETE", "/models/{id:.+}", models.delete_model),
    Route("GET", "/props", models.props),
    Route("POST", "/chat/completions", chat.chat_completions),
    Route("POST", "/embeddings", embeddings.embeddings),
    Route("POST", "/rerank", rerank.rerank),
    Route("POST", "/tokenize", tokens.tokenize),
    Route("POST", "/detokenize", tokens.detokenize),
    Route("POST", "/apply-template", tokens.apply_template),
    Route("POST", "/responses", responses.create),
    Route("POST", "/responses/input_tokens", responses.count),
    Route("GET", "/responses/{response_id}", responses.retrieve),
    Route("DELETE", "/responses/{response_id}", responses.delete),
    Route("POST", "/responses/{response_id}/cancel", responses.cancel),
    Route("GET", "/responses/{response_id}/input_items", responses.input_items),
)
PREFIXES: Final = ("/v1",)


@dataclass(frozen=True, slots=True)
class Mounted:
    """A route at one of its paths; `name` is the same for all of them."""

    route: Route
    path: str
    name: str


def mounted() -> Iterator[Mounted]:
    """All of them, trailing slashes included."""
    for route in SYSTEM:
        yield Mounted(route, route.path, route.path)
        if route.path != "/":
            yield Mounted(route, route.path + "/", route.path)
    for route in API:
        name = _plain(PREFIXES[0] + route.path)
        for prefix in PREFIXES:
            yield Mounted(route, prefix + route.path, name)
            if not route.path.endswith("}"):
                yield Mounted(route, prefix + route.path + "/", name)


def _plain(path: str) -> str:
    """A path without its patterns: `/v1/models/{id}`."""
    return path.replace(":.+}", "}")
