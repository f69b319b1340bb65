"""top_k, typical_p, top_p and min_p, in this order: which tokens may be drawn at all.

Nothing sorts the whole vocabulary, however flat the distribution: what is certain is found by
comparing, and only what lies at the edge is put in order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from services.llama.sampling.arrays import Floats, Ids, largest
from services.llama.sampling.params import SamplingParams

# The likeliest, among which top_p mostly ends.
_HEAD = 1024
# Instead of the logarithm of 0 in sums.
_HARDLY = np.float32(-1e4)
# Keys are told apart by bins of 1 / _FINENESS first; the last one takes all that are larger.
_FINENESS = 64
_BINS = 4096


def truncate(
    logits: Floats, best: float, tops: Floats, params: SamplingParams
) -> tuple[Ids, Floats]:
    """Tokens that survive, at least one, and their logits.

    `best` is the largest, a number, `tops` are the peaks.
    """
    size = len(logits)
    ids: Ids | None = None
    values = logits
    if params.top_k:  # comes first: the others see a distribution of its own
        ids, values = largest(logits, min(params.top_k, size), tops)
    if params.typical_p < 1:
        kept = _typical(values, best, params.typical_p)
        ids, values = _among(ids, kept), values[kept]
    if params.top_p < 1:
        kept = _nucleus(values, params.top_p)
        ids, values = _among(ids, kept), values[kept]
    if params.min_p > 0:
        kept = np.flatnonzero(values >= values.max() + np.float32(math.log(params.min_p)))
        ids, values = _among(ids, kept), values[kept]
    return np.arange(size) if ids is None else ids, values


def _among(ids: Ids | None, kept: Ids) -> Ids:
    """The kept ones of the ids, of which None are all there are."""
    return kept if ids is None else ids[kept]


def _nucleus(values: Floats, mass: float) -> Ids:
    """Indices of the likeliest, up to the mass."""
    weights = np.exp(values - values.max())
    target = mass * float(weights.sum(dtype=np.float64))
    if len(values) > _HEAD:
        head, _ = largest(values, _HEAD)
        cumulative = np.cumsum(weights[head], dtype=np.float64)
        if cumulative[-1] >= target:
            return head[: int(np.searchsorted(cumulative, target)) + 1]
    return _first(values.max() - values, weights, target)


def _typical(values: Floats, best: float, mass: float) -> Ids:
    """Indices of those whose information is nearest to the entropy, up to the mass."""
    scaled = np.maximum(values - np.float32(best), _HARDLY)
    weights = np.exp(scaled)
    total = float(weights.sum(dtype=np.float64))
    # Information is log(total) - scaled, and the entropy its mean.
    mean = float((weights * scaled).sum(dtype=np.float64)) / total
    return _first(np.abs(scaled - np.float32(mean)), weights, mass * total)


def _first(keys: Floats, weights: Floats, target: float) -> Ids:
    """Indices, ascending, of the smallest keys that together reach the target weight.

    Keys are at least 0. Of equal ones the lower index comes first.
    """
    if len(keys) <= _HEAD:
        return np.sort(_reaching(np.arange(len(keys)), keys, weights, target))
    bins = (np.minimum(keys, np.float32((_BINS - 0.5) / _FINENESS)) * _FINENESS).astype(np.int64)
    sums: NDArray[np.float64] = np.cumsum(np.bincount(bins, weights, _BINS))
    edge = min(int(np.searchsorted(sums, target)), int(bins.max()))
    before = float(sums[edge - 1]) if edge else 0.0
    last = _reaching(np.flatnonzero(bins == edge), keys, weights, target - before)
    kept = bins < edge
    kept[last] = True
    found: Ids = np.flatnonzero(kept)
    return found


def _reaching(ids: Ids, keys: Floats, weights: Floats, target: float) -> Ids:
    """Those of the ids with the smallest keys, at least one if there is one, up to the target."""
    order = ids[np.argsort(keys[ids], kind="stable")]
    cumulative = np.cumsum(weights[order], dtype=np.float64)
    return order[: int(np.searchsorted(cumulative, target)) + 1]
