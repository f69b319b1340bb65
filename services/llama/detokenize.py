"""Token bytes to text that may be shown: whole characters, and nothing of a stop string.

Both classes depend only on the bytes or text fed so far, never on how it was cut: feeding a
text whole, in tokens or byte by byte gives the same output.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Utf8Stream:
    """Bytes to text; holds the bytes of an unfinished character back."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """The characters completed by these bytes; what is no UTF-8 becomes U+FFFD."""
        return self._decoder.decode(data)

    @property
    def unfinished(self) -> bool:
        """Whether bytes of an unfinished character are held back."""
        return bool(self._decoder.getstate()[0])

    def finish(self) -> str:
        """What is left: U+FFFD for an unfinished character, else nothing."""
        return self._decoder.decode(b"", True)


class StopStrings:
    """Finds the first stop string to be complete; of several complete at once, the longest.

    Text is held back as long as it might be the beginning of a stop string.
    """

    def __init__(self, strings: Sequence[str], *, include_matched: bool = False) -> None:
        self._strings = [s for s in strings if s]
        self._include_matched = include_matched
        self._held = ""
        # The stop string that was found; nothing may be fed after that.
        self.matched: str | None = None

    def feed(self, text: str, *, armed: bool = True) -> str:
        """The text that may be shown now. Not armed: a stop string completed here is just text."""
        if not self._strings or not text:
            return text
        old, whole = len(self._held), self._held + text
        if armed:
            found = self._find(whole, old)
            if found is not None:
                start, self.matched = found
                self._held = ""
                return (
                    whole[: start + len(self.matched)] if self._include_matched else whole[:start]
                )
        keep = self._possible_beginning(whole)
        self._held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep]

    def finish(self) -> str:
        """What was held back, at an end that is not a stop string."""
        held, self._held = self._held, ""
        return held

    def _find(self, whole: str, old: int) -> tuple[int, str] | None:
        """Start and string of the match that ends first, after `old` characters."""
        best: tuple[int, int, str] | None = None
        for string in self._strings:
            # One that ended within the old text was seen then, and was just text.
            start = whole.find(string, max(0, old - len(string) + 1))
            if start >= 0:
                match = (start + len(string), start, string)
                best = match if best is None else min(best, match)
        return None if best is None else (best[1], best[2])

    def _possible_beginning(self, whole: str) -> int:
        """Length of the longest ending of the text with which a stop string begins."""
        longest = max(map(len, self._strings)) - 1
        for length in range(min(longest, len(whole)), 0, -1):
            tail = whole[-length:]
            if any(len(s) > length and s.startswith(tail) for s in self._strings):
                return length
        return 0


class TextStream:
    """One choice's text: bytes of tokens in, text that may be shown out."""

    def __init__(self, stops: Sequence[str], *, include_matched: bool = False) -> None:
        self._utf8 = Utf8Stream()
        self._stops = StopStrings(stops, include_matched=include_matched)
        # UTF-8 bytes of the text shown so far.
        self.delivered_bytes = 0

    @property
    def matched(self) -> str | None:
        """The stop string that was found."""
        return self._stops.matched

    def feed(self, piece: bytes, *, armed: bool = True) -> str:
        """Text that these bytes make showable."""
        return self._count(self._stops.feed(self._utf8.feed(piece), armed=armed))

    def finish(self) -> str:
        """The rest, at an end that is not a stop string."""
        tail = self._stops.feed(self._utf8.finish(), armed=False)
        return self._count(tail + self._stops.finish())

    def _count(self, text: str) -> str:
        self.delivered_bytes += len(text.encode())
        return text
