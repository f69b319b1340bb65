"""A deterministic model over a KV cache that checks every use of it.

The next token depends on all tokens of the sequence, read out of the fake cache: a cell that is
missing, stale or in another sequence's place changes the text. Vocabulary: the 256 bytes, then
BOS and EOS.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from services.llama.interface import (
    Chunk,
    DecodeError,
    Logits,
    NoRoomError,
    SpecialToken,
    State,
)

BOS, EOS = 256, 257


class FakeVocabulary:
    size = 258
    longest = 4
    bos = BOS
    eos = EOS
    adds_bos = False
    ends = frozenset((EOS,))
    special: Mapping[str, SpecialToken] = {
        "<s>": SpecialToken(BOS),
        "</s>": SpecialToken(EOS),
    }

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        if parse_special:
            for name, token in self.special.items():
                before, found, after = text.partition(name)
                if found:
                    return [
                        *self.tokenize(before, parse_special=True),
                        token.id,
                        *self.tokenize(after, parse_special=True),
                    ]
        return list(text.encode())

    def piece(self, token: int, *, special: bool) -> bytes:
        if token < 256:
            return bytes([token])
        return {BOS: b"<s>", EOS: b"</s>"}[token] if special else b""


class FakeRuntime:
    def __init__(
        self,
        cells: int = 1024,
        slots: int = 16,
        batch_size: int = 256,
        script: str | None = None,
        *,
        outputs: int = 64,
        partial: bool = True,
    ) -> None:
        """`script`: every completion spells it, then EOS. Else text is a hash of what came before."""
        self.vocabulary = FakeVocabulary()
        self.cells, self.slots, self.batch_size = cells, slots, batch_size
        self.outputs, self.partial, self.tile, self.deep = outputs, partial, 1, 0
        # Number of the cell, and token in it, by slot and position.
        self.cache: dict[int, list[tuple[int, int]]] = {}
        self._next_cell = 0
        # The adapter in use: it changes what a token's cell holds.
        self.adapter = ""
        # Tokens per slot of every batch, in order.
        self.batches: list[dict[int, int]] = []
        self.fail_at: set[int] = set()
        self.no_room_at: set[int] = set()
        self.reset_fails = False
        # Whether states can be put back.
        self.restores = True
        # Steps that may run; None: as many as it likes.
        self.permits: threading.Semaphore | None = None
        self.in_decode = threading.Event()
        self._script = script

    def decode(self, chunks: Sequence[Chunk]) -> list[list[Logits]]:
        self.in_decode.set()
        if self.permits is not None:
            self.permits.acquire()
        step = len(self.batches)
        self.batches.append({chunk.slot: len(_contents(chunk)) for chunk in chunks})
        total = sum(len(_contents(chunk)) for chunk in chunks)
        assert total > 0
        assert sum(len(chunk.tokens) for chunk in chunks) <= self.batch_size
        assert all(len(_contents(chunk)) <= self.batch_size for chunk in chunks)
        assert not any(chunk.embedded and (chunk.tokens or chunk.outputs) for chunk in chunks)
        assert sum(chunk.outputs for chunk in chunks) <= self.outputs
        assert len({chunk.slot for chunk in chunks}) == len(chunks)
        if step in self.fail_at:
            raise DecodeError("told to")
        if step in self.no_room_at or self.used + total > self.cells:
            raise NoRoomError
        rows: list[list[Logits]] = []
        for chunk in chunks:
            assert 0 <= chunk.slot < self.slots
            cached = self.cache.setdefault(chunk.slot, [])
            assert chunk.start == len(cached)
            wanted = []
            contents = _contents(chunk)
            for index, token in enumerate(contents):
                cached.append((self._next_cell, token + 1000 * len(self.adapter)))
                self._next_cell += 1
                if index >= len(contents) - chunk.outputs:
                    wanted.append(self._logits([token for _, token in cached]))
            rows.append(wanted)
        return rows

    @property
    def used(self) -> int:
        return len({cell for cells in self.cache.values() for cell, _ in cells})

    def adapt(self, adapter: str) -> None:
        self.adapter = adapter

    def copy(self, source: int, target: int, cells: int) -> None:
        assert not self.cache.get(target), "the target is not empty"
        assert self.partial or cells == len(self.cache[source])
        assert 0 < cells <= len(self.cache[source])
        self.cache[target] = self.cache[source][:cells]

    def truncate(self, slot: int, cells: int) -> None:
        assert self.partial, "all or nothing"
        assert cells <= len(self.cache[slot])
        del self.cache[slot][cells:]

    def release(self, slot: int) -> None:
        self.cache.pop(slot, None)

    def state_size(self, slot: int) -> int:
        return 4 * len(self.cache.get(slot, ()))

    def save(self, slot: int) -> State:
        return np.array([token for _, token in self.cache[slot]], np.int32).view(np.uint8)

    def restore(self, slot: int, state: State) -> bool:
        assert not self.cache.get(slot), "the slot is not empty"
        tokens = [int(token) for token in state.view(np.int32)]
        assert self.used + len(tokens) <= self.cells, "there is no room for all of the state"
        if self.restores:
            cells = range(self._next_cell, self._next_cell + len(tokens))
            self._next_cell += len(tokens)
            self.cache[slot] = list(zip(cells, tokens, strict=True))
        return self.restores

    def reset(self) -> None:
        if self.reset_fails:
            raise DecodeError("told to")
        self.cache.clear()

    def _logits(self, tokens: list[int]) -> Logits:
        seed = zlib.crc32(np.array(tokens, np.int32).tobytes())
        logits = np.random.default_rng(seed).normal(size=self.vocabulary.size).astype(np.float32)
        # Letters, so that failures can be read.
        logits[97:123] += 4
        logits[EOS] = -20
        if self._script is not None:
            logits[self._next_of_script(tokens)] = 50
        return logits

    def _next_of_script(self, tokens: list[int]) -> int:
        """Prompts end with BOS here: what comes after the last BOS is the completion."""
        assert self._script is not None
        position = tokens[::-1].index(BOS)
        data = self._script.encode()
        return data[position] if position < len(data) else EOS


def _contents(chunk: Chunk) -> list[int]:
    """Its tokens, or a number for each of its vectors."""
    if chunk.embedded is None:
        # Those below 0 stand for images, and are no tokens.
        assert all(token >= 0 for token in chunk.tokens)
        return list(chunk.tokens)
    return [1000 + (zlib.crc32(row.tobytes()) >> 2) for row in chunk.embedded.vectors]
