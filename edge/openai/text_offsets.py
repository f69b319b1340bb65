"""Where each token stands in the text: both come in pieces, the text often later. Pure.

A token's bytes are mostly the text's next ones. They are not where the token is not shown (control
tokens, those of a stop string), where its bytes are no UTF-8 and U+FFFD stands for them, and where
a tokenizer put a blank before the first word or changed the text. Such a token takes no room; what
comes after it is found again a little later in the text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# Bytes ahead in which a token is looked for.
_WINDOW: Final = 64


@dataclass(frozen=True, slots=True)
class Placed:
    """A token's place: characters before it, and whether it is the text that stands there."""

    offset: int
    shown: bool


class Offsets:
    """State: the text that no token is known for, and the tokens whose text is not yet here."""

    def __init__(self, start: int = 0) -> None:
        """`start`: characters before the text."""
        self._text = b""
        # Bytes of it, and characters in all, that are behind.
        self._at = 0
        self._characters = start
        self._beginning = True
        self._waiting: deque[bytes] = deque()

    def add(self, text: str, tokens: Iterable[bytes]) -> list[Placed]:
        """Takes more of both in; the places of the next tokens, as far as they are certain."""
        if text:
            self._text = self._text[self._at :] + text.encode()
            self._at = 0
        self._waiting.extend(tokens)
        return self._settle(final=False)

    def rest(self) -> list[Placed]:
        """The places of all tokens that are left: no text will follow."""
        return self._settle(final=True)

    def _settle(self, *, final: bool) -> list[Placed]:
        placed = []
        while self._waiting:
            token = self._waiting[0]
            if not final and self._ahead(token):
                break
            self._waiting.popleft()
            placed.append(self._place(token))
        return placed

    def _ahead(self, token: bytes) -> bool:
        """Whether text that is not here may make it the next."""
        left = self._text[self._at : self._at + len(token)]
        return len(left) < len(token) and (
            token.startswith(left) or (self._beginning and token[1:].startswith(left))
        )

    def _place(self, token: bytes) -> Placed:
        length = self._matching(token)
        following = self._waiting[0] if self._waiting else b""
        if not length and not (following and self._matching(following)):
            found = self._text.find(token, self._at, self._at + _WINDOW + len(token))
            if found > 0 and token:
                self._skip(found - self._at)
                length = len(token)
        placed = Placed(self._offset(), bool(length))
        self._skip(length)
        # A control token before the text leaves the first word the first.
        self._beginning = self._beginning and not length
        return placed

    def _matching(self, token: bytes) -> int:
        """Bytes of the text here that are the token's; 0: it is not the next."""
        if self._text.startswith(token, self._at):
            return len(token)
        if self._beginning and token[:1] == b" " and self._text.startswith(token[1:], self._at):
            return len(token) - 1
        return 0

    def _skip(self, count: int) -> None:
        passed = self._text[self._at : self._at + count]
        # Every byte but those that continue a character.
        self._characters += sum(byte & 0xC0 != 0x80 for byte in passed)
        self._at += count

    def _offset(self) -> int:
        """Characters before this place; within one, before it."""
        inside = self._at < len(self._text) and self._text[self._at] & 0xC0 == 0x80
        return self._characters - inside
