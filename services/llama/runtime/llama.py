"""A GGUF model and its KV cache in llama.cpp, behind the engine's interface."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from llama_cpp import llama_cpp as raw

from services.llama.interface import Chunk, DecodeError, Logits, NoRoomError, State
from services.llama.runtime import adapters, bindings, loading, openmp
from services.llama.runtime.batch import TILE, Batch
from services.llama.runtime.embedded import EmbeddedBatch
from services.llama.runtime.loading import (
    RuntimeOptions,
    capture,
    initialise,
    load_model,
    make_context,
)
from services.llama.runtime.vocabulary import LlamaVocabulary
from services.worker.backend import StartupError

_log = structlog.get_logger()


class LlamaRuntime:
    """One model, one context. See services.llama.interface.Runtime for the meaning of it all."""

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        """Loads and warms up. Raises StartupError with one line."""
        variant = initialise(options.cpu_variant)
        self._batch_size = options.batch_size
        self._ubatch_size = min(options.ubatch_size, options.batch_size)
        self._outputs = options.outputs
        # On a GPU a decode returns before it is done.
        self._asynchronous = options.gpu_layers > 0
        self._waiting = openmp.Waiting(0 if self._asynchronous else options.threads)
        self._context: Any = None
        # LoRA adapters by name.
        self.adapters: dict[str, adapters.Adapter] = {}
        self._adapter = ""
        self._model: Any = load_model(path, options)
        try:
            self._sections = loading.sections(self._model)
            self._slots = loading.slots(self._model, options)
            self._partial = loading.partial(self._model, options)
            self._deep = loading.deep(self._model)
            self.adapters = adapters.load(self._model, options.adapters, capture)
            self._context = make_context(self._model, options)
            # Where there are fewer cells llama.cpp makes it smaller, and ends the process if it is not.
            self._batch_size = min(self._batch_size, int(raw.llama_n_batch(self._context)))
            # A slot of its own, beyond those that the engine knows.
            self._padded = loading.padded(self._model, options)
            self._batch = Batch(
                self._batch_size, options.outputs, self._slots if self._padded else None
            )
            self._memory = raw.llama_get_memory(self._context)
            self._cells = int(raw.llama_n_ctx(self._context))
            self._vocabulary = LlamaVocabulary(self._model)
            self._warm_up()
            # Whoever loads is not who decodes.
            openmp.rest()
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
    def outputs(self) -> int:
        """Most positions of one decode whose logits are wanted."""
        return self._outputs

    @property
    def tile(self) -> int:
        """Rows that a batch of few takes at once."""
        return TILE if self._padded else 1

    @property
    def deep(self) -> int:
        """Cells before a token that take as long as all else of it; 0: they take no time."""
        return self._deep

    @property
    def partial(self) -> bool:
        """Whether a part of a slot's cells can be shared and given back."""
        return self._partial

    @property
    def batch_size(self) -> int:
        """Most tokens of one decode."""
        return self._batch_size

    def adapt(self, adapter: str) -> None:
        """The decodes to come use this LoRA adapter; "" none."""
        if adapter == self._adapter:
            return
        chosen = [self.adapters[adapter]] if adapter else []
        handles = (raw.llama_adapter_lora_p_ctypes * len(chosen))(*(a.handle for a in chosen))
        scales = (ctypes.c_float * len(chosen))(*(a.scale for a in chosen))
        if raw.llama_set_adapters_lora(self._context, handles, len(chosen), scales):
            raise DecodeError(f"the adapter {adapter} cannot be set: {capture.last_error()}")
        self._adapter = adapter

    def decode(self, chunks: Sequence[Chunk]) -> list[list[Logits]]:
        """Evaluates the chunks together; per chunk the logits wanted, in order.

        A batch of llama.cpp's is of tokens or of vectors: images and sounds are decodes of their
        own, and come first, because the next decode overwrites logits.
        """
        embedded = [chunk for chunk in chunks if chunk.embedded is not None]
        words = [chunk for chunk in chunks if chunk.embedded is None] if embedded else chunks
        ranges = self._batch.fill(words) if words else []
        for at, chunk in enumerate(embedded):
            try:
                self._decode_embedded(chunk)
            except NoRoomError:
                self._undo(embedded[:at])
                raise
        if not words:
            return [[] for _ in chunks]
        try:
            self._decode_words()
        except NoRoomError:
            self._undo(embedded)
            raise
        rows = iter([[self._logits(row) for row in wanted] for wanted in ranges])
        return [next(rows) if chunk.embedded is None else [] for chunk in chunks]

    def _decode_words(self) -> None:
        batch = self._batch
        code = bindings.decode(self._context, batch.struct)
        self._waiting.look()
        if batch.padded:
            self.release(self._slots)
            if code == 1:
                # The padding may be what there is no room for.
                batch.strip()
                code = bindings.decode(self._context, batch.struct)
        self._check(code)

    def _decode_embedded(self, chunk: Chunk) -> None:
        assert chunk.embedded is not None
        batch = EmbeddedBatch(chunk, self._sections)
        if batch.count > (self._ubatch_size if chunk.embedded.together else self._batch_size):
            raise ValueError(f"{batch.count} vectors are too many for one batch")
        if not chunk.embedded.together:
            self._check(bindings.decode(self._context, batch.struct))
            return
        raw.llama_set_causal_attn(self._context, False)
        try:
            self._check(bindings.decode(self._context, batch.struct))
        finally:
            raw.llama_set_causal_attn(self._context, True)

    def _check(self, code: int) -> None:
        """Of a decode. Raises NoRoomError, DecodeError."""
        if self._asynchronous:
            # Else the reading of the logits waits for the GPU, and that call keeps the GIL.
            bindings.synchronize(self._context)
        if code == 1:
            raise NoRoomError
        if code != 0:
            raise DecodeError(f"llama_decode returned {code}: {capture.last_error()}")

    def _undo(self, embedded: Sequence[Chunk]) -> None:
        """Takes back what was evaluated of a step that did not come to its end."""
        for chunk in embedded:
            self.truncate(chunk.slot, chunk.start)

    def copy(self, source: int, target: int, cells: int) -> None:
        """The target, an empty slot, gets the source's first cells, which both hold then."""
        # A state that is not a list of cells is copied as a whole.
        bindings.memory_seq_cp(self._memory, source, target, 0, cells if self._partial else -1)

    def truncate(self, slot: int, cells: int) -> None:
        """Gives back what the slot has beyond its first cells."""
        if not bindings.memory_seq_rm(self._memory, slot, cells, -1):
            raise DecodeError(f"this model's cache cannot be cut back to {cells} cells")

    def release(self, slot: int) -> None:
        """Gives back all cells of the slot."""
        bindings.memory_seq_rm(self._memory, slot, -1, -1)

    def state_size(self, slot: int) -> int:
        """Bytes that `save` would take; 0: it cannot."""
        return int(raw.llama_state_seq_get_size(self._context, slot))

    def save(self, slot: int) -> State | None:
        """A copy of all that the slot's cells hold; None: it cannot be had."""
        state = np.empty(self.state_size(slot), np.uint8)
        written = raw.llama_state_seq_get_data(self._context, _bytes(state), state.nbytes, slot)
        return state if 0 < written == state.nbytes else None

    def restore(self, slot: int, state: State) -> bool:
        """The slot gets cells of its own with what was saved; else it stays empty."""
        if raw.llama_state_seq_set_data(self._context, _bytes(state), state.nbytes, slot):
            return True
        _log.warning("a saved state cannot be restored", why=capture.last_error())
        self.release(slot)
        return False

    def reset(self) -> None:
        """Gives back all cells."""
        raw.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """Frees context and model; nothing may be called after it."""
        self._waiting.close()
        if self._context is not None:
            raw.llama_free(self._context)
            self._context = None
        adapters.free(self.adapters)
        if self._model is not None:
            raw.llama_model_free(self._model)
            self._model = None

    @property
    def model(self) -> Any:
        """The llama_model, for what is loaded beside it."""
        return self._model

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
            self.decode([Chunk(0, 0, [token] * length, outputs=1)])
            self.reset()


def _bytes(state: State) -> Any:
    return bindings.pointer_to(state, ctypes.c_uint8)
