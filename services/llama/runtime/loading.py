"""Loads a GGUF model and makes its context: every option of llama.cpp's that has a setting."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as raw

from services.llama.runtime import bindings, huge_pages, libs
from services.llama.runtime.adapters import AdapterFile
from services.llama.runtime.logs import LogCapture
from services.worker.backend import SettingError, StartupError

CACHE_TYPES = {
    "f32": 0,
    "f16": 1,
    "q8_0": 8,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "bf16": 30,
}

# llama.cpp's own limit on sequences.
MOST_SLOTS = 256


SPLIT_MODES = {"none": 0, "layer": 1, "row": 2}
NUMA_STRATEGIES = {"off": 0, "distribute": 1, "isolate": 2, "numactl": 3}
FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
ROPE_SCALINGS = {"model": -1, "none": 0, "linear": 1, "yarn": 2}


@dataclass(frozen=True, slots=True)
class RopeOptions:
    """Position encoding, to go beyond the trained context; 0 and None: as the model says."""

    # A key of ROPE_SCALINGS.
    scaling: str = "model"
    # How many times the original context.
    factor: float = 0.0
    base: float = 0.0
    # YaRN's: the context before scaling, extrapolation mix, magnitude, correction dimensions.
    original_context: int = 0
    extrapolation: float | None = None
    attention: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How a model is loaded."""

    # KV cells, shared by all slots.
    cells: int
    # Sequences that run at once, and idle ones whose cells may be kept for others.
    parallel: int
    idle: int
    # Most tokens of one decode, and of one compute graph within it.
    batch_size: int
    ubatch_size: int
    # Most positions of one decode whose logits are wanted.
    outputs: int
    threads: int
    gpu_layers: int = 0
    # Keys of CACHE_TYPES.
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    # Whether the weights stay in the file, mapped, instead of being read; and out of swap.
    mmap: bool = True
    mlock: bool = False
    cpu_variant: str = "auto"
    # Keys of SPLIT_MODES, NUMA_STRATEGIES, FLASH_ATTENTION.
    split_mode: str = "layer"
    numa: str = "off"
    flash_attention: str = "auto"
    main_gpu: int = 0
    # Shares of the GPUs; empty: by their free memory.
    tensor_split: tuple[float, ...] = ()
    # Whether layers with a sliding window keep everything, so that prefixes can be reused.
    swa_full: bool = True
    rope: RopeOptions = field(default_factory=RopeOptions)
    adapters: tuple[AdapterFile, ...] = ()


# Once per process: llama.cpp keeps the callback and the backends for good.
capture = LogCapture()
_callback = raw.llama_log_callback(capture)
_progress = raw.llama_progress_callback(lambda loaded, _: loaded > 0 or huge_pages.wish())
_variant: list[str] = []
_numa: list[str] = []


def initialise(cpu_variant: str) -> str:
    """Loads llama.cpp's backends, once. Returns the CPU variant in use. Raises StartupError."""
    if not _variant:
        raw.llama_log_set(_callback, ctypes.c_void_p(0))
        _variant.append(libs.load_backends(bindings.LIB_DIR, cpu_variant))
        raw.llama_backend_init()
    return _variant[0]


def load_model(path: Path, options: RuntimeOptions, *, generates: bool = True) -> Any:
    """A llama_model, to be freed by the caller. Raises StartupError.

    `generates`: whether one that cannot generate text is an error.
    """
    if options.gpu_layers and not raw.llama_supports_gpu_offload():
        raise SettingError("--gpu-layers: this build of llama.cpp has no GPU backend")
    # Read during the call only.
    shares = _shares(options.tensor_split)
    params = model_params(options, shares)
    params.progress_callback = _progress
    if options.numa != "off" and not _numa:
        _numa.append(options.numa)
        raw.llama_numa_init(NUMA_STRATEGIES[options.numa])
    capture.errors.clear()
    capture.repacked = False
    model = raw.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise StartupError(f"{path}: llama.cpp cannot load it: {capture.last_error()}")
    decodes = raw.llama_model_has_decoder(model) and not raw.llama_model_has_encoder(model)
    if generates and not decodes:
        raw.llama_model_free(model)
        raise StartupError(f"{path}: this model does not generate text")
    return model


def slots(model: Any, options: RuntimeOptions) -> int:
    """Sequences that the context can hold at once, running and idle."""
    idle = options.idle
    if raw.llama_model_is_recurrent(model) or raw.llama_model_is_hybrid(model):
        # Each has a state of its own, of megabytes, whether it is used or not.
        idle = min(idle, options.parallel)
    return int(min(MOST_SLOTS - 1, options.parallel + idle))


def partial(model: Any, options: RuntimeOptions) -> bool:
    """Whether a part of a sequence can be dropped or shared.

    Not of a recurrent state, and not where cells that a sliding window has left are gone.
    """
    if raw.llama_model_is_recurrent(model) or raw.llama_model_is_hybrid(model):
        return False
    return options.swa_full or not raw.llama_model_n_swa(model)


def deep(model: Any) -> int:
    """Cells before a token that take as long as all else of it; 0: most layers see few of them.

    A layer's weights are about 12 to 18 squares of its width, what it does with a cell is 2 widths,
    on CPUs at a third of the speed (measured: docs/performance.md).
    """
    if raw.llama_model_is_recurrent(model) or raw.llama_model_is_hybrid(model):
        return 0
    return 0 if raw.llama_model_n_swa(model) else 3 * int(raw.llama_model_n_embd(model))


def padded(model: Any, options: RuntimeOptions) -> bool:
    """Whether batches are filled up with rows of a slot of their own (see batch.padding)."""
    return capture.repacked and options.gpu_layers == 0 and partial(model, options)


def sections(model: Any) -> int:
    """Positions that every vector has: several where the model sees rows and columns."""
    kinds = (raw.LLAMA_ROPE_TYPE_MROPE, raw.LLAMA_ROPE_TYPE_IMROPE)
    return 4 if raw.llama_model_rope_type(model) in kinds else 1


def make_context(model: Any, options: RuntimeOptions) -> Any:
    """A llama_context of the model, to be freed by the caller. Raises StartupError."""
    params = context_params(options)
    params.n_seq_max = slots(model, options) + padded(model, options)
    # llama.cpp asks for one a sequence at least.
    params.n_outputs_max = max(options.outputs, params.n_seq_max)
    capture.errors.clear()
    context = raw.llama_init_from_model(model, params)
    if not context:
        reason = capture.last_error() or "not enough memory?"
        raise StartupError(f"llama.cpp cannot make a context of {options.cells} tokens: {reason}")
    huge_pages.collapse()
    return context


def model_params(options: RuntimeOptions, shares: Any = None) -> Any:
    """The options as llama.cpp takes them for a model; `shares` must outlive the call with them."""
    params = raw.llama_model_default_params()
    params.n_gpu_layers = options.gpu_layers
    params.split_mode = SPLIT_MODES[options.split_mode]
    params.main_gpu = options.main_gpu
    if shares is not None:
        params.tensor_split = shares
    if options.mlock:
        params.load_mode = (
            raw.LLAMA_LOAD_MODE_MMAP_MLOCK if options.mmap else raw.LLAMA_LOAD_MODE_MLOCK
        )
    elif not options.mmap:
        params.load_mode = raw.LLAMA_LOAD_MODE_NONE
    return params


def _shares(split: tuple[float, ...]) -> Any:
    """An array as long as llama.cpp reads it; None: no split is asked for. Raises StartupError."""
    if not split:
        return None
    most = int(raw.llama_max_devices())
    if len(split) > most:
        raise StartupError(f"--tensor-split: {len(split)} shares for at most {most} devices")
    return (ctypes.c_float * most)(*split)


def context_params(options: RuntimeOptions) -> Any:
    """The options as llama.cpp takes them for a context."""
    params = raw.llama_context_default_params()
    params.n_ctx = options.cells
    params.n_batch = options.batch_size
    params.n_ubatch = min(options.ubatch_size, options.batch_size)
    params.n_threads = params.n_threads_batch = options.threads
    # One cache for all: any sequence may use all of it, and copying a prefix copies no data.
    params.kv_unified = True
    params.no_perf = True
    params.offload_kqv = options.gpu_layers > 0
    params.op_offload = options.gpu_layers > 0
    params.type_k = CACHE_TYPES[options.cache_type_k]
    params.type_v = CACHE_TYPES[options.cache_type_v]
    params.flash_attn_type = FLASH_ATTENTION[options.flash_attention]
    params.swa_full = options.swa_full
    rope = options.rope
    params.rope_scaling_type = ROPE_SCALINGS[rope.scaling]
    params.rope_freq_base = rope.base
    params.rope_freq_scale = 1 / rope.factor if rope.factor else 0.0
    params.yarn_orig_ctx = rope.original_context
    params.yarn_ext_factor = _or_model(rope.extrapolation)
    params.yarn_attn_factor = _or_model(rope.attention)
    params.yarn_beta_fast = _or_model(rope.beta_fast)
    params.yarn_beta_slow = _or_model(rope.beta_slow)
    return params


def _or_model(value: float | None) -> float:
    """Below 0 llama.cpp takes what the model says."""
    return -1.0 if value is None else value
