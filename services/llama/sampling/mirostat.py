"""Mirostat: keeps the surprise of the text near a target by steering the truncation.

Basu et al. 2021, https://arxiv.org/abs/2007.14966, as llama.cpp has it: the surprise that is
learnt from is that of the token among those kept. Version 1 estimates a k from how steep the
likeliest tokens fall; version 2 drops the tokens whose surprise exceeds mu.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import NDArray

from services.llama.sampling.arrays import Floats, Ids, largest
from services.llama.sampling.draws import pick
from services.llama.sampling.params import Mirostat

# Likeliest tokens from which version 1 estimates the steepness.
_ESTIMATE_FROM = 100


class Control:
    """The running bound on surprise, `mu` in bits: the one state that depends on logits."""

    def __init__(self, params: Mirostat, temperature: float) -> None:
        self._params = params
        self._temperature = temperature
        self.mu = 2.0 * params.tau

    def choose(self, values: Floats, best: float, vocabulary: int, number: float) -> int:
        """Index of a value; learns from it. `vocabulary` in tokens, `number` in [0, 1)."""
        kept, weights = self._keep(values, best, vocabulary)
        at = pick(weights, number)
        self._learn(float(weights[at] / weights.sum()))
        return int(kept[at])

    def observe(self, values: Floats, best: float, vocabulary: int, index: int | None) -> None:
        """Learns as if `index` had been chosen; one that is not kept counts as the least likely."""
        kept, weights = self._keep(values, best, vocabulary)
        chosen = weights[kept == index] if index is not None else weights[:0]
        weight = chosen[0] if len(chosen) else weights.min()
        self._learn(float(weight / weights.sum()))

    def _learn(self, probability: float) -> None:
        surprise = -math.log2(max(probability, sys.float_info.min))
        self.mu -= self._params.eta * (surprise - self._params.tau)

    def _keep(
        self, values: Floats, best: float, vocabulary: int
    ) -> tuple[Ids, NDArray[np.float64]]:
        """Indices of the tokens that are kept, at least one, and their weights."""
        scaled = (values - np.float32(best)) * np.float32(1 / self._temperature)
        if self._params.version == 1:
            kept = _within_rank(scaled, self.mu, vocabulary)
        else:
            kept = _within_surprise(scaled, self.mu)
        return kept, np.exp(scaled[kept].astype(np.float64))


def _within_surprise(scaled: Floats, mu: float) -> Ids:
    total = float(np.exp(scaled).sum(dtype=np.float64))
    kept = np.flatnonzero((scaled >= math.log(total) - mu * math.log(2)) & (scaled > -np.inf))
    return kept if len(kept) else np.array([int(scaled.argmax())])


def _within_rank(scaled: Floats, mu: float, vocabulary: int) -> Ids:
    _, likeliest = largest(scaled, min(_ESTIMATE_FROM, len(scaled)))
    top = likeliest[likeliest > -np.inf].astype(np.float64)
    if len(top) < 2:
        return np.array([int(scaled.argmax())])
    possible = np.flatnonzero(scaled > -np.inf)
    rank = _rank(top, mu, vocabulary, len(possible))
    if rank == len(possible):
        return possible
    kept, _ = largest(scaled, rank)
    return kept


def _rank(top: NDArray[np.float64], mu: float, vocabulary: int, most: int) -> int:
    """The k, 1..most, whose expected surprise is mu if ranks follow Zipf's law as `top` does."""
    ranks = np.arange(1, len(top))
    steps = np.log((ranks + 1) / ranks)
    exponent = float((steps * (top[:-1] - top[1:])).sum() / (steps * steps).sum())
    epsilon = exponent - 1
    spread = math.log(vocabulary)
    # epsilon / (1 - vocabulary ** -epsilon), which at 0 is its limit.
    factor = epsilon / -math.expm1(-epsilon * spread) if abs(epsilon) > 1e-9 else 1 / spread
    # In logarithms, because mu has no bound. The exponent of a flat distribution is 0.
    log_rank = (math.log(factor) + mu * math.log(2)) / max(exponent, 1e-9)
    return max(1, min(most, int(math.exp(max(0.0, min(log_rank, math.log(most) + 1))))))
