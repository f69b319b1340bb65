"""Answers of GET /v1/models and /v1/props."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from edge.openai.schemas.common import Count


class Modalities(TypedDict):
    """What a model reads, and what it gives."""

    input_modalities: list[Literal["text", "image", "audio"]]
    output_modalities: list[Literal["text", "embeddings", "scores"]]


class ModelWorkers(TypedDict):
    """Workers that serve a model: those that could take a request now, and all that are known."""

    ready: Count
    known: Count


class ModelMeta(TypedDict):
    """The model's file and its worker; null where it is not known. `size` is in bytes."""

    architecture: str | None
    quantization: str | None
    n_vocab: Count | None
    n_ctx_train: Count | None
    n_embd: Count | None
    n_params: Count | None
    size: Count | None
    identity: str
    worker_kind: str | None
    worker_version: str | None
    max_running: Count | None


class Model(TypedDict):
    """A model that is served; `created` is in seconds since 1970, lengths are in tokens."""

    id: str
    object: Literal["model"]
    created: Count
    owned_by: str
    max_model_len: Count | None
    context_length: Count | None
    capabilities: list[str]
    architecture: Modalities
    embedding_dimensions: Count | None
    default_parameters: dict[str, float]
    adapters: list[str]
    workers: ModelWorkers
    meta: ModelMeta


class ModelList(TypedDict):
    """All of them, by name."""

    object: Literal["list"]
    data: list[Model]


class GenerationSettings(TypedDict):
    """What a request without parameters is generated with; `n_ctx` is in tokens."""

    id: int
    id_task: int
    n_ctx: Count
    speculative: bool
    is_processing: bool
    params: dict[str, float]


class MediaKinds(TypedDict):
    """What the model reads beside text."""

    vision: bool
    audio: bool


class Props(TypedDict):
    """What llama.cpp's server says of itself, as far as workers tell it."""

    default_generation_settings: GenerationSettings
    total_slots: Count
    model_alias: str
    model_path: str
    modalities: MediaKinds
    build_info: str
