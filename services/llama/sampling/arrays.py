"""Logits as arrays: their types, numbers that are none, and the largest of many."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# Values up to which equal ones are kept in order: sorting so takes several times as long.
_STABLE = 4096
# Rows of the matrix whose columns are the groups that have one peak each.
_ROWS = 32


def tame(logits: Floats) -> tuple[Floats, float, Floats]:
    """Logits without NaN and +inf, the largest, -inf where no token is possible, and their peaks.

    NaN counts as -inf. Where there is +inf, those tokens are equally likely and no other is.
    """
    tops = peaks(logits)
    best = float(tops.max())  # NaN, if there is any
    if math.isnan(best):
        logits = np.where(np.isnan(logits), np.float32(-np.inf), logits)
        tops = peaks(logits)
        best = float(tops.max())
    if best == math.inf:
        logits = np.where(logits == np.inf, np.float32(0), np.float32(-np.inf))
        tops = peaks(logits)
        best = 0.0
    return logits, best, tops


def peaks(logits: Floats) -> Floats:
    """The maxima of disjoint groups: columns of a matrix, then what is left over one by one.

    One pass over the whole vocabulary, which is what sampling costs, tells most of what is asked.
    """
    columns = len(logits) // _ROWS
    whole = _ROWS * columns
    return np.concatenate([logits[:whole].reshape(_ROWS, columns).max(axis=0), logits[whole:]])


def largest(logits: Floats, count: int, tops: Floats | None = None) -> tuple[Ids, Floats]:
    """The `count` largest logits, best first, ties by the lower token; -inf may be left out.

    `tops`: their peaks, where these are known.
    """
    ids = _at_least(logits, count, peaks(logits) if tops is None else tops)
    order = np.argsort(-logits[ids], kind="stable" if len(ids) <= _STABLE else None)[:count]
    ids = ids[order]
    return ids, logits[ids]


def _at_least(logits: Floats, count: int, tops: Floats) -> Ids:
    """Indices, ascending, of a superset of the `count` largest, mostly not many more.

    Peaks are elements too: `count` of them are at least as large as the count-th largest peak, so
    everything below that is out.
    """
    size = len(logits)
    if count >= size:
        return np.arange(size)
    if len(tops) <= count:
        bound = np.partition(logits, size - count)[size - count]
        return np.flatnonzero(_reach(logits, bound))
    bound = np.partition(tops, len(tops) - count)[len(tops) - count]
    groups = np.flatnonzero(_reach(tops, bound))
    columns = size // _ROWS
    if len(groups) * _ROWS > size // 4:
        return np.flatnonzero(_reach(logits, bound))
    inner = groups[groups < columns]
    ids: Ids = np.concatenate(
        [
            (np.arange(_ROWS)[:, None] * columns + inner).ravel(),
            groups[len(inner) :] + (_ROWS - 1) * columns,
        ]
    )
    return ids[_reach(logits[ids], bound)]


def _reach(values: Floats, bound: np.float32) -> NDArray[np.bool_]:
    # A constraint leaves most of a vocabulary at -inf: all of it would be found.
    return values > bound if bound == -np.inf else values >= bound
