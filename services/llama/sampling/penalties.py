"""Repetition, presence and frequency penalties: tokens that came are made less likely."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from services.llama.sampling.arrays import Floats, Ids
from services.llama.sampling.params import SamplingParams


class Counts:
    """How often each token came, within the window, in arrays ready for numpy."""

    def __init__(self, window: int, tokens: Sequence[int]) -> None:
        # At once, not one by one: a long prompt would hold every other sequence up.
        recent = tokens[-window:] if window else tokens
        self._window = deque(recent) if window else None
        self._size = window
        ids, counts = np.unique(np.array(recent, np.int64), return_counts=True)
        self._rows = {token: row for row, token in enumerate(ids.tolist())}
        self._ids = np.concatenate([ids, np.zeros(64, np.int64)])
        self._counts = np.concatenate([counts, np.zeros(64)]).astype(np.float32)

    def add(self, token: int) -> None:
        """Counts one more token, and the one that leaves the window no longer."""
        self._bump(token, 1)
        if self._window is not None:
            self._window.append(token)
            if len(self._window) > self._size:
                self._bump(self._window.popleft(), -1)

    def seen(self) -> tuple[Ids, Floats]:
        """Distinct tokens and their counts, which are positive."""
        used = len(self._rows)
        ids, counts = self._ids[:used], self._counts[:used]
        if self._window is None:
            return ids, counts
        present = counts > 0
        return ids[present], counts[present]

    def _bump(self, token: int, by: int) -> None:
        row = self._rows.get(token)
        if row is None:
            row = self._rows[token] = len(self._rows)
            if row == len(self._ids):
                self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[row] = token
        self._counts[row] += by


def penalised(logits: Floats, counts: Counts, params: SamplingParams) -> tuple[Ids, Floats]:
    """The tokens seen, each once, and what becomes of their logits."""
    ids, times = counts.seen()
    values = logits[ids]
    penalty = params.repetition_penalty
    values = np.where(values > 0, values / penalty, values * penalty).astype(np.float32)
    values -= times * params.frequency_penalty + params.presence_penalty
    return ids, values
