"""Users' text inside a prompt: it must never become a control token.

Where such a token's text occurs in what users gave, it is broken with MARK before the template is
rendered; what the template itself writes is not. `split` then finds the control tokens of the
template, and only those. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Noncharacters (Unicode chapter 23.7): no text needs them, so they are taken out of users' text.
MARK = "\ufdd0"
# The end of the last message, where the assistant's turn is to be continued.
OPEN_END = "\ufdd1"
# On both sides of an image's or a sound's number: its place.
MEDIA = "\ufdd2"
_RESERVED = str.maketrans("", "", MARK + OPEN_END + MEDIA)
_RESERVED_BESIDE_MEDIA = str.maketrans("", "", MARK + OPEN_END)
_PLACE = re.compile(rf"{MEDIA}(\d+){MEDIA}", re.ASCII)
# How a place reads to people, as in llama.cpp.
_SHOWN_PLACE = "<__media__>"
# Parts of control tokens without one are words, and ordinary texts begin and end with them. No
# model has control tokens that begin or end with a word.
_SIGN = re.compile(r"[^\w\s]")
# Words and names: they stand inside control tokens (`user`, `tool_call`), and templates compare
# them.
_WORD = re.compile(r"[\w.-]*", re.ASCII)


class Ours(str):
    """A text that no user gave, such as a role: templates may make control tokens of it."""

    __slots__ = ()


class Said(str):
    """What an assistant said before: control tokens that the template looks for in it stay."""

    __slots__ = ()


class Name(str):
    """A user's name for something, which templates put between their own signs: `<` name `>`."""

    __slots__ = ()


class WithMedia(str):
    """A text with places in it, which we put there; its users' own MEDIA are taken out before."""

    __slots__ = ()


class Woven(str):
    """A text of parts that each keep their meaning, ours and others'."""

    __slots__ = ("parts",)

    parts: tuple[str, ...]


def woven(parts: Iterable[str]) -> Woven:
    """The parts as one text."""
    kept = tuple(parts)
    made = Woven("".join(kept))
    made.parts = kept
    return made


class Given(list[Any]):
    """A list of users' data, which no template changes."""


class Marks:
    """Breaks control tokens in users' text and finds those of templates."""

    def __init__(self, special: Iterable[str], sought: Iterable[str] = ()) -> None:
        """`special`: the control tokens' texts; `sought`: texts that the template looks for."""
        texts = sorted((s for s in special if len(s) > 1), key=lambda s: (-len(s), s))
        self._special = re.compile(_any_of(texts))
        # Templates may lower or raise letters.
        self._broken = re.compile(_any_of(texts), re.IGNORECASE)
        kept = frozenset(sought)
        self._broken_in_said = re.compile(
            _any_of([text for text in texts if text not in kept]), re.IGNORECASE
        )
        lowered = [text.lower() for text in texts]
        self._longest = max(map(len, lowered), default=0)
        parts = [(t[:n], t[n:]) for t in lowered for n in range(1, len(t))]
        self._heads = frozenset(head for head, _ in parts if _SIGN.search(head))
        self._tails = frozenset(tail for _, tail in parts if _SIGN.search(tail))
        self._first = frozenset(text[0] for text in lowered)
        self._last = frozenset(text[-1] for text in lowered)
        # No text of one line has this between two tokens.
        self._all = "\0".join(lowered)

    def split(self, rendered: str) -> Iterator[tuple[str, bool]]:
        """A prompt in pieces, without marks: (text, whether it is one control token)."""
        at = 0
        for match in self._special.finditer(rendered):
            if match.start() > at:
                yield plain(rendered[at : match.start()]), False
            yield match.group(), True
            at = match.end()
        if at < len(rendered):
            yield plain(rendered[at:]), False

    def protect(self, value: Any) -> Any:
        """Users' data with marks in its texts, so that `split` finds no token of theirs."""
        if isinstance(value, Woven):
            return "".join(self.protect(part) for part in value.parts)
        if isinstance(value, str):
            return str(value) if isinstance(value, Ours) else self._protect_text(value)
        if isinstance(value, Mapping):
            return {self.protect(k): self.protect(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return Given(self.protect(item) for item in value)
        return value

    def _protect_text(self, said: str) -> str:
        has_places = isinstance(said, WithMedia)
        text = said.translate(_RESERVED_BESIDE_MEDIA if has_places else _RESERVED)
        broken = self._broken_in_said if isinstance(said, Said) else self._broken
        # Again until nothing is found: breaking one may leave another that lay across it.
        while broken.search(text):
            text = broken.sub(lambda m: m[0][0] + MARK + m[0][1:], text)
        text = self._with_closed_ends(text, isinstance(said, Name))
        return text + OPEN_END if said.endswith(OPEN_END) else text

    def _with_closed_ends(self, text: str, is_name: bool) -> str:
        """Also no part of a token at an end, which what stands beside it could make whole.

        Marks go inside the white space at the ends, which templates take off.
        """
        core = text.strip()
        if not core:
            return text
        # Some letters grow when they are lowered; a mark too many does no harm.
        low = core[: self._longest].lower(), core[-self._longest :].lower()
        opens = self._ends_with_head(low[1])
        closes = self._begins_with_tail(low[0])
        inside = (
            len(core) < self._longest
            and (is_name or not _WORD.fullmatch(core))
            and core.lower() in self._all
        )
        if not (opens or closes or inside):
            return text
        at = len(text) - len(text.lstrip())
        end = at + len(core)
        marked = (MARK if closes else "") + core + (MARK if opens or inside else "")
        return text[:at] + marked + text[end:]

    def _ends_with_head(self, text: str) -> bool:
        return any(c in self._first and text[at:] in self._heads for at, c in enumerate(text))

    def _begins_with_tail(self, text: str) -> bool:
        return any(c in self._last and text[: at + 1] in self._tails for at, c in enumerate(text))


def plain(rendered: str) -> str:
    """The text without marks."""
    if MEDIA in rendered:
        rendered = _PLACE.sub(_SHOWN_PLACE, rendered)
    return rendered.translate(_RESERVED)


def place(number: int) -> WithMedia:
    """The place of an image or a sound, counted from 0."""
    return WithMedia(f"{MEDIA}{number}{MEDIA}")


def joined(separator: str, texts: Iterable[str]) -> str:
    """Texts in one; the places in them stay, and only those."""
    texts = list(texts)
    if not any(isinstance(text, WithMedia) for text in texts):
        return separator.join(texts)
    return WithMedia(
        separator.join(t if isinstance(t, WithMedia) else t.replace(MEDIA, "") for t in texts)
    )


def split_places(rendered: str) -> tuple[list[str], list[int]]:
    """The texts before, between and behind the places, and the numbers at these."""
    pieces = _PLACE.split(rendered)
    return pieces[::2], [int(number) for number in pieces[1::2]]


def _any_of(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, texts)) or r"(?!)"
