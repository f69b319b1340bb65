"""Guesses the next tokens by looking up what followed the last ones before: prompt lookup.

A draft costs a few rows of the batch and saves a step for every token that comes out as guessed.
Answers that quote their prompt gain much, others must lose nothing: how far to guess follows from
how the guesses before did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from services.llama.drafting.pace import Chance, worth

# Tokens that must repeat before what followed them is guessed.
NGRAM = 3
MOST_DRAFT = 16
# What has as many tokens is a copy. Where one breaks off, its other end is looked for in so many
# steps, so many tokens before and behind, and the guess there has so many.
_COPY = 4
_TRIES = 3
_BACK, _AHEAD = 2, 4
_RESUMED_DRAFT = 3
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
        self._indexed = 0
        self._chance = Chance()
        # Where what was guessed last goes on, and how much of it has been a copy.
        self._following = 0
        self._copied = 0
        # A copy was broken off: steps in which its other end is looked for near by, and whether
        # one token may have been replaced.
        self._tries = 0
        self._replaced = False
        self._misses = 0
        self._rest = 0

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        """Tokens that may come next, at most `most`; empty when there is no good guess."""
        self._index(tokens)
        if self._rest:
            self._rest -= 1
            return []
        places = [*self._after.get(tuple(tokens[-self._ngram :]), ()), self._following]
        fit, start = max((_fit(tokens, place), place) for place in places)
        if fit >= self._ngram:
            self._copied, self._tries = fit, 0
            length = worth(self._chance.value, self._most)
        else:
            if self._copied >= _COPY:
                self._tries, self._replaced = _TRIES, True
            self._copied = 0
            end = self._other_end(tokens)
            if end is None:
                return []
            start, length = end, min(_RESUMED_DRAFT, self._most)
        self._following = start
        guessed = tokens[start : start + min(most, length)]
        # What followed may have been an image: that cannot be guessed.
        return list(takewhile(lambda token: token >= 0, guessed))

    def _other_end(self, tokens: Sequence[int]) -> int | None:
        """Where a copy that was broken off may go on: where the last token stands near its end.

        Right after its end, one token may have been replaced.
        """
        if not self._tries:
            return None
        self._tries -= 1
        near = range(
            max(1, self._following - _BACK), min(len(tokens) - 1, self._following + _AHEAD) + 1
        )
        ends = [place for place in near if tokens[place - 1] == tokens[-1]]
        if ends:
            return min(ends, key=lambda place: abs(place - self._following))
        if self._replaced:
            return self._following
        # What came instead is taken to stand for as much of the source.
        self._following += 1
        return None

    def result(self, drafted: int, accepted: int) -> None:
        """How a draft did."""
        # One more has come, which the draft did not hold, or held wrongly.
        self._following += accepted + 1
        if self._copied:
            self._chance.result(drafted, accepted)
            self._copied += accepted
        else:
            self._replaced = accepted > 0
            if accepted:
                self._tries = _TRIES
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
