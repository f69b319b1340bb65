"""Arguments in the ways that families write them, to JSON, as they come.

Each reads behind a head and writes pieces of JSON; it stops where the arguments end, or where what
follows cannot belong to them. What ends because the model was stopped is left open, and what ends
because the model says no more is closed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

from services.llama.formats import heads
from services.llama.formats.description import Tagged
from services.llama.formats.markers import SPACE, beginnings, markers
from services.llama.formats.reader import Reader, Steps
from services.llama.formats.schemas import Tool, quoted, value_json

Write: TypeAlias = Callable[[str], None]

_IN_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_OPENING = "{["
_CDATA, _CDATA_END = "<![CDATA[", "]]>"


@lru_cache(maxsize=256)
def _structure(stops: frozenset[str]) -> re.Pattern[str]:
    """What matters outside of a string: what may become a stop, a stop, or JSON's own signs."""
    longest = "|".join(map(re.escape, sorted(stops, key=len, reverse=True))) or "(?!)"
    return re.compile(f'(?:{beginnings(stops)})\\Z|(?P<stop>{longest})|(?P<sign>["{{}}\\[\\]])')


def json_body(reader: Reader, write: Write, stops: frozenset[str]) -> Steps[None]:
    """An object as it is; anything else as it is up to a stop; nothing as an empty object."""
    first = yield from reader.skip(SPACE)
    if first and first in _OPENING:
        yield from json_value(reader, write, stops)
        return
    found = markers(stops)
    empty = True
    while True:
        pattern = found.next_end if reader.ended else found.next
        match = pattern.search(reader.text, reader.at)
        end = match.start() if match else len(reader.text)
        if end > reader.at:
            empty = False
            write(reader.text[reader.at : end])
        reader.at = end
        if reader.ended or (match and match.lastgroup):
            break
        yield
    if empty and not reader.cut_off:
        write("{}")


def json_value(reader: Reader, write: Write, stops: frozenset[str]) -> Steps[None]:
    """An object or array as it is, up to its end, or up to a stop that is in no string."""
    pattern = _structure(stops)
    depth = 0
    while True:
        match = pattern.search(reader.text, reader.at)
        end = match.start() if match else len(reader.text)
        sign = match["sign"] if match else None
        write(reader.text[reader.at : end])
        reader.at = end
        if match and match["stop"]:
            return
        if sign is None:
            if reader.ended:
                write(reader.text[end:])
                reader.at = len(reader.text)
                return
            yield
            continue
        write(sign)
        reader.at += 1
        if sign == '"':
            yield from _rest_of_string(reader, write)
        else:
            depth += 1 if sign in _OPENING else -1
            if depth <= 0:
                return


def _rest_of_string(reader: Reader, write: Write) -> Steps[None]:
    while True:
        match = _IN_STRING.match(reader.text, reader.at)
        end = match.end() if match else reader.at
        write(reader.text[reader.at : end])
        reader.at = end
        if reader.text.startswith('"', end):
            write('"')
            reader.at += 1
            return
        if reader.ended:
            # A backslash with nothing behind it.
            write(reader.text[end:])
            reader.at = len(reader.text)
            return
        yield


def tagged(reader: Reader, write: Write, shape: Tagged, tool: Tool | None) -> Steps[None]:
    """Parameters between tags, as an object."""
    write("{")
    before = ""
    while (yield from reader.skip(SPACE)):
        fields = yield from reader.attempt(heads.read(reader, shape.parameter))
        if fields is None:
            break
        key = fields["key"].strip()
        write(f"{before}{quoted(key)}: ")
        before = ", "
        types = _types(fields, key, tool)
        if types == {"string"}:
            yield from _text_between(reader, write, shape)
        else:
            yield from _value_between(reader, write, shape, types)
    if not (reader.ended and reader.cut_off):
        write("}")


def _types(fields: heads.Fields, key: str, tool: Tool | None) -> frozenset[str]:
    """What the model says of the value, or else what the schema does."""
    if "string" in fields:
        return frozenset({"string"}) if fields["string"] == "true" else frozenset()
    if fields.get("type") == "string":
        return frozenset({"string"})
    return tool.types(key) if tool else frozenset()


@lru_cache(maxsize=128)
def until(close: str, *, lines: bool = False) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The end of a value, for a text that may go on, and for one that may not."""
    newline = "\\n?" if lines else ""
    full = f"{newline}(?P<full>{re.escape(close)})"
    rest = "|\\n\\Z" if lines else ""
    return re.compile(f"{newline}(?:{beginnings((close,))})\\Z|{full}{rest}"), re.compile(full)


def _text_between(reader: Reader, write: Write, shape: Tagged) -> Steps[None]:
    write('"')
    if shape.lines:
        yield from reader.take("\n")
    close = shape.close
    if shape.cdata and (yield from reader.take(_CDATA)):
        close = _CDATA_END + close
    yield from text_until(reader, write, close, lines=shape.lines)


def text_until(reader: Reader, write: Write, close: str, *, lines: bool) -> Steps[None]:
    """The rest of a text, with its last quote, up to behind `close`."""
    going, ending = until(close, lines=lines)
    while True:
        match = (ending if reader.ended else going).search(reader.text, reader.at)
        end = match.start() if match else len(reader.text)
        write(quoted(reader.text[reader.at : end])[1:-1])
        reader.at = end
        if match and match["full"]:
            reader.at = match.end()
            break
        if reader.ended:
            break
        yield
    if not (match is None and reader.cut_off):
        write('"')


def whole_until(
    reader: Reader, close: str, *, lines: bool = False
) -> Steps[tuple[str, int | None]]:
    """The text before `close`, once it is all there, and the place behind that; None: it never came.

    Nothing of it is read yet.
    """
    going, ending = until(close, lines=lines)
    # Characters that have been searched.
    known = 0
    while True:
        match = (ending if reader.ended else going).search(reader.text, reader.at + known)
        if reader.ended or (match and match["full"]):
            break
        known = (match.start() if match else len(reader.text)) - reader.at
        yield
    if match is None:
        return reader.text[reader.at :], None
    return reader.text[reader.at : match.start()], match.end()


def _value_between(
    reader: Reader, write: Write, shape: Tagged, types: frozenset[str]
) -> Steps[None]:
    """A value whose meaning is known at its end only."""
    if shape.lines:
        yield from reader.take("\n")
    if shape.cdata and (yield from reader.take(_CDATA)):
        # Only texts are written so.
        types, close = types or frozenset({"string"}), _CDATA_END + shape.close
    else:
        close = shape.close
    text, end = yield from whole_until(reader, close, lines=shape.lines)
    reader.at = len(reader.text) if end is None else end
    if end is not None or not reader.cut_off:
        write(value_json(text, types))
    else:
        # It may not be whole: better no value than another one.
        write(text if types and "string" not in types else quoted(text)[:-1])
