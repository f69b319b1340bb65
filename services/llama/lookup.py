"""Guesses the next tokens by looking up what followed the last ones before: prompt lookup.

A draft costs a few rows of the batch and saves a step for every token that comes out as guessed.
Answers that quote their prompt gain much, others must lose nothing: how far to guess follows from
how the guesses before did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

# Tokens that must repeat before what followed them is guessed.
NGRAM = 3
MOST_DRAFT = 16
_FIRST_DRAFT = 4
# After misses in a row: steps without a guess, doubled each time.
_LONGEST_REST = 64
# Places where an n-gram stood that are remembered, the latest ones.
_PLACES = 8
# Tokens that are compared to tell which of them fits best.
_FIT = 32


@dataclass(frozen=True, slots=True)
class SpeculationParams:
    """How far to guess. Fields as in the contract."""

    enabled: bool = True
    max_draft_tokens: int = MOST_DRAFT
    max_ngram: int = NGRAM


class Lookup:
    """The drafts of one sequence, whose tokens only grow."""

    def __init__(self, params: SpeculationParams) -> None:
        self._most = params.max_draft_tokens
        self._ngram = params.max_ngram
        # Where the tokens after each n-gram begin.
        self._after: dict[tuple[int, ...], list[int]] = {}
        # Where what was guessed last goes on, if it comes out.
        self._following: int | None = None
        self._indexed = 0
        self._length = min(_FIRST_DRAFT, self._most)
        self._misses = 0
        self._rest = 0

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        """Tokens that may come next, at most `most`; empty when there is no good guess."""
        self._index(tokens)
        if self._rest:
            self._rest -= 1
            return []
        places = list(self._after.get(tuple(tokens[-self._ngram :]), ()))
        if self._following is not None:
            places.append(self._following)
        start = max(places, key=lambda place: (_fit(tokens, place), place), default=0)
        if _fit(tokens, start) < self._ngram:
            return []
        self._following = start
        found = tokens[start : start + min(most, self._length)]
        # What followed may have been an image: that cannot be guessed.
        return list(takewhile(lambda token: token >= 0, found))

    def result(self, drafted: int, accepted: int) -> None:
        """How a draft did."""
        if self._following is not None:
            # One more has come, which the draft did not hold, or held wrongly.
            self._following += accepted + 1
        if accepted == drafted:
            self._length = min(self._most, 2 * max(self._length, drafted))
        else:
            self._length = max(1, min(self._length, accepted + 1))
        if accepted:
            self._misses = 0
        else:
            self._misses += 1
            self._rest = min(_LONGEST_REST, 2**self._misses - 2)

    def _index(self, tokens: Sequence[int]) -> None:
        # Not the n-gram at the very end: nothing has followed it yet.
        size = self._ngram
        for end in range(max(self._indexed, size), len(tokens)):
            gram = tuple(tokens[end - size : end])
            places = self._after.setdefault(gram, [])
            places.append(end)
            if len(places) > _PLACES:
                del places[0]
        self._indexed = max(self._indexed, len(tokens))


def _fit(tokens: Sequence[int], place: int) -> int:
    """How many tokens before the place equal the last ones."""
    count, size = 0, len(tokens)
    while (
        count < min(_FIT, place)
        and place < size
        and tokens[place - 1 - count] == tokens[size - 1 - count]
    ):
        count += 1
    return count
