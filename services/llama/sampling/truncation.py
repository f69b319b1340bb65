"""top_k, typical_p, top_p and min_p, in this order: which tokens may be drawn at all.

A few hundred candidates are cut out of the vocabulary first, and only a truncation that provably
needs more of it looks at all.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from services.llama.sampling.arrays import Floats, Ids, largest
from services.llama.sampling.params import SamplingParams

# Candidates that a truncation looks at, as far as it needs; then the whole vocabulary.
_CANDIDATES = (1024, 16384)
# Instead of the logarithm of 0 in sums.
_HARDLY = np.float32(-1e4)


def truncate(logits: Floats, best: float, params: SamplingParams) -> tuple[Ids, Floats]:
    """Tokens that survive, and their logits, best first. At least one survives.

    `best` is the largest logit, a number.
    """
    size = len(logits)
    total: float | None = None
    if params.top_k:  # comes first: the others see a distribution of its own
        ids, values = largest(logits, min(params.top_k, size))
        if params.typical_p < 1:
            kept = np.sort(_typical(values, best, params.typical_p))
            ids, values = ids[kept], values[kept]
    elif params.typical_p < 1:
        ids = np.sort(_typical(logits, best, params.typical_p))
        order = np.argsort(-logits[ids], kind="stable")
        ids = ids[order]
        values = logits[ids]
    else:
        total = float(np.exp(logits - np.float32(best)).sum(dtype=np.float64))
        for wanted in (*_CANDIDATES, size):
            ids, values = largest(logits, min(wanted, size))
            # Fewer than wanted are all that are possible.
            if len(values) < wanted or _enough(values, total, params):
                break
    if params.top_p < 1:
        count = _nucleus(values, total, params.top_p)
        ids, values = ids[:count], values[:count]
    if params.min_p > 0:
        kept = values >= values[0] + np.float32(math.log(params.min_p))
        ids, values = ids[kept], values[kept]
    return ids, values


def _enough(values: Floats, total: float, params: SamplingParams) -> bool:
    """Whether the truncations cannot want a token beyond these, the likeliest."""
    last = float(values[-1] - values[0])
    if params.min_p > 0 and last < math.log(params.min_p):
        return True
    if params.top_p < 1:
        return float(np.exp(values - values[0]).sum(dtype=np.float64)) / total >= params.top_p
    return False


def _nucleus(values: Floats, total: float | None, mass: float) -> int:
    """How many of the likeliest make up the mass; `total` is what all weigh, if not only these."""
    weights: NDArray[np.float64] = np.exp((values - values[0]).astype(np.float64))
    whole = float(weights.sum()) if total is None else total
    return int(np.searchsorted(np.cumsum(weights / whole), mass)) + 1


def _typical(values: Floats, best: float, mass: float) -> Ids:
    """Indices of those whose information is nearest to the entropy, up to the mass."""
    scaled = np.maximum(values - np.float32(best), _HARDLY)
    weights = np.exp(scaled)
    total = float(weights.sum(dtype=np.float64))
    # Information is log(total) - scaled, and the entropy its mean.
    mean = float((weights * scaled).sum(dtype=np.float64)) / total
    nearness = -np.abs(scaled - np.float32(mean))
    size = len(values)
    for wanted in (*_CANDIDATES, size):
        ids, _ = largest(nearness, min(wanted, size))
        cumulative = np.cumsum(weights[ids], dtype=np.float64) / total
        count = int(np.searchsorted(cumulative, mass)) + 1
        if count <= len(ids):
            break
    return ids[:count]
