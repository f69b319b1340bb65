"""Ends thoughts that take too long: the tokens that are then taken instead of chosen. Pure."""

from __future__ import annotations

from services.llama.interface import Vocabulary
from services.llama.reading import Text


class Thoughts:
    """Follows one choice's text."""

    def __init__(self, text: Text, budget: int | None, vocabulary: Vocabulary) -> None:
        """`budget` in tokens of the whole choice; None: no limit."""
        self._text, self._budget, self._vocabulary = text, budget, vocabulary
        # What is still to come of an end of thoughts, and its text.
        self._end: list[int] = []
        self._close = ""
        # Whether the thoughts that are going on were told to end: not twice, if it does not help.
        self._told = False
        # Positions of the completion that were not chosen.
        self.forced: set[int] = set()
        if budget is not None:
            self._check()

    @property
    def next(self) -> int | None:
        """The token that must come next, whatever the logits say."""
        return self._end[0] if self._end else None

    def appended(self, token: int, completed: int) -> None:
        """The text has got this token, its next one, and so has so many."""
        if self._budget is None:
            return
        if token == self.next:
            del self._end[0]
            self.forced.add(completed - 1)
            if not self._end:
                self._text.ended_thoughts(self._close)
        else:
            # If one had to come, the constraint did not let it: nor would it let the rest.
            self._end = []
            self._check()

    def _check(self) -> None:
        end = self._text.thinking
        if not end:
            self._told = False
        elif self._told or self._text.unfinished:
            pass
        elif self._text.reasoning_tokens >= (self._budget or 0):
            self._told = True
            self._close = end
            self._end = self._vocabulary.tokenize(end, parse_special=True)
