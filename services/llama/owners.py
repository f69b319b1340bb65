"""Which of a choice's tokens its content is of. Pure.

Places are characters of the raw text before them. The content is a part of that text, and shown
later: while it may be a stop string it is held back.
"""

from __future__ import annotations

from collections import deque


class Owners:
    """Says of each token, in order and as soon as it is certain, whether any content is its own."""

    def __init__(self) -> None:
        self._characters = 0
        # Where the tokens stand of which nothing was said: from, to. A character belongs to every
        # token that has bytes of it.
        self._open: deque[tuple[int, int]] = deque()
        # Where the content stands that is not shown yet, and that is.
        self._held: deque[tuple[int, int]] = deque()
        self._shown: deque[tuple[int, int]] = deque()

    def fed(self, characters: int, *, unfinished: bool) -> None:
        """The next token completed so many characters, and began one more."""
        start = self._characters
        self._characters += characters
        self._open.append((start, self._characters + unfinished))

    def content(self, place: int, length: int) -> None:
        """The next content is found, and stands there."""
        self._held.append((place, place + length))

    def shown(self, length: int) -> None:
        """So many more characters of the content are shown."""
        while length > 0 and self._held:
            start, end = self._held.popleft()
            if end - start > length:
                self._held.appendleft((start + length, end))
                end = start + length
            self._shown.append((start, end))
            length -= end - start

    def decided(self, place: int) -> list[bool]:
        """What is certain of the next tokens, as up to the place all content is found."""
        if self._held:
            place = min(place, self._held[0][0])
        said: list[bool] = []
        while self._open:
            start, end = self._open[0]
            while self._shown and self._shown[0][1] <= start:
                self._shown.popleft()
            own = start < end and bool(self._shown) and self._shown[0][0] < end
            if not own and end > place:
                break
            self._open.popleft()
            said.append(own)
        return said
