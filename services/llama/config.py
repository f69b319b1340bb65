"""Settings of the llama worker: every flag, variable and default in one place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from services.worker.config import WorkerSettings

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]

# More layers than any model has.
ALL_LAYERS = 10_000


def _layers(value: Any) -> Any:
    return ALL_LAYERS if value == "all" else value


class LlamaSettings(WorkerSettings):
    """One GGUF model, served."""

    model_config = SettingsConfigDict(env_prefix="LLAMA_")

    model: str
    """Path of a GGUF file, or `hf:owner/repo:file-or-quant`."""

    model_name: str = ""
    """Name that end users ask for; default: the model's own name, else its file's."""

    ctx_size: int = Field(default=0, ge=0, le=2**31 - 1)
    """KV cells, shared by all sequences; 0: the trained context, less where memory is short."""

    parallel: int = Field(default=8, ge=1, le=256)
    """Sequences that are generated at once."""

    max_waiting: int = Field(default=128, ge=0)
    """Requests that may wait beyond those; more are refused with RESOURCE_EXHAUSTED."""

    threads: int = Field(default=0, ge=0, le=1024)
    """Compute threads; 0: the physical cores that this process may use."""

    batch_size: int = Field(default=2048, ge=32, le=65536)
    """Most tokens of one decode; at least `parallel`."""

    ubatch_size: int = Field(default=512, ge=32, le=65536)
    """Most tokens that go through the compute graph together."""

    prefill_budget: int = Field(default=256, ge=1, le=65536)
    """Prompt tokens of a step in which others generate: more is throughput, less is smoothness."""

    speculation: bool = True
    """Whether tokens are guessed from the prompt and checked in the same step, where it pays."""

    gpu_layers: Annotated[int, BeforeValidator(_layers)] = Field(default=0, ge=0)
    """Layers on the GPU; `all` for all."""

    cpu_variant: str = "auto"
    """CPU backend (`haswell`, `zen4` …); `auto`: the best that runs here."""

    cache_type_k: CacheType = "f16"
    """Type of the cached keys."""

    cache_type_v: CacheType = "f16"
    """Type of the cached values."""

    mlock: bool = False
    """Whether the weights are kept from being swapped out."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    """Default of requests; unset: the model's, else 1."""

    top_p: float | None = Field(default=None, ge=0, le=1)
    """Default of requests; unset: the model's, else 1."""

    top_k: int | None = Field(default=None, ge=0)
    """Default of requests; unset: the model's, else 0 (off)."""

    min_p: float | None = Field(default=None, ge=0, le=1)
    """Default of requests; unset: the model's, else 0 (off)."""

    repetition_penalty: float | None = Field(default=None, gt=0)
    """Default of requests; unset: the model's, else 1 (off)."""
