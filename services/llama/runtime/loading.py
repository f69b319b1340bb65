"""Loads a GGUF model and makes its context: every option of llama.cpp's that has a setting."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as raw

from services.llama.runtime import bindings, libs
from services.llama.runtime.logs import LogCapture
from services.worker.backend import StartupError

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
    mlock: bool = False
    cpu_variant: str = "auto"


# Once per process: llama.cpp keeps the callback and the backends for good.
capture = LogCapture()
_callback = raw.llama_log_callback(capture)
_variant: list[str] = []


def initialise(cpu_variant: str) -> str:
    """Loads llama.cpp's backends, once. Returns the CPU variant in use. Raises StartupError."""
    if not _variant:
        libs.calm_openmp()
        raw.llama_log_set(_callback, ctypes.c_void_p(0))
        _variant.append(libs.load_backends(bindings.LIB_DIR, cpu_variant))
        raw.llama_backend_init()
    return _variant[0]


def load_model(path: Path, options: RuntimeOptions, *, generates: bool = True) -> Any:
    """A llama_model, to be freed by the caller. Raises StartupError.

    `generates`: whether one that cannot generate text is an error.
    """
    params = raw.llama_model_default_params()
    if options.gpu_layers and not raw.llama_supports_gpu_offload():
        raise StartupError("--gpu-layers: this build of llama.cpp has no GPU backend")
    params.n_gpu_layers = options.gpu_layers
    if options.mlock:
        params.load_mode = raw.LLAMA_LOAD_MODE_MMAP_MLOCK
    capture.errors.clear()
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
    return int(min(MOST_SLOTS, options.parallel + idle))


def partial(model: Any, options: RuntimeOptions) -> bool:  # noqa: ARG001 -- the settings decide, too
    """Whether a part of a sequence can be dropped or shared: not of a recurrent state."""
    return not (raw.llama_model_is_recurrent(model) or raw.llama_model_is_hybrid(model))


def make_context(model: Any, options: RuntimeOptions) -> Any:
    """A llama_context of the model, to be freed by the caller. Raises StartupError."""
    params = raw.llama_context_default_params()
    params.n_ctx = options.cells
    params.n_batch = options.batch_size
    params.n_ubatch = min(options.ubatch_size, options.batch_size)
    params.n_seq_max = slots(model, options)
    # llama.cpp asks for one a sequence at least.
    params.n_outputs_max = max(options.outputs, params.n_seq_max)
    params.n_threads = params.n_threads_batch = options.threads
    # One cache for all: any sequence may use all of it, and copying a prefix copies no data.
    params.kv_unified = True
    params.no_perf = True
    params.offload_kqv = options.gpu_layers > 0
    params.op_offload = options.gpu_layers > 0
    params.type_k = CACHE_TYPES[options.cache_type_k]
    params.type_v = CACHE_TYPES[options.cache_type_v]
    capture.errors.clear()
    context = raw.llama_init_from_model(model, params)
    if not context:
        reason = capture.last_error() or "not enough memory?"
        raise StartupError(f"llama.cpp cannot make a context of {options.cells} tokens: {reason}")
    return context
