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

from services.llama.interface import Chunk, DecodeError, Logits, NoRoomError, SpecialToken

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
        slots: int = 8,
        batch_size: int = 256,
        script: str | None = None,
    ) -> None:
        """`script`: every completion spells it, then EOS. Else text is a hash of what came before."""
        self.vocabulary = FakeVocabulary()
        self.cells, self.slots, self.batch_size = cells, slots, batch_size
        self.cache: dict[int, list[int]] = {}
        # Tokens per slot of every batch, in order.
        self.batches: list[dict[int, int]] = []
        self.fail_at: set[int] = set()
        self.no_room_at: set[int] = set()
        self.reset_fails = False
        # Steps that may run; None: as many as it likes.
        self.permits: threading.Semaphore | None = None
        self.in_decode = threading.Event()
        self._script = script

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits | None]:
        self.in_decode.set()
        if self.permits is not None:
            self.permits.acquire()
        step = len(self.batches)
        self.batches.append({chunk.slot: len(chunk.tokens) for chunk in chunks})
        total = sum(len(chunk.tokens) for chunk in chunks)
        assert 0 < total <= self.batch_size
        assert len({chunk.slot for chunk in chunks}) == len(chunks)
        if step in self.fail_at:
            raise DecodeError("told to")
        if step in self.no_room_at or self.used + total > self.cells:
            raise NoRoomError
        rows: list[Logits | None] = []
        for chunk in chunks:
            assert 0 <= chunk.slot < self.slots
            cached = self.cache.setdefault(chunk.slot, [])
            assert chunk.start == len(cached)
            cached.extend(chunk.tokens)
            rows.append(self._logits(cached) if chunk.wants_logits else None)
        return rows

    @property
    def used(self) -> int:
        return sum(map(len, self.cache.values()))

    def release(self, slot: int) -> None:
        self.cache.pop(slot, None)

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
