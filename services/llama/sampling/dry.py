"""DRY, "don't repeat yourself": a token that would prolong a verbatim repeat is made less likely.

By p-e-w, https://github.com/oobabooga/text-generation-webui/pull/5677. Where the last tokens
came before, the token that followed there gets multiplier * base ** (length - allowed_length)
off its logit, with the longest such repeat counting. A repeat does not reach back across a
sequence breaker, and a token that contains one is never punished.

Breakers are looked for in the text, not among tokens, so it does not matter how a tokenizer cuts
them up. What llama.cpp computes anew for each token is kept up to date here: when a token comes,
only the places where it came before can end a repeat, each one longer than the place before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from services.llama.sampling.arrays import Floats, Ids
from services.llama.sampling.params import Dry

# Tokens of the prompt's end in which a breaker is looked for first.
_LOOK_BACK = 64
# Text kept before it is cut to what a breaker may need.
_KEPT_BYTES = 4096
# Enough to rule a token out, and still a number in single precision.
_LOG_MOST = math.log(1e30)
_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.float32)


class Repeats:
    """Where the last tokens of a sequence came before, and how far back the likeness goes."""

    def __init__(
        self, params: Dry, prompt: Sequence[int], piece: Callable[[int], bytes] | None
    ) -> None:
        breakers = tuple(text.encode() for text in params.sequence_breakers if text)
        if breakers and piece is None:
            raise ValueError("sequence breakers need the tokens' text")
        self._params = params
        self._breakers = _Breakers(breakers, piece) if breakers and piece else None
        recent = prompt[-params.window :] if params.window else prompt
        self._size = len(recent)
        self._tokens = np.zeros(self._size + 64, np.int64)
        self._tokens[: self._size] = recent
        # Length of the repeat that ends at a place, at the place after it: [0] is always 0.
        self._lengths = np.zeros(len(self._tokens) + 1, np.int64)
        # Tokens since the last breaker.
        self._since = self._breakers.since(prompt) if self._breakers else self._size
        if self._since:  # else no likeness counts, nor can any that begins before the breaker
            self._lengths[1 : self._size + 1] = _likenesses(self._tokens[: self._size].tolist())
        self._places = np.flatnonzero(self._lengths[1:])

    def add(self, token: int) -> None:
        """One more token. Linear in the window, at memory speed."""
        if self._size == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)])
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths[1:])])
        first = self._first(self._size + 1)
        places = first + np.flatnonzero(self._tokens[first : self._size] == token)
        grown = self._lengths[places] + 1
        self._lengths[self._places + 1] = 0
        self._lengths[places + 1] = grown
        self._places = places
        self._tokens[self._size] = token
        self._size += 1
        broken = self._breakers is not None and self._breakers.feed(token)
        self._since = 0 if broken else self._since + 1

    def penalised(self, logits: Floats) -> tuple[Ids, Floats]:
        """Tokens that would prolong a repeat, each once, and what becomes of their logits."""
        params = self._params
        allowed = max(1, params.allowed_length)
        if self._since < allowed:
            return _NOTHING
        # A likeness ends at the window's edge too.
        reach = self._places + 1 - self._first(self._size)
        lengths = np.minimum(np.minimum(self._lengths[self._places + 1], reach), self._since)
        counting = lengths >= allowed
        if not counting.any():
            return _NOTHING
        # Sorted by what follows and then by length, the last of each token is its longest.
        followers = self._tokens[self._places[counting] + 1]
        keys = np.sort(followers << 32 | lengths[counting])
        keys = keys[np.append(keys[1:] >> 32 != keys[:-1] >> 32, True)]
        if self._breakers is not None:
            within = self._breakers.within
            keys = keys[[not within(token) for token in (keys >> 32).tolist()]]
        ids, longest = keys >> 32, keys & 0xFFFFFFFF
        exponents = (longest - params.allowed_length) * math.log(params.base)
        exponents += math.log(params.multiplier)
        return ids, logits[ids] - np.exp(np.minimum(exponents, _LOG_MOST)).astype(np.float32)

    def _first(self, size: int) -> int:
        """The first place in the window of a sequence of this size."""
        return max(0, size - self._params.window) if self._params.window else 0


def _likenesses(tokens: list[int]) -> list[int]:
    """Per place, how many tokens up to it equal the last ones; 0 at the last place itself.

    The Z algorithm from the end, which is linear: a stretch that is known to equal the end of
    the sequence tells the lengths within it.
    """
    backwards = tokens[::-1]
    size = len(backwards)
    lengths = [0] * size
    left = right = 0  # the stretch that reaches furthest
    for at in range(1, size):
        length = min(lengths[at - left], right - at) if at < right else 0
        while at + length < size and backwards[length] == backwards[at + length]:
            length += 1
        lengths[at] = length
        if at + length > right:
            left, right = at, at + length
    return lengths[::-1]


class _Breakers:
    """Finds where the text of a sequence has a sequence breaker."""

    def __init__(self, breakers: tuple[bytes, ...], piece: Callable[[int], bytes]) -> None:
        self._breakers = breakers
        self._piece = piece
        self._longest = max(map(len, breakers))
        # The end of the text, long enough for a breaker that is not complete.
        self._text = bytearray()
        self._known: dict[int, bool] = {}

    def within(self, token: int) -> bool:
        """Whether the token by itself contains one."""
        known = self._known.get(token)
        if known is None:
            piece = self._piece(token)
            known = self._known[token] = any(text in piece for text in self._breakers)
        return known

    def feed(self, token: int) -> bool:
        """Whether one ends within this token, which is the next."""
        text, before = self._text, len(self._text)
        text += self._piece(token)
        found = any(text.find(b, max(0, before - len(b) + 1)) >= 0 for b in self._breakers)
        if len(text) > _KEPT_BYTES + 2 * self._longest:
            del text[: -self._longest]
        return found

    def since(self, tokens: Sequence[int]) -> int:
        """Tokens after the one in which the last one ends; all, if there is none."""
        count = _LOOK_BACK
        while True:
            pieces = [self._piece(token) for token in tokens[-count:]]
            text = b"".join(pieces)
            end = max(_end(text, breaker) for breaker in self._breakers)
            # One that begins before this text would end sooner than that.
            if end >= self._longest or count >= len(tokens):
                break
            count *= 4
        self._text = bytearray(text[-self._longest :])
        return _whole_after(pieces, end, len(text))


def _end(text: bytes, breaker: bytes) -> int:
    """Where the last one in the text ends; 0, if there is none."""
    at = text.rfind(breaker)
    return at + len(breaker) if at >= 0 else 0


def _whole_after(pieces: list[bytes], end: int, size: int) -> int:
    """How many of the last pieces lie wholly at or after `end` in a text of `size` bytes."""
    count = 0
    for piece in reversed(pieces):
        size -= len(piece)
        if size < end:
            break
        count += 1
    return count
