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


class Live(TypedDict):
    """The process is up, in OpenVINO's words."""

    live: Literal[True]


class VersionStatus(TypedDict):
    """Whether it went well; it always does."""

    error_code: Literal["OK"]
    error_message: Literal["OK"]


class ModelVersion(TypedDict):
    """The only version of a model."""

    version: Literal["1"]
    state: Literal["AVAILABLE", "LOADING"]
    status: VersionStatus


class ModelVersions(TypedDict):
    """A model in OpenVINO's words."""

    model_version_status: list[ModelVersion]


class Ready(TypedDict):
    """Whether a request could be answered now, in Aana's words."""

    ready: bool


class Status(TypedDict):
    """The same with a reason."""

    status: Literal["RUNNING", "DEPLOYING", "UNHEALTHY"]
    message: str
