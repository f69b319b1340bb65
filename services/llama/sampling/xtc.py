"""XTC: exclude top choices.

Of all tokens that reach a probability, only the least likely stays: with two or more good ways
on, the obvious ones are left out. Where fewer than two reach it, nothing happens.
"""

from __future__ import annotations

import math

import numpy as np

from services.llama.sampling.arrays import Floats, tame
from services.llama.sampling.params import Xtc
from services.llama.sampling.randomness import EXCLUSION, uniform


def strikes(params: Xtc, seed: int, choice: int, position: int) -> bool:
    """Whether it happens at this position: with the probability of the params."""
    # More than half can only be one token's.
    if params.threshold > 0.5:
        return False
    return uniform(seed, choice, position, EXCLUSION) < params.probability


def exclude(values: Floats, best: float, params: Xtc) -> tuple[Floats, float]:
    """Values with those of the excluded at -inf, and the largest then; ties by the lower index."""
    total = float(np.exp(values - np.float32(best)).sum(dtype=np.float64))
    share = params.threshold * total
    bound = best + math.log(share) if share > 0 else -math.inf
    likely = np.flatnonzero((values >= bound) & (values > -np.inf))
    if len(likely) < 2:
        return values, best
    # Of equals the last one stays.
    last = len(likely) - 1 - int(values[likely][::-1].argmin())
    values = values.copy()
    values[np.delete(likely, last)] = -np.inf
    values, best, _ = tame(values)
    return values, best
