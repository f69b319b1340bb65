"""Finds the place in a choice's text from which on it is constrained. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# Characters of a line that are looked at where the text must begin one.
_LONGEST_LINE = 4096


@dataclass(frozen=True, slots=True)
class Trigger:
    """A text, and whether it counts at the beginning of a line only."""

    text: str
    begins_line: bool = False

    def search(self) -> Search:
        """At the beginning of a text."""
        return Search(self)


class Search:
    """Looks for a trigger in one text, piece by piece."""

    def __init__(self, trigger: Trigger) -> None:
        self._wanted = trigger.text.encode()
        self._begins_line = trigger.begins_line
        # What the text may begin in: the last line, or less than the trigger.
        self._tail = b""

    def feed(self, piece: bytes) -> bytes | None:
        """What follows the trigger, if it is complete with this piece; None if it is not."""
        old, whole = len(self._tail), self._tail + piece
        at = whole.find(self._wanted)
        while at >= 0:
            if at + len(self._wanted) > old and self._counts(whole, at):
                self._tail = b""
                return whole[at + len(self._wanted) :]
            at = whole.find(self._wanted, at + 1)
        if self._begins_line:
            self._tail = whole[whole.rfind(b"\n") + 1 :][:_LONGEST_LINE]
        else:
            self._tail = whole[max(0, len(whole) - len(self._wanted) + 1) :]
        return None

    def _counts(self, whole: bytes, at: int) -> bool:
        return not self._begins_line or not whole[whole.rfind(b"\n", 0, at) + 1 : at].strip()
