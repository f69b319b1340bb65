"""Arguments written as literals, `name(city="Paris", days=[1, 2])` and the like, to JSON as they come."""

from __future__ import annotations

import math
import re

from services.llama.formats.arguments import Write
from services.llama.formats.description import Literals
from services.llama.formats.markers import SPACE, markers
from services.llama.formats.reader import NotACallError, Reader, Steps
from services.llama.formats.schemas import Tool, quoted

# Deeper than that nothing is followed.
_MAX_DEPTH = 64
_WORD = re.compile(r"[^,:=()\[\]{}\"'<]*")
_VALUE = re.compile(r"[^,()\[\]{}]*")
# Of a name, or of a value that is no text.
_MAX_WORD = 4096
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_CONSTANTS = {
    "True": "true",
    "False": "false",
    "None": "null",
    "true": "true",
    "false": "false",
    "null": "null",
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0"}
_HEX = {"x": 2, "u": 4, "U": 8}
_CLOSING = {"{": "}", "[": "]", "(": ")"}
_MAX_CHARACTER = 0x10FFFF


class _Cut(Exception):  # noqa: N818 -- a place to go on from, no error
    """The text ended because the model was stopped."""


def literals(reader: Reader, write: Write, shape: Literals, tool: Tool | None) -> Steps[None]:
    """From the opening bracket to behind the closing one."""
    reader.at += len(shape.open)
    write("{")
    try:
        yield from _Literals(reader, write, shape).members(shape.close, tool.keys if tool else [])
    except _Cut:
        return
    write("}")


class _Literals:
    """One call's arguments."""

    def __init__(self, reader: Reader, write: Write, shape: Literals) -> None:
        self._reader, self._write, self._shape = reader, write, shape

    def members(self, close: str, names: list[str], depth: int = 0) -> Steps[None]:
        """Names with values up to the closing bracket; `names` are those of values without."""
        reader = self._reader
        count = 0
        while True:
            here = yield from self._next()
            if here in ")]}":
                reader.at += 1 if here == close else 0
                return
            if count:
                self._write(", ")
            key = yield from reader.attempt(self._key())
            if key is None:
                # A value alone: the parameter that stands at that place.
                key = names[count] if count < len(names) else f"arg{count}"
            self._write(f"{quoted(key)}: ")
            yield from self._value(depth)
            count += 1

    def _next(self) -> Steps[str]:
        """The next character that means something; "" at the end. Raises _Cut."""
        here = yield from self._reader.skip(SPACE + ",;")
        return here or self._ended()

    def _ended(self) -> str:
        if self._reader.cut_off:
            raise _Cut
        return ""

    def _key(self) -> Steps[str]:
        """A name and what stands behind it. Raises NotACallError if there is none."""
        quote = yield from self._quote()
        if quote:
            pieces: list[str] = []
            try:
                yield from self._text(quote, pieces.append)
            except _Cut:
                raise NotACallError from None
            key = "".join(pieces)
        else:
            word = yield from self._reader.word(_WORD, _MAX_WORD)
            key = word.strip()
        here = yield from self._reader.skip(SPACE)
        if not key or not here or here not in ":=":
            raise NotACallError
        self._reader.at += 1
        return key

    def _quote(self) -> Steps[str]:
        for quote in self._shape.quotes:
            if (yield from self._reader.take(quote)):
                return quote
        return ""

    def _value(self, depth: int) -> Steps[None]:
        reader, write = self._reader, self._write
        here = yield from reader.skip(SPACE)
        if not here:
            # Nothing is a value too, or else it would be no JSON.
            self._ended()
            write("null")
            return
        quote = yield from self._quote()
        if quote:
            write('"')
            yield from self._text(quote, lambda text: write(quoted(text)[1:-1]))
            write('"')
            return
        if here in _CLOSING:
            if depth >= _MAX_DEPTH:
                raise NotACallError
            reader.at += 1
            write("{" if here == "{" else "[")
            if here == "{":
                yield from self.members("}", [], depth + 1)
            else:
                yield from self._items(_CLOSING[here], depth + 1)
            write("}" if here == "{" else "]")
            return
        word = yield from reader.word(_VALUE, _MAX_WORD)
        if reader.ended and reader.cut_off and reader.at == len(reader.text):
            write(word)
            raise _Cut
        write(_scalar(word.strip()))

    def _items(self, close: str, depth: int) -> Steps[None]:
        first = True
        while True:
            here = yield from self._next()
            if here in ")]}":
                self._reader.at += 1 if here == close else 0
                return
            if not first:
                self._write(", ")
            first = False
            yield from self._value(depth)

    def _text(self, quote: str, write: Write) -> Steps[None]:
        """A text up to behind its quote; nothing is written of it that may be the quote's."""
        reader = self._reader
        escape = "\\" if self._shape.escapes else ""
        found = markers(frozenset({quote, escape} - {""}), "", 0)
        while True:
            pattern = found.next_end if reader.ended else found.next
            match = pattern.search(reader.text, reader.at)
            end = match.start() if match else len(reader.text)
            if end > reader.at:
                write(reader.text[reader.at : end])
            reader.at = end
            if match and match["full"]:
                reader.at = match.end()
                if match["full"] == quote:
                    return
                write((yield from self._escape()))
            elif reader.ended:
                self._ended()
                return
            else:
                yield

    def _escape(self) -> Steps[str]:
        """What stands behind a backslash."""
        reader = self._reader
        here = yield from reader.peek()
        if not here:
            return "\\"
        reader.at += 1
        if here == "\n":
            return ""
        digits = ""
        while len(digits) < _HEX.get(here, 0):
            digit = yield from reader.peek()
            if not digit or digit not in "0123456789abcdefABCDEF":
                return f"\\{here}{digits}"
            reader.at += 1
            digits += digit
        if digits:
            code = int(digits, 16)
            if code > _MAX_CHARACTER:
                return f"\\{here}{digits}"
            return chr(code)
        if here in _ESCAPES:
            return _ESCAPES[here]
        return here if here in "\\'\"`/" else f"\\{here}"


def _scalar(word: str) -> str:
    """A number or a constant as JSON; any other word is a text."""
    if _NUMBER.fullmatch(word):
        return word
    if word in _CONSTANTS:
        return _CONSTANTS[word]
    try:
        return str(int(word, 0))
    except ValueError:
        pass
    if "." in word:
        try:
            number = float(word)
        except ValueError:
            return quoted(word)
        return repr(number) if math.isfinite(number) else quoted(word)
    return quoted(word)
