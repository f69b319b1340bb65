"""Sets of characters as sorted, disjoint ranges of code points; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

CharSet: TypeAlias = tuple[tuple[int, int], ...]

NONE: CharSet = ()
# Surrogates are no characters.
ANY: CharSet = ((0, 0xD7FF), (0xE000, 0x10FFFF))


def of(ranges: Iterable[tuple[int, int]]) -> CharSet:
    """Ranges in any order, both ends included, as a set."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return tuple(out)


def union(one: CharSet, other: CharSet) -> CharSet:
    """What is in either."""
    if not other or one == other:
        return one
    return of((*one, *other)) if one else other


def meet(one: CharSet, other: CharSet) -> bool:
    """Whether they have a character in common."""
    first, second = 0, 0
    while first < len(one) and second < len(other):
        if max(one[first][0], other[second][0]) <= min(one[first][1], other[second][1]):
            return True
        if one[first][1] < other[second][1]:
            first += 1
        else:
            second += 1
    return False


def intersection(one: CharSet, other: CharSet) -> CharSet:
    """What is in both."""
    return tuple(
        (max(low, low2), min(high, high2))
        for low, high in one
        for low2, high2 in other
        if max(low, low2) <= min(high, high2)
    )


def complement(one: CharSet) -> CharSet:
    """Every character that is not in it."""
    out: list[tuple[int, int]] = []
    at = 0
    for low, high in one:
        if at < low:
            out.append((at, low - 1))
        at = high + 1
    if at <= ANY[-1][1]:
        out.append((at, ANY[-1][1]))
    return intersection(tuple(out), ANY)


def just(character: str) -> CharSet:
    """One character."""
    return ((ord(character), ord(character)),)
