"""A compiled grammar, and following it token by token."""

from __future__ import annotations

import time
from collections.abc import Callable

import llguidance
import numpy as np
from numpy.typing import NDArray

from services.worker.errors import ConstraintFailed

# The library's words for that nothing may come next and the text may not end either, and for that
# one of its limits was met.
_NOTHING = "NoExtension"
_LIMITS = frozenset(("lexer error", "parser error"))
# Seconds of processor time from which on a call, which usually takes some µs, is one that learned
# something about the grammar, or was slow; and how many slow ones there may be in all. Those of an
# ambiguous grammar get slower with every step.
_LEARNS = 0.0001
_SLOW = 0.02
_MOST_SLOW = 16


class ConstraintError(Exception):
    """A token was not allowed, or the library failed: not the constraint's fault.

    The text is the library's word for it. After this, as after ConstraintFailed, the matcher cannot
    be used any more.
    """


class Grammar:
    """Compiled for one vocabulary. Safe to use from several threads."""

    def __init__(
        self,
        start: llguidance.LLMatcher,
        vocabulary_size: int,
        ends: frozenset[int],
        spell: Callable[[bytes], list[int]] | None = None,
        field: str = "constraint",
    ) -> None:
        """`start` has accepted nothing and stays so; `ends` are the end tokens.

        `spell` gives the tokens of a text; `behind` needs it. `field` is what it was made of, a path
        in the contract.
        """
        self.field = field
        self._start = start
        self._spell = spell
        self._words = (vocabulary_size + 31) // 32
        self._ends = ends
        # Seconds of processor time that its matchers took to learn about it, roughly: they learn for
        # each other, and it is kept here.
        self.learned = 0.0

    def matcher(self) -> Matcher:
        """One for each choice; takes some µs."""
        return Matcher(self, self._start.deep_copy(), self._words, self._ends)

    def behind(self, text: bytes) -> Matcher | None:
        """One behind the beginning of a text; None: it cannot begin like that.

        Raises ConstraintFailed.
        """
        matcher = self.matcher()
        if text and self._spell is None:
            return None
        try:
            for token in self._spell(text) if self._spell is not None and text else ():
                matcher.accept(token)
        except ConstraintError:
            return None
        return matcher


class Matcher:
    """What may come next in one choice. Not for two threads at the same time."""

    def __init__(
        self, grammar: Grammar, inner: llguidance.LLMatcher, words: int, ends: frozenset[int]
    ) -> None:
        self._grammar = grammar
        self._inner = inner
        self._ends = ends
        # The library counts some end tokens as accepted and some not: it sees none.
        self._ended = False
        self._mask = np.zeros(words, np.uint32)
        # Asking for it takes as long as most masks.
        self._address, self._bytes = self._mask.ctypes.data, self._mask.nbytes
        self._slow = 0

    def mask(self) -> NDArray[np.uint32]:
        """A bit per token, in the order of ids from the lowest: what may come next.

        End tokens are in it exactly when the text may end here; behind an end token it is that of
        the token before. The next call overwrites the array. Other threads run meanwhile. Raises
        ConstraintFailed, ConstraintError.
        """
        before = time.thread_time()
        self._inner.unsafe_compute_mask_ptr(self._address, self._bytes)
        self._check(before)
        if not self._mask.any():
            raise self._failed("nothing satisfies it")
        return self._mask

    def accept(self, token: int) -> None:
        """Goes on behind a token that the mask allowed; behind an end token, nowhere.

        Raises ConstraintFailed, ConstraintError.
        """
        before = time.thread_time()
        if token in self._ends:
            accepted = self._inner.is_accepting() and not self._ended
            self._ended = self._ended or accepted
        else:
            accepted = not self._ended and self._inner.consume_token(token)
        self._check(before)
        if not accepted:
            raise ConstraintError("not allowed")

    @property
    def finished(self) -> bool:
        """Whether nothing may come but an end."""
        return self._ended or (self._inner.is_stopped() and not self._inner.is_error())

    def forced(self) -> list[int]:
        """Tokens that must come next, in order and as the model would spell them; [] if unknown.

        They are still to be accepted. Raises ConstraintFailed, ConstraintError.
        """
        before = time.thread_time()
        tokens = self._inner.compute_ff_tokens()
        self._check(before)
        return tokens

    def _check(self, before: float) -> None:
        if self._inner.is_error():
            # The rest may quote what was generated.
            word = self._inner.get_error().partition("\n")[0].partition(":")[0]
            if word.startswith(_NOTHING):
                raise self._failed("nothing satisfies it")
            if word in _LIMITS:
                raise self._failed("is too complex")
            raise ConstraintError(word)
        seconds = time.thread_time() - before
        if seconds > _LEARNS:
            self._grammar.learned += seconds
        if seconds > _SLOW:
            self._slow += 1
        # Also to whoever asks again: what was raised beside the decode, nobody has heard of.
        if self._slow > _MOST_SLOW:
            raise self._failed("is too complex")

    def _failed(self, message: str) -> ConstraintFailed:
        return ConstraintFailed(self._grammar.field, message)
