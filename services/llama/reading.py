"""What a choice's tokens say: a raw text, or an answer of content, reasoning and calls. Pure.

Both are functions of the tokens alone, so that an answer begun elsewhere goes on from them: what
its first `told` bytes of raw text said is not said again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.llama.detokenize import StopStrings, TextStream, Utf8Stream
from services.llama.formats import (
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Format,
    Parser,
    Thought,
    Tool,
)
from services.llama.owners import Owners
from services.llama.stream import CallPiece, Said, joined
from services.llama.trigger import Trigger

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LETTERS = 24
# Mistral's templates take no other ids.
_SHORT_ID_LETTERS = 9
_MOST_ID_LETTERS = 64


@dataclass(frozen=True, slots=True)
class Reading:
    """How a chat's answer is read."""

    family: Format
    # Those that may be called.
    tools: tuple[Tool, ...] = ()
    # What the template wrote of the answer.
    begun: str = ""
    # Whether the model may think though the template has not begun it.
    thinks: bool = False
    # Ids of the calls that are in the conversation.
    earlier: frozenset[str] = frozenset()
    # Tokens of thinking after which it is ended. None: no limit.
    budget: int | None = None
    # The special tokens that stay in the text.
    kept: frozenset[int] = frozenset()
    # From where on the job's grammar holds. None: from the beginning.
    trigger: Trigger | None = None
    # Tokens of thinking in choices that had ended before the request was resumed.
    thought_before: int = 0


class Text(Protocol):
    """One choice's text."""

    @property
    def matched(self) -> str | None:
        """The stop string that was found."""

    @property
    def delivered_bytes(self) -> int:
        """UTF-8 bytes of raw text that have said what they say."""

    @property
    def calls(self) -> int:
        """Calls that have begun."""

    @property
    def reasoning_tokens(self) -> int:
        """Tokens spent thinking."""

    @property
    def thinking(self) -> str:
        """In the midst of thoughts: the text that would end them. Else ""."""

    @property
    def unfinished(self) -> bool:
        """In the midst of a character."""

    def ended_thoughts(self, end: str) -> None:
        """The text `end`, which is fed, ended thoughts, and the model did not write it."""

    @property
    def news(self) -> bool:
        """Whether there is something to take."""

    def feed(self, piece: bytes, *, armed: bool = True) -> None:
        """The next token's bytes. Not armed: a stop string completed here is just text."""

    def finish(self, *, cut_off: bool) -> None:
        """There is no more, and not because of a stop string. `cut_off`: the model had more."""

    def take(self) -> Said:
        """What was said since the last time."""


class RawText:
    """All the text is content."""

    calls = reasoning_tokens = 0
    thinking = ""
    unfinished = False

    def __init__(
        self, stops: Sequence[str], *, include_matched: bool = False, told: int = 0
    ) -> None:
        self._stream = TextStream(stops, include_matched=include_matched)
        self._told = told
        self._text = ""

    @property
    def matched(self) -> str | None:
        return self._stream.matched

    @property
    def delivered_bytes(self) -> int:
        return self._stream.delivered_bytes

    @property
    def news(self) -> bool:
        return bool(self._text)

    def ended_thoughts(self, end: str) -> None:
        pass

    def feed(self, piece: bytes, *, armed: bool = True) -> None:
        self._add(self._stream.feed(piece, armed=armed))

    def finish(self, *, cut_off: bool) -> None:
        del cut_off
        self._add(self._stream.finish())

    def take(self) -> Said:
        said, self._text = Said(self._text), ""
        return said

    def _add(self, text: str) -> None:
        if self._told:
            told, text = _split(text, self._told)
            self._told -= len(told.encode())
        self._text += text


class AnswerText:
    """A chat's answer. Stop strings are looked for in the content."""

    def __init__(
        self,
        reading: Reading,
        stops: Sequence[str],
        *,
        include_matched: bool = False,
        told: int = 0,
        seed: int = 0,
        choice: int = 0,
        owned: bool = False,
    ) -> None:
        """`owned`: whether it is said which tokens the content is of."""
        self._utf8 = Utf8Stream()
        self._parser = Parser(reading.family, reading.tools, prompt=reading.begun)
        self._stops = StopStrings(stops, include_matched=include_matched)
        self._ids = Ids(reading, seed, choice)
        self._told = told
        self._said = Said()
        self._delivered = 0
        self._reasoning = 0
        self._owners = Owners() if owned else None

    @property
    def matched(self) -> str | None:
        return self._stops.matched

    @property
    def delivered_bytes(self) -> int:
        return self._delivered

    @property
    def reasoning_tokens(self) -> int:
        return self._reasoning

    @property
    def calls(self) -> int:
        return self._parser.calls

    @property
    def thinking(self) -> str:
        return self._parser.thinking

    @property
    def unfinished(self) -> bool:
        return self._utf8.unfinished

    @property
    def news(self) -> bool:
        return bool(self._said)

    def ended_thoughts(self, end: str) -> None:
        self._parser.ended_thoughts(end)

    def feed(self, piece: bytes, *, armed: bool = True) -> None:
        thought = bool(self._parser.thinking)
        text = self._utf8.feed(piece)
        if self._owners is not None:
            self._owners.fed(len(text), unfinished=self._utf8.unfinished)
        self._read(text, armed=armed)
        # The tokens of the marks around thoughts are spent on them, too.
        self._reasoning += thought or bool(self._parser.thinking)

    def finish(self, *, cut_off: bool) -> None:
        self._read(self._utf8.finish(), armed=False)
        self._add(self._parser.finish("length" if cut_off else "stop"), self._said, armed=False)
        self._show(self._stops.finish(), self._said)
        self._decide(self._said)

    def take(self) -> Said:
        said, self._said = self._said, Said()
        return said

    def _read(self, text: str, *, armed: bool) -> None:
        if not text:
            return
        if self._told:
            told, text = _split(text, self._told)
            self._told -= len(told.encode())
            self._delivered += len(told.encode())
            self._add(self._parser.feed(told), Said(), armed=armed)
        if text and self.matched is None:
            self._delivered += len(text.encode())
            self._add(self._parser.feed(text), self._said, armed=armed)

    def _add(self, events: Iterable[Event], said: Said, *, armed: bool) -> None:
        for event in events:
            match event:
                case Content(text, place):
                    if self._owners is not None:
                        self._owners.content(place, len(text))
                    self._show(self._stops.feed(text, armed=armed), said)
                    if self._stops.matched is not None:
                        break
                case Thought(text):
                    said.reasoning += text
                case CallStarted(index, name, id_):
                    piece = CallPiece(index, self._ids.of(index, id_), name)
                    said.calls = joined(said.calls, [piece])
                case CallArguments(index, text):
                    said.calls = joined(said.calls, [CallPiece(index, arguments=text)])
                case CallEnded():
                    pass
        self._decide(said)

    def _show(self, text: str, said: Said) -> None:
        said.text += text
        if self._owners is not None:
            self._owners.shown(len(text))

    def _decide(self, said: Said) -> None:
        if self._owners is not None:
            said.owned += self._owners.decided(self._parser.settled)


class Ids:
    """Ids of one choice's calls: unlike each other and unlike those of the conversation so far.

    They depend on nothing but the request, so that a resumed answer keeps them.
    """

    def __init__(self, reading: Reading, seed: int, choice: int) -> None:
        self._known = set(reading.earlier)
        self._of = repr((seed, choice, sorted(reading.earlier)))
        self._short = reading.family.name.startswith("mistral")

    def of(self, index: int, given: str) -> str:
        """The id of a call; `given` is the model's own."""
        id_ = given
        if not 0 < len(given) <= _MOST_ID_LETTERS or given in self._known:
            letters = _letters(f"{self._of} {index}")
            id_ = letters[:_SHORT_ID_LETTERS] if self._short else f"call_{letters}"
        self._known.add(id_)
        return id_


def _letters(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest())
    found = []
    for _ in range(_ID_LETTERS):
        number, letter = divmod(number, len(_LETTERS))
        found.append(_LETTERS[letter])
    return "".join(found)


def _split(text: str, size: int) -> tuple[str, str]:
    """The text cut behind so many bytes, or before the character that these end in."""
    first = text.encode()[:size].decode("utf-8", "ignore")
    return first, text[len(first) :]
