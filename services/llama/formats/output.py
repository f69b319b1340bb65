"""Where a parser puts what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from services.llama.formats.events import (
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Thought,
)
from services.llama.formats.schemas import Tool

_Kind = Literal["content", "thought", "arguments"]


class Output:
    """The events of an output, those of one kind in a row as one."""

    __slots__ = (
        "_end",
        "_events",
        "_kind",
        "_pieces",
        "_place",
        "calls",
        "late",
        "said",
        "thinking",
        "tools",
    )

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = {tool.name: tool for tool in tools}
        # Calls begun.
        self.calls = 0
        # Whether there was any content.
        self.said = False
        # In the midst of thoughts: the text that ends them. "": not there.
        self.thinking = ""
        # A marker that may come late, and then means nothing, once. "": none.
        self.late = ""
        self._events: list[Event] = []
        # The text that is growing, and what it is.
        self._pieces: list[str] = []
        self._kind: _Kind | None = None
        # Where it stands, if it is content.
        self._place = self._end = 0

    def take(self) -> list[Event]:
        """All events since the last time."""
        self._settle()
        events, self._events = self._events, []
        return events

    def content(self, text: str, place: int) -> None:
        """`place`: where the text stands, as told by the reader."""
        if text:
            self.said = True
            if self._kind != "content" or place != self._end:
                self._settle()
                self._place = place
            self._end = place + len(text)
            self._grow("content", text)

    def thought(self, text: str) -> None:
        if text:
            self._grow("thought", text)

    def start(self, name: str, id_: str) -> None:
        self._settle()
        self._events.append(CallStarted(self.calls, name, id_))
        self.calls += 1

    def arguments(self, text: str) -> None:
        """Of the call that was started last."""
        if text:
            self._grow("arguments", text)

    def end(self) -> None:
        """The call that was started last."""
        self._settle()
        self._events.append(CallEnded(self.calls - 1))

    def _grow(self, kind: _Kind, text: str) -> None:
        if kind != self._kind:
            self._settle()
            self._kind = kind
        self._pieces.append(text)

    def _settle(self) -> None:
        text = "".join(self._pieces)
        self._pieces.clear()
        match self._kind:
            case "content":
                self._events.append(Content(text, self._place))
            case "thought":
                self._events.append(Thought(text))
            case "arguments":
                self._events.append(CallArguments(self.calls - 1, text))
        self._kind = None
