"""An output of several messages, each with a head that says what it is."""

from __future__ import annotations

from services.llama.formats import heads, texts
from services.llama.formats.calls import CallReader
from services.llama.formats.description import Format
from services.llama.formats.markers import SPACE, markers
from services.llama.formats.output import Output
from services.llama.formats.reader import NotACallError, Reader, Steps


class Messages:
    """Reads one output. It begins behind the `start` of its first message."""

    def __init__(
        self, reader: Reader, output: Output, family: Format, *, tools: bool, reasoning: bool
    ) -> None:
        """Without `tools` or `reasoning` such messages are content, heads and all."""
        assert family.channels is not None
        self._reader, self._output, self._shape = reader, output, family.channels
        self._calls = CallReader(reader, output, texts.stops(family))
        self._tools, self._reasoning = tools, reasoning
        shape = self._shape
        self._stops = frozenset((*shape.start, *shape.heads, *shape.ends))
        self._found = markers(self._stops, "", 0)
        around = [shape.open + head for head in shape.calls] if shape.open else []
        self._call_heads = (*around, *shape.calls)
        # Whether the next message has begun, and the text that did.
        self._next = True
        self._begun = ""

    def run(self) -> Steps[None]:
        """All of it."""
        while self._next:
            yield from self._message()

    def _message(self) -> Steps[None]:
        """From a message's head to the next one's, or to the end."""
        reader, output, shape = self._reader, self._output, self._shape
        self._next = False
        start = reader.tell()
        reader.mark = begun = start - len(self._begun)
        kind, name, id_ = yield from self._head()
        head = reader.since(start)
        reader.mark = None
        if kind == "call" and self._tools:
            name = name.removeprefix(shape.namespace)
            yield from self._calls.body(name, id_, shape, self._stops)
            yield from reader.skip(SPACE)
        elif kind == "reasoning" and self._reasoning:
            output.thinking = shape.ends[0] + shape.start[0] + shape.content[0]
            yield from self._text(thought=True)
            output.thinking = ""
        elif kind != "content":
            output.content(self._begun + head, begun)
            yield from self._text(end=True)
        elif not head:
            # What looked like the beginning of a head is none.
            for text in shape.heads:
                if (yield from reader.take(text)):
                    output.content(text, start)
                    break
        while not self._next and not (reader.ended and reader.at == len(reader.text)):
            yield from self._text()

    def _head(self) -> Steps[tuple[str, str, str]]:
        """What the head says: a kind, of a call the name and id. Stays before what is none."""
        reader, shape = self._reader, self._shape
        start = reader.tell()
        for kind, known in (
            ("content", shape.content),
            ("reasoning", shape.reasoning),
            ("call", self._call_heads),
        ):
            try:
                fields = yield from heads.read(reader, known)
            except NotACallError:
                reader.seek(start)
                continue
            name = fields.get("name", "")
            nameless = kind == "call" and not name.removeprefix(shape.namespace)
            if nameless or name in shape.nobody:
                break
            return kind, name, heads.id_of(fields)
        return "content", "", ""

    def _text(self, *, thought: bool = False, end: bool = False) -> Steps[None]:
        """The text up to behind the message's end, or to the next message. `end`: its end is text."""
        reader, shape = self._reader, self._shape
        while True:
            pattern = self._found.next_end if reader.ended else self._found.next
            match = pattern.search(reader.text, reader.at)
            at = match.start() if match else len(reader.text)
            self._write(reader.text[reader.at : at], thought=thought)
            reader.at = at
            marker = match["full"] if match else None
            if marker in shape.ends and match:
                if end:
                    self._write(marker, thought=thought)
                reader.at = match.end()
                return
            if marker and match:
                self._next = True
                self._begun = "" if marker in shape.heads else marker
                reader.at += len(self._begun)
                return
            if reader.ended:
                return
            yield

    def _write(self, text: str, *, thought: bool) -> None:
        """What is next."""
        if thought:
            self._output.thought(text)
        else:
            self._output.content(text, self._reader.tell())
