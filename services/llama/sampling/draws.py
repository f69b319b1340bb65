"""A number in [0, 1) to one of many, by their weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.llama.sampling.arrays import Floats

# Weights of one partial sum.
_BLOCK = 512


def draw(values: Floats, best: float, temperature: float, number: float) -> int:
    """Index of a value, with probability softmax(values / temperature)."""
    if len(values) > 2 * _BLOCK:
        return _draw_of_many(values, best, temperature, number)
    return pick(np.exp((values.astype(np.float64) - best) / temperature), number)


def pick(weights: NDArray[np.float64], number: float) -> int:
    """Index i with probability weights[i] / sum; never one of weight 0."""
    cumulative = np.cumsum(weights)
    index = int(np.searchsorted(cumulative, number * cumulative[-1], side="right"))
    if index < len(weights):
        return index
    return int(np.flatnonzero(weights)[-1])


def _draw_of_many(values: Floats, best: float, temperature: float, number: float) -> int:
    weights = np.exp((values - np.float32(best)) * np.float32(1 / temperature))
    # Two levels, because a running sum over the whole vocabulary costs more than the rest.
    # Single precision suffices within a block: it errs by less than the weights themselves.
    whole = len(weights) // _BLOCK * _BLOCK
    sums = weights[:whole].reshape(-1, _BLOCK).sum(axis=1)
    sums = np.append(sums, weights[whole:].sum()).astype(np.float64)
    cumulative = np.cumsum(sums)
    target = number * cumulative[-1]
    index = pick(sums, number)
    within = (target - (cumulative[index] - sums[index])) / sums[index]
    inner = weights[index * _BLOCK : (index + 1) * _BLOCK].astype(np.float64)
    return index * _BLOCK + pick(inner, min(1.0, max(0.0, within)))
