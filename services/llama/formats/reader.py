"""A text that is still growing, read by generators that yield where they need more of it.

Nothing that is decided may depend on how the text was cut: what is read waits until no more text
could change it.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TypeAlias, TypeVar

from services.llama.formats.markers import SPACE

T = TypeVar("T")
# Yields where more text is needed.
Steps: TypeAlias = Generator[None, None, T]


class NotACallError(Exception):
    """What looked like a call is none; it is read again, as text."""


class Reader:
    """The text from where it has been read. Only `tell` and `mark` hold across a yield."""

    __slots__ = ("_dropped", "at", "cut_off", "ended", "mark", "text")

    def __init__(self, before: int) -> None:
        """`before`: characters of the text that count as if they stood before its beginning."""
        self.text = ""
        # Where it is read, in `text`.
        self.at = 0
        # Whether no more will come; and whether that is because the model was stopped.
        self.ended = False
        self.cut_off = False
        # Where one may want to go back to, as told by `tell`.
        self.mark: int | None = None
        # Characters that were read and are gone.
        self._dropped = -before

    def add(self, text: str) -> None:
        """More text."""
        keep = self.at if self.mark is None else self.mark - self._dropped
        self.text = self.text[keep:] + text
        self.at -= keep
        self._dropped += keep

    def tell(self) -> int:
        """Where it is read, from the beginning of all text."""
        return self._dropped + self.at

    @property
    def settled(self) -> int:
        """The place before which nothing is read again."""
        return self.tell() if self.mark is None else self.mark

    def seek(self, place: int) -> None:
        """Back to a place, not before `mark`."""
        self.at = place - self._dropped

    def since(self, place: int) -> str:
        """The text from a place, not before `mark`, to here."""
        return self.text[place - self._dropped : self.at]

    def peek(self) -> Steps[str]:
        """The next character; "" at the end."""
        while self.at >= len(self.text):
            if self.ended:
                return ""
            yield
        return self.text[self.at]

    def skip(self, characters: str = SPACE) -> Steps[str]:
        """Goes on to the next other character, and gives it; "" at the end."""
        while True:
            text, at = self.text, self.at
            while at < len(text):
                if text[at] not in characters:
                    self.at = at
                    return text[at]
                at += 1
            self.at = at
            if self.ended:
                return ""
            yield

    def take(self, literal: str) -> Steps[bool]:
        """Goes behind the literal if it is next."""
        while not self.text.startswith(literal, self.at):
            there = len(self.text) - self.at
            if self.ended or there >= len(literal) or not literal.startswith(self.text[self.at :]):
                return False
            yield
        self.at += len(literal)
        return True

    def word(self, pattern: re.Pattern[str], limit: int) -> Steps[str]:
        """As many characters as the pattern, one of repeated characters, takes.

        Raises NotACallError beyond the limit.
        """
        while True:
            found = pattern.match(self.text, self.at)
            end = found.end() if found else self.at
            if end - self.at > limit:
                raise NotACallError
            if end < len(self.text) or self.ended:
                word = self.text[self.at : end]
                self.at = end
                return word
            yield

    def attempt(self, steps: Steps[T]) -> Steps[T | None]:
        """What the steps give; None, and everything is unread again, if it is not what they read.

        Not inside of something else that may have to be read again.
        """
        start = self.mark = self.tell()
        try:
            return (yield from steps)
        except NotACallError:
            self.seek(start)
            return None
        finally:
            self.mark = None
