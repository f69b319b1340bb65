"""Bitmasks over the vocabulary: bit t of word t // 32 says whether token t may come.

Masks may end before the vocabulary does, or after it: tokens that they lack may not come, bits
beyond the vocabulary mean nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.llama.interface import Mask
from services.llama.sampling.arrays import Floats, Ids

# The bounds that each byte of a mask puts on the logits of its 8 tokens.
_BOUNDS = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") > 0,
    np.float32(np.inf),
    np.float32(-np.inf),
)

# A mask that allows at most one token in so many is cheaper to look through than to lay over.
_SPARSE = 16


def permits(mask: Mask, token: int) -> bool:
    """Whether the mask allows the token."""
    word = token >> 5
    return word < len(mask) and bool(int(mask[word]) >> (token & 31) & 1)


def count(mask: Mask, size: int) -> int:
    """How many tokens of a vocabulary of this size it allows."""
    return int(np.bitwise_count(_within(mask, size)).sum())


def tokens(mask: Mask, size: int) -> Ids:
    """The tokens it allows, ascending; cheap if they are few."""
    words = _within(mask, size)
    used = np.flatnonzero(words)
    bits = np.flatnonzero(_bits(words[used]))
    found: Ids = (used[bits >> 5] << 5) + (bits & 31)
    return found


def allowed(mask: Mask, size: int) -> NDArray[np.bool_]:
    """Whether it allows each token of a vocabulary of this size."""
    result = np.zeros(size, np.bool_)
    bits = _bits(_within(mask, size))[:size]
    result[: len(bits)] = bits
    return result


def restrict(logits: Floats, mask: Mask, among: int) -> tuple[Ids | None, Floats]:
    """What is left of the logits: tokens and their values, or all with -inf for the others.

    NaN stays what it is.
    `among` is how many tokens the mask allows.
    """
    size = len(logits)
    if among * _SPARSE <= size:
        ids = tokens(mask, size)
        return ids, logits[ids]
    # Not np.where: what cannot be foretold costs it several times as much.
    bounds = _BOUNDS[_bytes(_within(mask, size))].reshape(-1)[:size]
    if len(bounds) < size:
        bounds = np.append(bounds, np.full(size - len(bounds), -np.inf, np.float32))
    return None, np.minimum(logits, bounds)


def _within(mask: Mask, size: int) -> Mask:
    """The words of the vocabulary, without the bits beyond it."""
    words = mask[: -(-size // 32)]
    beyond = len(words) * 32 - size
    if beyond > 0 and int(words[-1]) >> (32 - beyond):
        words = words.copy()
        words[-1] &= (1 << (32 - beyond)) - 1
    return words


def _bits(words: Mask) -> NDArray[np.bool_]:
    return np.unpackbits(_bytes(words), bitorder="little").view(np.bool_)


def _bytes(words: Mask) -> NDArray[np.uint8]:
    return np.ascontiguousarray(words, "<u4").view(np.uint8)
