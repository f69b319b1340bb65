"""Heads of calls and parameters: texts in which names in braces stand for what varies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from services.llama.formats.markers import SPACE
from services.llama.formats.reader import NotACallError, Reader, Steps

_FIELD = re.compile(r"\{(name|id|code|index|key|string|type|channel)\}")
_MAX_WORD = 256
_CHARACTERS = {
    "name": re.compile(r"[\w.\-]*"),
    "id": re.compile(r"[\w.\-:]*"),
    "code": re.compile(r"[\w.\-:]*"),
    "index": re.compile(r"[0-9]*"),
    "key": re.compile(r"[^<>\"\r\n]*"),
    "string": re.compile(r"[a-z]*"),
    "type": re.compile(r"[\w\-]*"),
    "channel": re.compile(r"[a-z]*"),
}
Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """A literal, a field, or with neither: white space.

    That may be missing, unless a word ends with it: then what is `needed` must be in it.
    """

    literal: str = ""
    field: str = ""
    needed: str = ""


@lru_cache(maxsize=512)
def parts(head: str) -> tuple[Part, ...]:
    """A head's parts in order."""
    found: list[Part] = []
    pieces = _FIELD.split(head)
    for at, piece in enumerate(pieces):
        if at % 2:
            found.append(Part(field=piece))
            continue
        texts = [text for text in re.split(r"(\s+)", piece) if text]
        for text in texts:
            if not text.isspace():
                found.append(Part(literal=text))
                continue
            word = bool(found) and found[-1].literal[-1:].isalnum()
            last = bool(found) and bool(found[-1].field) and head.endswith(text) and len(texts) == 1
            found.append(Part(needed=text[-1] if word or last else ""))
    return tuple(found)


def literals(head: str) -> list[str]:
    """The literals of a head."""
    return [part.literal for part in parts(head) if part.literal]


def written(head: str, **fields: str) -> str:
    """The head with the fields filled in; others stay."""
    return _FIELD.sub(lambda found: fields.get(found[1], found[0]), head)


def filled(head: str, **fields: str) -> list[tuple[str, bool]]:
    """The head in pieces: its own texts (True), and what stands for its fields."""
    found = enumerate(_FIELD.split(head))
    return [(fields.get(text, ""), False) if at % 2 else (text, True) for at, text in found]


def id_of(fields: Fields) -> str:
    """The call's id that a head held; "" if it held none."""
    return fields.get("id") or fields.get("code", "")


def read(reader: Reader, heads: tuple[str, ...], opening: str = "") -> Steps[Fields]:
    """Goes behind the first head that fits. Raises NotACallError.

    A head that ends with a name fits if `opening`, a character, comes next.
    """
    start = reader.tell()
    for head in heads:
        fields = yield from _fields(reader, head, opening)
        if fields is not None:
            return fields
        reader.seek(start)
    raise NotACallError


def _fields(reader: Reader, head: str, opening: str) -> Steps[Fields | None]:
    found: Fields = {}
    for part in parts(head):
        if part.literal:
            if not (yield from reader.take(part.literal)):
                return None
        elif part.field:
            word = yield from reader.word(_CHARACTERS[part.field], _MAX_WORD)
            if not word:
                return None
            found[part.field] = word
        else:
            before = reader.tell()
            yield from reader.skip(SPACE)
            if part.needed not in reader.since(before):
                return None
    if parts(head)[-1].field and (yield from reader.skip(SPACE)) != opening:
        return None
    return found
