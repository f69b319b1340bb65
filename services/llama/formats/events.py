"""What a parser finds in a model's text, piece by piece, and the pieces joined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the answer."""

    text: str
    # Where it stands: characters of the model's text before it.
    place: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of the reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call and the function's whole name. Calls are numbered from 0 and follow each other."""

    index: int
    name: str
    # "": the model gave none.
    id: str = ""


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of a call's arguments; joined they are what the model gave, JSON if it is well."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The last of a call."""

    index: int


Event: TypeAlias = Content | Thought | CallStarted | CallArguments | CallEnded


@dataclass(slots=True)
class Call:
    """A whole call."""

    name: str
    arguments: str = ""
    id: str = ""


@dataclass(slots=True)
class Parsed:
    """A whole output."""

    content: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)

    def add(self, events: Iterable[Event]) -> None:
        """Appends the next events."""
        for event in events:
            match event:
                case Content(text):
                    self.content += text
                case Thought(text):
                    self.reasoning += text
                case CallStarted(_, name, id_):
                    self.calls.append(Call(name, id=id_))
                case CallArguments(index, text):
                    self.calls[index].arguments += text
                case CallEnded():
                    pass
