"""From an HTTP request to its parsed body, and to the model it is for: the same for every API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from edge import body, context, errors, media_size
from edge.config import EdgeSettings
from edge.context import Context
from edge.naming import naming
from edge.state import EDGE, Edge
from protos.inference.v1 import inference_pb2 as pb

# As --default-model: the one that is served.
AUTO: Final = "auto"
# Versions in Practicus' addresses of models that name no certain one.
_CURRENT: Final = frozenset({"latest", "prod", "staging"})


@dataclass(frozen=True, slots=True)
class Intake:
    """An admitted request and the JSON of its body."""

    request: web.Request
    edge: Edge
    ctx: Context
    body: dict[str, Any]

    @property
    def settings(self) -> EdgeSettings:
        """The edge's."""
        return self.edge.settings

    @property
    def of_path(self) -> str:
        """The model that the path names, as Azure's do; empty: it names none."""
        name = self.request.get(context.MODEL, "")
        return name and current(name, self.edge.pool.models())

    @property
    def default_model(self) -> str:
        """The model of requests that name none; empty: they are refused."""
        return default_model(self.settings.default_model, self.edge.pool.models())

    def model(self, name: str) -> pb.ModelInfo:
        """The model of that name, noted as the request's. Raises ApiError 403, 404, 429, 503."""
        ctx = self.ctx
        model = find_model(self.edge, name)
        ctx.limits = self.edge.access.admit(ctx.identity, model.name)
        ctx.model = model.name
        return model


@asynccontextmanager
async def admitted(request: web.Request) -> AsyncIterator[Intake]:
    """Reads and parses the body; a place among those being served is held inside. Raises ApiError."""
    edge, ctx = request.app[EDGE], request[context.KEY]
    settings = edge.settings
    # A place is taken once the body is here: clients that drip theirs must not hold all of them.
    edge.admission.check()
    limit = media_size.most(settings, edge.pool.models().values())
    raw = await body.read(request, limit, settings.body_timeout)
    with edge.admission.admit():
        intake = Intake(request, edge, ctx, media_size.parse(raw, settings.max_body_bytes))
        if intake.of_path:
            # It goes before the body's, in every API.
            intake.body["model"] = intake.of_path
        yield intake


def default_model(setting: str, served: Collection[str]) -> str:
    """What the setting means now: `auto` is the only model that is served, where there is one."""
    if setting != AUTO or AUTO in served:
        return setting
    return next(iter(served)) if len(served) == 1 else ""


def default_or_only(edge: Edge) -> str:
    """The default model, or the only one: clients of llama.cpp's server name none."""
    return default_model(edge.settings.default_model or AUTO, edge.pool.models())


def current(name: str, served: Collection[str]) -> str:
    """The name without a version that means "the one that is served"; exact names go first."""
    plain, _, version = name.rpartition("/")
    return plain if version in _CURRENT and name not in served and plain in served else name


def find_model(edge: Edge, name: str) -> pb.ModelInfo:
    """What serves under this name. Raises ApiError 404, 503."""
    models = edge.pool.models()
    meant = naming(edge.settings.model_alias).resolve(current(name, models), models)
    found = models.get(meant)
    if found is not None:
        return found
    # Before any worker has said what it serves nobody can know that a model does not exist.
    raise errors.model_not_found(name) if models else errors.no_worker()
