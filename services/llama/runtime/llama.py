"""A GGUF model and its KV cache in llama.cpp, behind the engine's interface."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from llama_cpp import llama_cpp as raw

from services.llama.interface import Chunk, DecodeError, Logits, NoRoomError
from services.llama.runtime import bindings, libs
from services.llama.runtime.logs import LogCapture
from services.llama.runtime.vocabulary import LlamaVocabulary
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

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How a model is loaded."""

    # KV cells, shared by all slots.
    cells: int
    slots: int
    # Most tokens of one decode, and of one compute graph within it.
    batch_size: int
    ubatch_size: int
    threads: int
    gpu_layers: int = 0
    # Keys of CACHE_TYPES.
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    mlock: bool = False
    cpu_variant: str = "auto"


# Once per process: llama.cpp keeps the callback and the backends for good.
_capture = LogCapture()
_callback = raw.llama_log_callback(_capture)
_variant: list[str] = []


def initialise(cpu_variant: str) -> str:
    """Loads llama.cpp's backends, once. Returns the CPU variant in use. Raises StartupError."""
    if not _variant:
        libs.calm_openmp()
        raw.llama_log_set(_callback, ctypes.c_void_p(0))
        _variant.append(libs.load_backends(bindings.LIB_DIR, cpu_variant))
        raw.llama_backend_init()
    return _variant[0]


class LlamaRuntime:
    """One model, one context. See services.llama.interface.Runtime for the meaning of it all."""

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        """Loads and warms up. Raises StartupError with one line."""
        variant = initialise(options.cpu_variant)
        self._batch_size = options.batch_size
        self._slots = options.slots
        # On a GPU a decode returns before it is done.
        self._asynchronous = options.gpu_layers > 0
        self._batch = _Batch(options.batch_size)
        self._context: Any = None
        self._model: Any = _load_model(path, options)
        try:
            self._context = _make_context(self._model, options)
            self._memory = raw.llama_get_memory(self._context)
            self._cells = int(raw.llama_n_ctx(self._context))
            self._vocabulary = LlamaVocabulary(self._model)
            self._warm_up()
        except DecodeError as error:
            self.close()
            raise StartupError(f"{path}: the model does not generate text: {error}") from None
        except BaseException:
            self.close()
            raise
        _log.info(
            "model loaded", cpu_variant=variant, threads=options.threads, kv_cells=self._cells
        )

    @property
    def vocabulary(self) -> LlamaVocabulary:
        """The model's vocabulary."""
        return self._vocabulary

    @property
    def cells(self) -> int:
        """KV cache cells."""
        return self._cells

    @property
    def slots(self) -> int:
        """Sequences that can hold cells at once."""
        return self._slots

    @property
    def batch_size(self) -> int:
        """Most tokens of one decode."""
        return self._batch_size

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits | None]:
        """Evaluates the chunks together; per chunk its logits, where wanted."""
        rows = self._batch.fill(chunks)
        code = bindings.decode(self._context, self._batch.struct)
        if self._asynchronous:
            # Else the reading of the logits waits for the GPU, and that call keeps the GIL.
            bindings.synchronize(self._context)
        if code == 1:
            raise NoRoomError
        if code != 0:
            raise DecodeError(f"llama_decode returned {code}: {_capture.last_error()}")
        return [None if row is None else self._logits(row) for row in rows]

    def release(self, slot: int) -> None:
        """Gives back all cells of the slot."""
        bindings.memory_seq_rm(self._memory, slot, -1, -1)

    def reset(self) -> None:
        """Gives back all cells."""
        raw.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """Frees context and model; nothing may be called after it."""
        if self._context is not None:
            raw.llama_free(self._context)
            self._context = None
        if self._model is not None:
            raw.llama_model_free(self._model)
            self._model = None

    def _logits(self, row: int) -> Logits:
        address = bindings.get_logits_ith(self._context, row)
        if not address:
            raise DecodeError(f"no logits for row {row} of the batch")
        pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (self._vocabulary.size,))

    def _warm_up(self) -> None:
        """The first decode allocates and faults pages in: better now than in a request."""
        token = self._vocabulary.bos or self._vocabulary.eos or 0
        for length in (min(32, self._batch_size, self._cells - 1), 1):
            self.decode([Chunk(0, 0, [token] * length, wants_logits=True)])
            self.reset()


class _Batch:
    """llama_batch over arrays of our own: filled by numpy, not field by field."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._slots = np.zeros(size, np.int32)
        self._wants = np.zeros(size, np.int8)
        self._slot_counts = np.ones(size, np.int32)
        # Each token belongs to one sequence: a table of pointers into _slots, made once.
        addresses = self._slots.ctypes.data + 4 * np.arange(size, dtype=np.uint64)
        self._slot_pointers = addresses.astype(np.uint64)
        self.struct = raw.llama_batch()
        self.struct.token = _pointer(self._tokens, ctypes.c_int32)
        self.struct.pos = _pointer(self._positions, ctypes.c_int32)
        self.struct.n_seq_id = _pointer(self._slot_counts, ctypes.c_int32)
        self.struct.seq_id = _pointer(self._slot_pointers, ctypes.POINTER(ctypes.c_int32))
        self.struct.logits = _pointer(self._wants, ctypes.c_int8)

    def fill(self, chunks: Sequence[Chunk]) -> list[int | None]:
        """Row of each chunk's logits. Raises ValueError: llama_decode would kill the process."""
        total = sum(len(chunk.tokens) for chunk in chunks)
        if not 0 < total <= self._size:
            raise ValueError(f"{total} tokens for a batch of 1 to {self._size}")
        rows: list[int | None] = []
        self._wants[:total] = 0
        at = 0
        for chunk in chunks:
            end = at + len(chunk.tokens)
            self._tokens[at:end] = chunk.tokens
            self._positions[at:end] = np.arange(chunk.start, chunk.start + end - at)
            self._slots[at:end] = chunk.slot
            self._wants[end - 1] = chunk.wants_logits
            rows.append(end - 1 if chunk.wants_logits else None)
            at = end
        self.struct.n_tokens = total
        return rows


def _pointer(array: Any, kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


def _load_model(path: Path, options: RuntimeOptions) -> Any:
    params = raw.llama_model_default_params()
    if options.gpu_layers and not raw.llama_supports_gpu_offload():
        raise StartupError("--gpu-layers: this build of llama.cpp has no GPU backend")
    params.n_gpu_layers = options.gpu_layers
    if options.mlock:
        params.load_mode = raw.LLAMA_LOAD_MODE_MMAP_MLOCK
    _capture.errors.clear()
    model = raw.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise StartupError(f"{path}: llama.cpp cannot load it: {_capture.last_error()}")
    if not raw.llama_model_has_decoder(model) or raw.llama_model_has_encoder(model):
        raw.llama_model_free(model)
        raise StartupError(f"{path}: this model does not generate text")
    return model


def _make_context(model: Any, options: RuntimeOptions) -> Any:
    params = raw.llama_context_default_params()
    params.n_ctx = options.cells
    params.n_batch = options.batch_size
    params.n_ubatch = min(options.ubatch_size, options.batch_size)
    params.n_seq_max = options.slots
    params.n_outputs_max = options.slots
    params.n_threads = params.n_threads_batch = options.threads
    # One cache for all: any sequence may use all of it, and copying a prefix copies no data.
    params.kv_unified = True
    params.no_perf = True
    params.offload_kqv = options.gpu_layers > 0
    params.op_offload = options.gpu_layers > 0
    params.type_k = CACHE_TYPES[options.cache_type_k]
    params.type_v = CACHE_TYPES[options.cache_type_v]
    _capture.errors.clear()
    context = raw.llama_init_from_model(model, params)
    if not context:
        reason = _capture.last_error() or "not enough memory?"
        raise StartupError(f"llama.cpp cannot make a context of {options.cells} tokens: {reason}")
    return context
