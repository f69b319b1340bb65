"""The llama_batch of a step, and rows without meaning that make it faster."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from llama_cpp import llama_cpp as raw

from services.llama.interface import Chunk
from services.llama.runtime.bindings import pointer_to, pointers_to_each

# Kernels for repacked weights take rows by fours, and are fastest with sixteen; the most rows without
# meaning that a batch is filled up with (docs/performance.md).
TILE = 4
_BEST, MOST_PADDING = 16, 3


def padding(rows: int) -> int:
    """How many rows to add to a batch of a model with repacked weights.

    A step of few rows with the last of a tile missing gets 4 to 17 % faster, one of 47 rows 5 %, one
    of hundreds no slower; one of 13 or 14 as fast as one of 16.
    """
    short = -rows % _BEST
    if rows <= _BEST and short <= MOST_PADDING:
        return short
    return int(rows % TILE == TILE - 1)


class Batch:
    """llama_batch over arrays of our own: filled by numpy, not field by field."""

    def __init__(self, size: int, outputs: int, padding_slot: int | None = None) -> None:
        """`size` is of tokens. With a `padding_slot` batches are padded, with tokens of that slot."""
        self._size = size
        self._most_outputs = outputs
        self._padding_slot = padding_slot
        self.padded = 0
        room = size + MOST_PADDING
        self._tokens = np.zeros(room, np.int32)
        self._positions = np.zeros(room, np.int32)
        self._slots = np.zeros(room, np.int32)
        self._wants = np.zeros(room, np.int8)
        self._slot_counts = np.ones(room, np.int32)
        self._slot_pointers = pointers_to_each(self._slots)
        self.struct = raw.llama_batch()
        self.struct.token = pointer_to(self._tokens, ctypes.c_int32)
        self.struct.pos = pointer_to(self._positions, ctypes.c_int32)
        self.struct.n_seq_id = pointer_to(self._slot_counts, ctypes.c_int32)
        self.struct.seq_id = pointer_to(self._slot_pointers, ctypes.POINTER(ctypes.c_int32))
        self.struct.logits = pointer_to(self._wants, ctypes.c_int8)

    def fill(self, chunks: Sequence[Chunk]) -> list[range]:
        """Rows whose logits each chunk wants. Raises ValueError: llama_decode would abort."""
        total = sum(len(chunk.tokens) for chunk in chunks)
        if not 0 < total <= self._size:
            raise ValueError(f"{total} tokens for a batch of 1 to {self._size}")
        outputs = sum(chunk.outputs for chunk in chunks)
        if outputs > self._most_outputs:
            raise ValueError(f"more than {self._most_outputs} outputs")
        rows: list[range] = []
        self._wants[:total] = 0
        at = 0
        for chunk in chunks:
            end = at + len(chunk.tokens)
            self._tokens[at:end] = chunk.tokens
            self._positions[at:end] = np.arange(chunk.start, chunk.start + end - at)
            self._slots[at:end] = chunk.slot
            self._wants[end - chunk.outputs : end] = 1
            rows.append(range(end - chunk.outputs, end))
            at = end
        self._pad(total, outputs)
        return rows

    def strip(self) -> None:
        """Takes the padding off again."""
        self.struct.n_tokens -= self.padded
        self.padded = 0

    def _pad(self, total: int, outputs: int) -> None:
        self.struct.n_tokens = total
        self.padded = 0
        if self._padding_slot is None:
            return
        # At the end, where they change no other row's place. Nobody looks at their logits, but the
        # matrix that makes them is the largest, and wants full tiles, too.
        count = padding(total)
        end = total + count
        if end > self._size:
            return
        self._tokens[total:end] = self._tokens[total - 1]
        self._positions[total:end] = np.arange(count)
        self._slots[total:end] = self._padding_slot
        self._wants[total:end] = outputs == total and outputs + count <= self._most_outputs
        self.struct.n_tokens = end
        self.padded = count
