"""An output that is a text with markers in it: what all families write but those with channels."""

from __future__ import annotations

import re
from typing import TypeAlias

from services.llama.formats import texts
from services.llama.formats.calls import CallReader
from services.llama.formats.description import Calls, Format, Reasoning
from services.llama.formats.markers import SPACE, Markers, markers
from services.llama.formats.output import Output
from services.llama.formats.reader import NotACallError, Reader, Steps

# What a marker begins; a text: a wrapper, with that end; None: nothing, it is dropped.
_Meaning: TypeAlias = Reasoning | Calls | str | None
_Set: TypeAlias = tuple[Markers, dict[str, _Meaning]]


class Answer:
    """Reads one output."""

    def __init__(
        self, reader: Reader, output: Output, family: Format, *, tools: bool, reasoning: bool
    ) -> None:
        """Without `tools` or `reasoning` the markers of these are content."""
        self._reader, self._output, self._family = reader, output, family
        self._calls = CallReader(reader, output, texts.stops(family))
        self._openings = texts.openings(family) if tools else {}
        self._bare = texts.bare(family) if tools else ()
        self._reasoning = family.reasoning if reasoning else ()
        # Whether nothing was said since the beginning, or since the last marker that meant something;
        # and whether white space at this place is dropped.
        self._fresh, self._drop = True, False
        # What may still be closed.
        self._section: Calls | None = None
        self._wrapper = ""
        # Sets of markers by what they depend on.
        self._sets: dict[tuple[object, ...], _Set] = {}

    def run(self, opened: Reasoning | None, wrapper: str) -> Steps[None]:
        """All of it. The prompt has begun the reasoning `opened`, or what `wrapper` ends."""
        self._wrapper = wrapper
        if opened in self._reasoning and opened is not None:
            yield from self._think(opened)
        while True:
            match = yield from (self._beginning() if self._fresh else self._middle())
            if match:
                yield from self._at(match)
            elif self._reader.ended:
                return

    def _beginning(self) -> Steps[re.Match[str] | None]:
        """A marker that is next; None if it is none."""
        reader = self._reader
        if self._drop:
            yield from reader.skip(SPACE)
        found, _ = self._set()
        while True:
            pattern = found.here_end if reader.ended else found.here
            match = pattern.match(reader.text, reader.at)
            if match is None or match.lastgroup:
                break
            yield
        if match is None:
            self._fresh = False
            if reader.ended and self._output.calls and reader.text[reader.at :].isspace():
                reader.at = len(reader.text)
            elif reader.ended:
                yield from self._middle()
        return match

    def _middle(self) -> Steps[re.Match[str] | None]:
        """The next marker, after the text before it was said; None at the end."""
        reader = self._reader
        found, _ = self._set()
        while True:
            pattern = found.next_end if reader.ended else found.next
            match = pattern.search(reader.text, reader.at)
            end = match.start() if match else len(reader.text)
            self._output.content(reader.text[reader.at : end], reader.tell())
            reader.at = end
            if reader.ended or (match and match.lastgroup):
                return match
            yield

    def _at(self, match: re.Match[str]) -> Steps[None]:
        """From the white space before a marker on."""
        reader = self._reader
        start = reader.tell()
        end = start + match.end() - match.start()
        marker = match["full"]
        if marker is None:
            is_call = yield from self._bare_call(start, end)
        else:
            meaning = self._set()[1][marker]
            if marker == self._output.late:
                self._output.late = ""
            reader.seek(end)
            is_call = True
            match meaning:
                case Reasoning():
                    yield from self._think(meaning)
                case Calls():
                    own = marker == meaning.call_open.strip()
                    is_call = yield from self._call(meaning, start, begun=own)
                case _:
                    self._wrapper = meaning or ("" if marker == self._wrapper else self._wrapper)
                    self._fresh, self._drop = True, bool(meaning) or not self._output.said
        if not is_call:
            reader.seek(end)
            self._output.content(reader.since(start), start)
            self._fresh = False
            reader.mark = None

    def _bare_call(self, start: int, end: int) -> Steps[bool]:
        for calls in self._bare:
            self._reader.seek(end - 1)
            if (yield from self._call(calls, start, begun=False)):
                return True
        return False

    def _call(self, calls: Calls, start: int, *, begun: bool) -> Steps[bool]:
        """Whether a call is next; what was read from `start` on is still there if not."""
        self._reader.mark = start
        try:
            yield from self._calls.calls(calls, begun=begun)
        except NotACallError:
            return False
        self._section = calls
        self._fresh, self._drop = True, not self._output.said
        return True

    def _think(self, pair: Reasoning) -> Steps[None]:
        """Behind the opening of the reasoning, up to behind its end."""
        reader = self._reader
        self._output.thinking = close = pair.close.strip()
        yield from reader.skip(SPACE)
        # Some models write what the prompt has written already.
        if (yield from reader.take(pair.open.strip())):
            yield from reader.skip(SPACE)
        ends = {close, *(self._openings if pair.until_calls else ())}
        found = markers(frozenset(ends))
        while True:
            pattern = found.next_end if reader.ended else found.next
            match = pattern.search(reader.text, reader.at)
            end = match.start() if match else len(reader.text)
            self._output.thought(reader.text[reader.at : end])
            reader.at = end
            if match and match["full"] == close:
                reader.at = match.end()
                self._fresh, self._drop = True, True
                self._output.thinking = ""
                return
            if match and match["full"]:
                calls = self._openings[match["full"]]
                start = reader.tell()
                behind = start + match.end() - match.start()
                own = match["full"] == calls.call_open.strip()
                reader.seek(behind)
                self._output.thinking = ""
                if (yield from self._call(calls, start, begun=own)):
                    return
                self._output.thinking = close
                reader.seek(behind)
                self._output.thought(reader.since(start))
                reader.mark = None
            elif reader.ended:
                return
            else:
                yield

    def _set(self) -> _Set:
        """The markers that mean something at this place."""
        unsaid = self._fresh and not self._output.said
        section = self._section if self._fresh else None
        late = self._output.late
        key = (self._fresh, unsaid, section, self._wrapper, late)
        if key not in self._sets:
            meanings: dict[str, _Meaning] = {}
            if section is not None:
                meanings.update(dict.fromkeys(texts.endings(section)))
            for nothing in filter(None, (self._wrapper, late)):
                meanings[nothing] = None
            for pair in self._reasoning:
                if pair.anywhere or unsaid:
                    meanings[pair.close.strip()] = None
                    meanings[pair.open.strip()] = pair
            if unsaid:
                meanings.update((begin, end) for begin, end in self._family.wrappers)
            meanings.update(self._openings)
            bare = "[{" if self._bare else ""
            self._sets[key] = markers(frozenset(meanings), bare), meanings
        return self._sets[key]
