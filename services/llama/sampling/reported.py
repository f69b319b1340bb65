"""What is told of a token's likelihood: of the raw logits, whatever was done to choose."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from services.llama.interface import Logits
from services.llama.sampling.arrays import largest, tame


@dataclass(frozen=True, slots=True)
class Logprobs:
    """A token's natural-log probability in the raw logits, and the likeliest there, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def logprobs(logits: Logits, token: int, top: int) -> Logprobs:
    """Log-softmax of the raw logits at `token`, and its `top` likeliest possible ones.

    -inf for a token that is impossible, as all are where no logit is a number.
    """
    logits, best, tops = tame(logits)
    if best == -math.inf:
        return Logprobs(token, -math.inf, ())
    with np.errstate(over="ignore"):
        normaliser = best + math.log(float(np.exp(logits - np.float32(best)).sum()))
    likeliest: tuple[tuple[int, float], ...] = ()
    if top:
        ids, values = largest(logits, top, tops)
        likeliest = tuple(
            (token, min(0.0, value - normaliser))
            for token, value in zip(ids.tolist(), values.tolist(), strict=True)
            if value > -math.inf
        )
    return Logprobs(token, min(0.0, float(logits[token]) - normaliser), likeliest)
