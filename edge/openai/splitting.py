"""Dividing the inputs of one request among workers. Pure."""

from __future__ import annotations

from collections.abc import Sequence

# Inputs for which another worker is worth being asked.
LEAST = 16


def parts(sizes: Sequence[int], most: int) -> list[slice]:
    """At most `most` parts of neighbours that are of about equal size together; none is empty.

    `sizes` are those of the inputs, each at least 1.
    """
    count = max(1, most)
    total = sum(sizes)
    out: list[slice] = []
    begin = seen = 0
    for end, size in enumerate(sizes, 1):
        seen += size
        if seen * count >= total * (len(out) + 1):
            out.append(slice(begin, end))
            begin = end
    return out


def worthwhile(inputs: int, workers: int) -> int:
    """Parts for that many inputs and workers that could take one, at least 1."""
    return max(1, min(workers, inputs // LEAST))
