"""Settings of the llama worker: every flag, variable and default in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from common.settings import Names, split
from services.llama import formats
from services.llama.sampling import defaults
from services.worker.config import WorkerSettings

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
FlashAttention = Literal["auto", "on", "off"]
RopeScaling = Literal["model", "none", "linear", "yarn"]
SplitMode = Literal["none", "layer", "row"]
Numa = Literal["off", "distribute", "isolate", "numactl"]

# `name=path` or `name=path:scale`; of several colons the last may be the scale's.
_LORA = re.compile(r"(?P<name>[\w.-]{1,64})=(?P<path>.+?)(?::(?P<scale>-?\d+(\.\d+)?))?", re.ASCII)

_LEAST, _MOST = 1e-30, 1e30

# More layers than any model has.
ALL_LAYERS = 10_000


def _layers(value: Any) -> Any:
    return ALL_LAYERS if value == "all" else value


def _single(value: float) -> float:
    """llama.cpp's numbers have single precision: what is larger is infinite, what is less is 0."""
    if value and not _LEAST <= abs(value) <= _MOST:
        raise ValueError(f"a number from {_LEAST:g} to {_MOST:g}, or 0")
    return value


Single = Annotated[float, AfterValidator(_single)]
Share = Annotated[Single, Field(ge=0)]
Shares = Annotated[tuple[Share, ...], NoDecode, BeforeValidator(split)]


# `KEY=VALUE` texts, given as Names are, or a mapping.
Pairs = Annotated[Names, BeforeValidator(defaults.written)]


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter as `lora` names it."""

    name: str
    path: Path
    scale: float


class LlamaSettings(WorkerSettings):
    """One GGUF model, served."""

    model_config = SettingsConfigDict(env_prefix="LLAMA_")

    model: str
    """Path of a GGUF file, or `hf:owner/repo:file-or-quant`."""

    model_name: str = ""
    """Name that end users ask for; default: the model's own name, else its file's."""

    ctx_size: int = Field(default=0, ge=0, le=2**31 - 1)
    """KV cells, shared by all sequences; 0: a trained context, or 4096 cells for each sequence if
    that is more, less where memory is short."""

    chat_template: str = ""
    """Chat template instead of the model's own: a file, or one of chatml, hermes, llama3, mistral,
    gemma."""

    tool_format: str = ""
    """How the model writes calls and thoughts (`hermes`, `llama3` …, see docs/formats.md); default:
    what its chat template and tokens show."""

    embed_ctx_size: int = Field(default=0, ge=0, le=2**31 - 1)
    """Longest input of Embed and Rerank, in tokens; 0: the context, for chat models at most 8192,
    for encoders less where memory is short."""

    parallel: int = Field(default=0, ge=0, le=256)
    """Sequences that are generated at once; 0: 8, fewer where memory is short."""

    max_waiting: int = Field(default=128, ge=0)
    """Requests that may wait beyond those; more are refused with RESOURCE_EXHAUSTED."""

    idle_unload: float = Field(default=0, ge=0, le=1e7, allow_inf_nan=False)
    """Seconds without a request after which the model leaves the memory, until the next one; 0:
    never."""

    threads: int = Field(default=0, ge=0, le=1024)
    """Compute threads; 0: the physical cores that this process may use."""

    batch_size: int = Field(default=2048, ge=32, le=65536)
    """Most tokens of one decode; at least `parallel`."""

    ubatch_size: int = Field(default=512, ge=32, le=65536)
    """Most tokens that go through the compute graph together."""

    prefill_budget: int = Field(default=384, ge=1, le=65536)
    """Prompt tokens of a step in which others generate: more is throughput, less is smoothness."""

    cache_ram: int | None = Field(default=None, ge=0, le=2**31 - 1)
    """MiB of memory for what ended sequences held in KV cells, so that prompts to come need not be
    computed again; 0: none; unset: a quarter of what is left, 2048 at most."""

    speculation: bool = True
    """Whether tokens are guessed, from the prompt and by a draft model if there is one, and checked
    in the same step, where it pays."""

    draft_model: str = ""
    """A smaller model with the same vocabulary, a path or hub name as `model`, which guesses tokens
    to come; default: none."""

    mmproj: str = ""
    """The projector that makes images and sounds readable to the model, a path or hub name as
    `model`; default: none."""

    media_cache: int = Field(default=256, ge=0, le=2**31 - 1)
    """MiB of memory for what images and sounds were encoded to, so that the same ones cost nothing
    again."""

    gpu_layers: Annotated[int, BeforeValidator(_layers)] = Field(default=0, ge=0)
    """Layers on the GPU; `all` for all."""

    main_gpu: int = Field(default=0, ge=0, le=255)
    """The GPU that does what is not split, all of it with `--split-mode none`."""

    split_mode: SplitMode = "layer"
    """How several GPUs share a model."""

    tensor_split: Shares = ()
    """Shares of the GPUs, such as `3,1`; default: by their free memory."""

    cpu_variant: str = "auto"
    """CPU backend (`haswell`, `zen4` …); `auto`: the best that runs here."""

    cache_type_k: CacheType = "f16"
    """Type of the cached keys."""

    cache_type_v: CacheType = "f16"
    """Type of the cached values; quantized ones need flash attention."""

    flash_attention: FlashAttention = "auto"
    """Attention without the whole matrix of scores; `auto`: where the backend can."""

    swa_full: bool = True
    """Whether layers with a sliding window keep all of a sequence: more memory, but prefixes can
    be reused."""

    rope_scaling: RopeScaling = "model"
    """How positions beyond the trained context are encoded; `model`: as its file says."""

    rope_scale: Single = Field(default=0, ge=0, le=1e6)
    """How many times the original context is to be used; 0: as the model says."""

    rope_freq_base: Single = Field(default=0, ge=0)
    """Base frequency; 0: the model's."""

    yarn_orig_ctx: int = Field(default=0, ge=0, le=2**31 - 1)
    """YaRN: tokens of the original context; 0: the model's."""

    yarn_ext_factor: Single | None = Field(default=None, ge=0)
    """YaRN: share of extrapolation, 0 is interpolation only; unset: the model's, else 1."""

    yarn_attn_factor: Single | None = Field(default=None, ge=0)
    """YaRN: factor of the magnitude of attention; unset: the model's, else 1."""

    yarn_beta_fast: Single | None = Field(default=None, ge=0)
    """YaRN: high correction dimension; unset: the model's, else 32."""

    yarn_beta_slow: Single | None = Field(default=None, ge=0)
    """YaRN: low correction dimension; unset: the model's, else 1."""

    lora: Names = ()
    """LoRA adapters as `name=path` or `name=path:scale`, for requests that name one; repeatable."""

    mmap: bool = True
    """Whether the weights are mapped from their file, instead of being read at the start."""

    mlock: bool = False
    """Whether the weights are kept from being swapped out."""

    numa: Numa = "off"
    """Over NUMA nodes: spread threads, keep them on this one, or do as numactl says."""

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

    sampling_defaults: Pairs = ()
    """Defaults of requests for these and other sampling parameters, by their names in the HTTP API:
    `temperature=0.7,top_k=20,dry_multiplier=0.8`, in the file a mapping."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tool_format and self.tool_format not in formats.names():
            known = ", ".join(formats.names())
            raise ValueError(f"--tool-format {self.tool_format}: not one of {known}")
        quantized = self.cache_type_v not in ("f32", "f16", "bf16")
        if quantized and self.flash_attention == "off":
            raise ValueError(
                f"--cache-type-v {self.cache_type_v} needs flash attention, which is off"
            )
        if self.rope_scaling == "none" and self.rope_scale:
            raise ValueError("--rope-scale has no meaning with --rope-scaling none")
        if self.tensor_split and not any(self.tensor_split):
            raise ValueError("--tensor-split: all shares are 0")
        for name in defaults.parse(self.sampling_defaults):
            if getattr(self, name, None) is not None:
                raise ValueError(f"--sampling-defaults {name}: --{name.replace('_', '-')} says it")
        names = [adapter.name for adapter in self.adapters()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"--lora: two adapters are called {name}")
        return self

    @model_validator(mode="after")
    def _within_bounds(self) -> Self:
        for name, bounds in defaults.BOUNDS.items():
            value = getattr(self, name, None)
            if value is not None and not bounds.holds(value):
                raise ValueError(f"--{name.replace('_', '-')}: {name} is {bounds}")
        return self

    def default_sampling(self) -> dict[str, float]:
        """What the operator said of sampling, by the names of the HTTP API."""
        said = {name: getattr(self, name, None) for name in defaults.BOUNDS}
        known = {name: value for name, value in said.items() if value is not None}
        return {**known, **defaults.parse(self.sampling_defaults)}

    def adapters(self) -> list[Lora]:
        """What `lora` names. Raises ValueError."""
        found = []
        for said in self.lora:
            match = _LORA.fullmatch(said)
            if match is None:
                raise ValueError(f"--lora {said}: write name=path or name=path:scale")
            try:
                scale = _single(float(match["scale"] or 1))
            except ValueError as wrong:
                raise ValueError(f"--lora {match['name']}: the scale is {wrong}") from None
            found.append(Lora(match["name"], Path(match["path"]), scale))
        return found
