"""Calls: from behind an opening to the end of the last that follows without one of its own."""

from __future__ import annotations

import json
import re
from functools import lru_cache

from services.llama.formats import heads, texts
from services.llama.formats.arguments import json_body, json_value, tagged
from services.llama.formats.description import (
    Body,
    Calls,
    Channels,
    Elements,
    Inside,
    Json,
    Literals,
    Outside,
    Tagged,
)
from services.llama.formats.elements import elements
from services.llama.formats.literals import literals
from services.llama.formats.markers import SPACE, beginnings
from services.llama.formats.output import Output
from services.llama.formats.reader import NotACallError, Reader, Steps
from services.llama.formats.schemas import Tool, quoted

_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_SCALAR = re.compile(r"[^,}\]\s]*")
_MAX_SCALAR = 256
# What may stand before a key, and a key that has no value yet.
_KEY = re.compile(r'[\s,]*(?:"\w*(?:"\s*:?\s*)?)?')
# Keys of a bare call that may come before its arguments.
_HARMLESS = frozenset({"type", "id"})
# Objects in each other that may hold the name: {"function": {"name": …}}.
_FUNCTION = "function"
_MAX_NESTED = 1


def opening(body: Body) -> str:
    """The character that arguments begin with."""
    match body:
        case Json():
            return "{"
        case Tagged():
            return body.parameter[0][0]
        case Elements():
            return body.mark[0]
        case Literals():
            return body.open


@lru_cache(maxsize=128)
def _begun(calls: Calls) -> re.Pattern[str]:
    """The beginning of what belongs to a call and says nothing."""
    found = set(texts.endings(calls))
    for each in calls.call:
        if isinstance(each, Outside) and isinstance(each.body, Tagged):
            found.update(heads.literals(each.body.parameter[0])[:1])
        elif isinstance(each, Outside) and isinstance(each.body, Elements):
            found.add(each.body.mark + "<")
    return re.compile(beginnings(found))


class _Call:
    """One call, from the time when it may be one."""

    def __init__(self, reader: Reader, output: Output, *, certain: bool) -> None:
        """`certain`: it is one whatever its name, and said to be as soon as that is known."""
        self._reader, self._output, self._certain = reader, output, certain
        self.name = ""
        self.id = ""
        self.started = False
        self.filled = False
        # Arguments that came before the name.
        self._early: list[str] = []

    def named(self, name: str, id_: str = "") -> None:
        """Raises NotACallError for a name that is none."""
        if not name or self.name or not (self._certain or name in self._output.tools):
            raise NotACallError
        self.name = name
        self.id = id_ or self.id
        if self._certain:
            self.start()

    def start(self) -> None:
        """From here on it is a call. Raises NotACallError if it has no name."""
        if not self.name:
            raise NotACallError
        if self.started:
            return
        self.started = True
        self._reader.mark = None
        self._output.start(self.name, self.id)
        for text in self._early:
            self._output.arguments(text)
        self._early.clear()

    def other(self, key: str) -> None:
        """A key that means nothing. Raises NotACallError if that makes it no call."""
        if not self._certain and not self.started and key not in _HARMLESS:
            raise NotACallError

    def write(self, text: str) -> None:
        """A piece of the arguments."""
        self.filled = self.filled or bool(text)
        if self.started:
            self._output.arguments(text)
        else:
            self._early.append(text)

    def end(self) -> None:
        """Raises NotACallError if it was none."""
        self.start()
        if not self.filled and not self._reader.cut_off:
            self._output.arguments("{}")
        self._output.end()

    @property
    def tool(self) -> Tool | None:
        """The function as it was declared."""
        return self._output.tools.get(self.name)


class CallReader:
    """Reads a format's calls."""

    def __init__(self, reader: Reader, output: Output, stops: frozenset[str]) -> None:
        """`stops` end broken arguments: all the markers of calls."""
        self._reader, self._output, self._stops = reader, output, stops

    def calls(self, calls: Calls, *, begun: bool) -> Steps[None]:
        """The next call, and those behind it that need no opening.

        `begun`: the last marker was the call's own, and not one around several. The place to go back
        to is marked. Raises NotACallError if there is no call.
        """
        reader = self._reader
        listed = False
        if not begun and calls.call_open:
            yield from reader.skip(SPACE)
            if not (yield from reader.take(calls.call_open.strip())):
                raise NotACallError
        elif not calls.call_open and (yield from reader.skip(SPACE)) == "[":
            reader.at += 1
            listed = True
            yield from reader.skip(SPACE)
        yield from self._call(calls)
        if listed or (calls.separator and not calls.call_open):
            while (yield from self._another(calls, listed=listed)):
                pass
        yield from self._ending(calls)

    def body(self, name: str, id_: str, shape: Channels, stops: frozenset[str]) -> Steps[None]:
        """A call of which the head was read already."""
        call = _Call(self._reader, self._output, certain=True)
        call.named(name, id_)
        try:
            yield from self._body(call, shape.body, stops)
        except NotACallError:
            self._break_off()
            call.end()
            return
        call.end()
        yield from self._behind(shape.end)

    def _another(self, calls: Calls, *, listed: bool) -> Steps[bool]:
        """One more call without an opening, if there is one."""
        reader = self._reader
        start = reader.mark = reader.tell()
        here = yield from reader.skip(SPACE)
        if listed and here == "]":
            reader.at += 1
            reader.mark = None
            return False
        separated = bool(here) and here in ",;"
        if separated:
            reader.at += 1
            here = yield from reader.skip(SPACE)
        inside = isinstance(calls.call[0], Inside)
        if here == "{" if inside else separated or calls.separator.isspace():
            try:
                yield from self._call(calls)
            except NotACallError:
                pass
            else:
                return True
        reader.seek(start)
        reader.mark = None
        return False

    def _ending(self, calls: Calls) -> Steps[None]:
        """Goes behind the end of the call and of all calls, and behind brackets too many before."""
        reader = self._reader
        for end in (calls.call_close.strip(), calls.close.strip()):
            if end:
                start = reader.mark = reader.tell()
                yield from reader.skip(SPACE + "]})")
                if not (yield from reader.take(end)):
                    reader.seek(start)
                reader.mark = None
        if reader.ended and _begun(calls).fullmatch(reader.text[reader.at :].strip()):
            reader.at = len(reader.text)

    def _call(self, calls: Calls) -> Steps[None]:
        reader = self._reader
        start = reader.tell()
        for shape in calls.call:
            call = _Call(reader, self._output, certain=calls.certain)
            try:
                match shape:
                    case Inside():
                        yield from self._inside(call, shape)
                    case Outside():
                        yield from self._outside(call, shape)
                call.end()
            except NotACallError:
                if call.started:
                    self._break_off()
                    call.end()
                    return
                reader.seek(start)
            else:
                if isinstance(shape, Outside):
                    yield from self._behind(shape.end)
                return
        raise NotACallError

    def _break_off(self) -> None:
        """A call is broken: what comes next is content, but for the beginning of another key."""
        reader = self._reader
        if reader.mark is not None:
            reader.seek(reader.mark)
            reader.mark = None
        if reader.ended and _KEY.fullmatch(reader.text, reader.at):
            reader.at = len(reader.text)

    def _behind(self, ends: tuple[str, ...]) -> Steps[None]:
        """Goes behind what follows the arguments, as far as it is there."""
        reader = self._reader
        for end in ends:
            start = reader.mark = reader.tell()
            yield from reader.skip(SPACE)
            if not (yield from reader.take(end.strip())):
                reader.seek(start)
            reader.mark = None

    def _outside(self, call: _Call, shape: Outside) -> Steps[None]:
        fields = yield from heads.read(self._reader, shape.heads, opening(shape.body))
        name = fields["name"]
        for text in shape.strip:
            name = name.removeprefix(text).removesuffix(text)
        id_ = heads.id_of(fields) or heads.written(shape.id, **{**fields, "name": name})
        call.named(name, "" if "{" in id_ else id_)
        call.start()
        yield from self._body(call, shape.body, self._stops)

    def _body(self, call: _Call, body: Body, stops: frozenset[str]) -> Steps[None]:
        match body:
            case Json():
                yield from json_body(self._reader, call.write, stops)
            case Tagged():
                yield from tagged(self._reader, call.write, body, call.tool)
            case Elements():
                yield from elements(self._reader, call.write, body, call.tool)
            case Literals():
                yield from literals(self._reader, call.write, body, call.tool)

    def _inside(self, call: _Call, shape: Inside, nested: int = 0) -> Steps[None]:
        reader = self._reader
        if not (yield from reader.take("{")):
            raise NotACallError
        while True:
            if call.started:
                # A key that is broken is content.
                reader.mark = reader.tell()
            here = yield from reader.skip(SPACE + ",")
            if here == "}":
                reader.at += 1
                break
            if here != '"':
                raise NotACallError
            key = yield from self._string()
            if (yield from reader.skip(SPACE)) != ":":
                raise NotACallError
            reader.at += 1
            here = yield from reader.skip(SPACE)
            if call.started:
                reader.mark = None
            yield from self._member(call, shape, key, here, nested)
        if call.started:
            reader.mark = None

    def _member(self, call: _Call, shape: Inside, key: str, here: str, nested: int) -> Steps[None]:
        """The value of a key, which begins with `here`."""
        is_name = key in shape.names or (key == _FUNCTION and not call.name)
        if is_name and here == '"':
            call.named((yield from self._string()), call.id)
        elif (is_name or key == _FUNCTION) and here == "{" and nested < _MAX_NESTED:
            yield from self._inside(call, shape, nested + 1)
        elif key in shape.arguments or (shape.by_name and here == "{" and not call.name):
            if shape.by_name:
                call.named(key)
            if call.name:
                call.start()
            yield from self._arguments(call, here)
        elif key == shape.id and here == '"':
            call.id = yield from self._string()
        else:
            call.other(key)
            yield from self._skip_value(here)

    def _arguments(self, call: _Call, here: str) -> Steps[None]:
        if here and here in "{[":
            yield from json_value(self._reader, call.write, self._stops)
        elif here == '"':
            start = self._reader.tell()
            text = yield from self._attempt_string()
            if text is None:
                # Its end is missing.
                self._reader.seek(start)
                call.write(self._reader.text[self._reader.at :])
                self._reader.at = len(self._reader.text)
            else:
                call.write(text if text.lstrip()[:1] in ("{", "[", "") else quoted(text))
        else:
            word = yield from self._reader.word(_SCALAR, _MAX_SCALAR)
            if word not in {"null", ""}:
                call.write(word)

    def _attempt_string(self) -> Steps[str | None]:
        """As _string, or None; may be read again."""
        reader = self._reader
        marked = reader.mark
        if marked is None:
            return (yield from reader.attempt(self._string()))
        try:
            return (yield from self._string())
        except NotACallError:
            return None

    def _skip_value(self, here: str) -> Steps[None]:
        """A value that means nothing here."""
        if here and here in "{[":
            yield from json_value(self._reader, lambda _: None, self._stops)
        elif here == '"':
            yield from self._string()
        else:
            yield from self._reader.word(_SCALAR, _MAX_SCALAR)

    def _string(self) -> Steps[str]:
        """A string, from its quote. Raises NotACallError for one that is none, or has no end."""
        reader = self._reader
        reader.at += 1
        # Characters that have been looked at.
        known = 0
        while True:
            match = _STRING.match(reader.text, reader.at + known)
            known = (match.end() if match else reader.at) - reader.at
            if reader.text.startswith('"', reader.at + known):
                break
            if reader.ended:
                raise NotACallError
            yield
        text = reader.text[reader.at : reader.at + known]
        reader.at += known + 1
        try:
            return str(json.loads(f'"{text}"', strict=False))
        except ValueError:
            raise NotACallError from None
