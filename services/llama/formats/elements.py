"""Arguments as elements in each other, `<key>value</key>` with a mark before each tag, to JSON."""

from __future__ import annotations

from typing import Any

from services.llama.formats import heads
from services.llama.formats.arguments import Write, until, whole_until
from services.llama.formats.description import Elements
from services.llama.formats.markers import SPACE
from services.llama.formats.reader import NotACallError, Reader, Steps
from services.llama.formats.schemas import Tool, inner, quoted, value_json, value_types

# Deeper than that nothing is followed.
_MAX_DEPTH = 64


class _Cut(Exception):  # noqa: N818 -- a place to go on from, no error
    """The text ended because the model was stopped."""


def elements(reader: Reader, write: Write, shape: Elements, tool: Tool | None) -> Steps[None]:
    """The parameters as an object, up to what is no element of it."""
    schema = tool.parameters if tool else {}
    try:
        yield from _Elements(reader, write, shape, schema).members(schema, None, 0)
    except _Cut:
        return


class _Elements:
    """One call's arguments."""

    def __init__(self, reader: Reader, write: Write, shape: Elements, root: Any) -> None:
        self._reader, self._write, self._shape, self._root = reader, write, shape, root
        self._opens = (f"{shape.mark}<{{key}}>",)
        self._closes = (f"{shape.mark}</{{key}}>",)

    def members(self, schema: Any, key: str | None, depth: int) -> Steps[None]:
        """An object's, the first of which is `key` if that was read."""
        self._write("{")
        before = ""
        while key is not None or (key := (yield from self._open())) is not None:
            self._write(f"{before}{quoted(key)}: ")
            yield from self._value(inner(schema, self._root, key), key, depth)
            before, key = ", ", None
        self._cut()
        self._write("}")

    def _items(self, schema: Any, key: str, depth: int) -> Steps[None]:
        """An array's; the first was opened as `key`."""
        self._write("[")
        before = ""
        item: str | None = key
        while item is not None:
            self._write(before)
            yield from self._value(inner(schema, self._root, None), item, depth)
            before, item = ", ", (yield from self._open())
        self._cut()
        self._write("]")

    def _open(self) -> Steps[str | None]:
        """The name of the element that begins here; None if none does."""
        if not (yield from self._reader.skip(SPACE)):
            return None
        return (yield from self._reader.attempt(self._name(self._opens)))

    def _name(self, tags: tuple[str, ...], wanted: str = "") -> Steps[str]:
        fields = yield from heads.read(self._reader, tags)
        name = fields["key"].strip()
        if name.startswith("/") or (wanted and name != wanted):
            raise NotACallError
        return name

    def _value(self, schema: Any, key: str, depth: int) -> Steps[None]:
        """What the element `key` holds, up to behind its end."""
        types = value_types(schema, self._root)
        if types == {"string"}:
            yield from self._text()
        else:
            text = yield from self._plain()
            child = None if text.strip() else (yield from self._open())
            if child is None:
                self._scalar(text, types)
            elif depth >= _MAX_DEPTH:
                raise NotACallError
            elif types == {"array"} or (child == self._shape.item and types != {"object"}):
                yield from self._items(schema, child, depth + 1)
            else:
                yield from self.members(schema, child, depth + 1)
        self._cut()
        yield from self._reader.skip(SPACE)
        yield from self._reader.attempt(self._name(self._closes, key))

    def _text(self) -> Steps[None]:
        """A text as it comes, up to a tag."""
        reader = self._reader
        going, ending = until(self._shape.mark)
        self._write('"')
        while True:
            match = (ending if reader.ended else going).search(reader.text, reader.at)
            end = match.start() if match else len(reader.text)
            self._write(quoted(reader.text[reader.at : end])[1:-1])
            reader.at = end
            if reader.ended or (match and match["full"]):
                break
            yield
        self._cut()
        self._write('"')

    def _plain(self) -> Steps[str]:
        """The text up to a tag, or to the end."""
        reader = self._reader
        text, _ = yield from whole_until(reader, self._shape.mark)
        reader.at += len(text)
        return text

    def _scalar(self, text: str, types: frozenset[str]) -> None:
        if self._is_cut:
            # It may not be whole: better no value than another one.
            if text.strip():
                self._write(text if types and "string" not in types else quoted(text)[:-1])
        elif not text.strip() and "string" not in types and types & {"array", "object"}:
            self._write("[]" if "array" in types else "{}")
        else:
            self._write(value_json(text, types))

    @property
    def _is_cut(self) -> bool:
        reader = self._reader
        return reader.ended and reader.cut_off

    def _cut(self) -> None:
        """Raises _Cut if there is no more, and should be."""
        if self._is_cut:
            raise _Cut
