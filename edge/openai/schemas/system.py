"""Answers of the server about itself."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from edge.openai.schemas.common import Count


class About(TypedDict):
    """What this is and how to call it."""

    name: Literal["caravan"]
    description: str
    base_url: str
    models: list[str]
    endpoints: list[str]


class Health(TypedDict):
    """The process is up."""

    status: Literal["ok"]


class WorkerState(TypedDict):
    """A worker as the edge sees it; `in_flight` is what this edge has sent to it."""

    address: str
    model: str | None
    state: str
    in_flight: Count


class Readiness(TypedDict):
    """Whether a request could be answered now, and by whom."""

    status: Literal["ready", "not ready"]
    workers: list[WorkerState]
