"""Logits as arrays: their types, numbers that are none, and the largest of many."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# Values up to which equal ones are kept in order: sorting so takes several times as long.
_STABLE = 4096
# Columns of the strided maximum that bounds the k-th largest logit from below.
_ROWS = 32


def tame(logits: Floats) -> tuple[Floats, float]:
    """Logits without NaN and +inf, and the largest; -inf where no token is possible.

    NaN counts as -inf. Where there is +inf, those tokens are equally likely and no other is.
    """
    best = float(logits.max())  # NaN, if there is any
    if math.isnan(best):
        logits = np.where(np.isnan(logits), np.float32(-np.inf), logits)
        best = float(logits.max())
    if best == math.inf:
        logits = np.where(logits == np.inf, np.float32(0), np.float32(-np.inf))
        best = 0.0
    return logits, best


def largest(logits: Floats, count: int) -> tuple[Ids, Floats]:
    """The `count` largest logits, best first, ties by the lower token; -inf may be left out."""
    ids = _at_least(logits, count)
    order = np.argsort(-logits[ids], kind="stable" if len(ids) <= _STABLE else None)[:count]
    ids = ids[order]
    return ids, logits[ids]


def _at_least(logits: Floats, count: int) -> Ids:
    """Indices, ascending, of a superset of the `count` largest, mostly not many more.

    The maxima of disjoint groups are elements too: `count` of them are at least as large as the
    count-th largest maximum, so everything below that is out.
    """
    size = len(logits)
    columns = size // _ROWS
    if count >= size:
        return np.arange(size)
    if columns <= count:
        bound = np.partition(logits, size - count)[size - count]
    else:
        maxima = logits[: _ROWS * columns].reshape(_ROWS, columns).max(axis=0)
        bound = np.partition(maxima, columns - count)[columns - count]
    # A constraint leaves most of a vocabulary at -inf: all of it would be found.
    reached = logits > bound if bound == -np.inf else logits >= bound
    found: Ids = np.flatnonzero(reached)
    return found
