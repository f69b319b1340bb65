"""A batch of vectors in the place of tokens: some cells of an image or of a sound."""

from __future__ import annotations

import ctypes

import numpy as np
from llama_cpp import llama_cpp as raw

from services.llama.interface import Chunk
from services.llama.runtime.bindings import pointer_to, pointers_to_each


class EmbeddedBatch:
    """llama_batch of one chunk. Keeps alive what the struct points to."""

    def __init__(self, chunk: Chunk, sections: int) -> None:
        """`sections`: positions that the model wants for each vector."""
        assert chunk.embedded is not None
        vectors = np.ascontiguousarray(chunk.embedded.vectors, np.float32)
        self.count = count = len(vectors)
        positions = chunk.embedded.positions
        if positions is None:
            positions = np.tile(np.arange(chunk.start, chunk.start + count), (sections, 1))
        assert positions.shape == (sections, count), "the projector is another model's"
        flat = np.ascontiguousarray(positions, np.int32)
        slots = np.full(count, chunk.slot, np.int32)
        slot_counts = np.ones(count, np.int32)
        pointers = pointers_to_each(slots)
        wants = np.zeros(count, np.int8)
        self._alive = (vectors, flat, slots, slot_counts, pointers, wants)
        self.struct = raw.llama_batch()
        self.struct.n_tokens = count
        self.struct.embd = pointer_to(vectors, ctypes.c_float)
        self.struct.pos = pointer_to(flat, ctypes.c_int32)
        self.struct.n_seq_id = pointer_to(slot_counts, ctypes.c_int32)
        self.struct.seq_id = pointer_to(pointers, ctypes.POINTER(ctypes.c_int32))
        self.struct.logits = pointer_to(wants, ctypes.c_int8)
