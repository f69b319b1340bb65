"""A model's vocabulary as llguidance wants it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import llguidance

from services.llama.interface import Vocabulary

# Sets of tokens, the inside of a JSON string so many characters long, that a mask takes whole where
# the text has room for all of one. The library's own four take twice the memory and are no faster:
# few tokens are white space, or longer than these.
_SLICES = [r'[^"\\\x00-\x1F\x7F]{1,10}', r'[^"\\\x00-\x1F\x7F]{1,30}']


def usable(vocabulary: Vocabulary) -> bool:
    """Whether something can be constrained with it: it has an end token, and text."""
    tokens = range(vocabulary.size)
    return bool(vocabulary.ends) and any(vocabulary.piece(t, special=True) for t in tokens)


def tokenizer(vocabulary: Vocabulary) -> llguidance.LLTokenizer:
    """The library's view of a vocabulary: half a second and 30 to 50 MiB for 150,000 tokens.

    The vocabulary's control tokens stand for themselves alone, so no text is made with them. Raises
    whatever the library finds wrong with the vocabulary.
    """
    words = _Words(vocabulary)
    wrapper = llguidance.TokenizerWrapper(words)
    made = llguidance.LLTokenizer(
        wrapper, n_vocab=vocabulary.size, eos_token=sorted(vocabulary.ends), slices=_SLICES
    )
    # It has copied them: 10 MiB for 150,000 tokens.
    wrapper.tokens = words.tokens = ()
    return made


class _Words:
    """What llguidance.TokenizerWrapper asks for. Names are the library's."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        special = {token.id for token in vocabulary.special.values()} | vocabulary.ends
        self.eos_token_id = min(vocabulary.ends, default=0)
        self.bos_token_id = vocabulary.bos
        self.special_token_ids = sorted(special)
        # Until the library has taken them.
        self.tokens: Sequence[bytes] = [self._piece(token) for token in range(vocabulary.size)]

    def __call__(self, text: bytes | str) -> list[int]:
        """The tokens of a text as the model knows it: they spell it and nothing else."""
        # The library asks with bytes, unless the first call, a trial, failed.
        data, text = _both(text)
        found = self._vocabulary.tokenize(text, parse_special=False)
        if b"".join(map(self._piece, found)) == data:
            return found
        # The tokenizer adds a space in front, or makes one character of several.
        return self._greedy(data)

    def _piece(self, token: int) -> bytes:
        return self._vocabulary.piece(token, special=True)

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        # Most vocabularies never need it, and it takes some MiB.
        special = set(self.special_token_ids)
        tokens = reversed(range(self._vocabulary.size))
        words = ((self._piece(token), token) for token in tokens if token not in special)
        return {word: token for word, token in words if word}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._by_bytes), default=0)

    def _greedy(self, text: bytes) -> list[int]:
        found: list[int] = []
        at = 0
        while at < len(text):
            for size in range(min(self._longest, len(text) - at), 0, -1):
                token = self._by_bytes.get(text[at : at + size])
                if token is not None:
                    found.append(token)
                    at += size
                    break
            else:
                # What no token spells cannot be forced: the masks are what decides.
                return found
        return found


def _both(text: bytes | str) -> tuple[bytes, str]:
    if isinstance(text, str):
        return text.encode(), text
    return text, text.decode("utf-8", "replace")
