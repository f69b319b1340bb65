"""What a case is: a text, and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from services.llama.formats import Call, Parsed, Tool

TOOLS = (
    Tool(
        "get_weather",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "metric": {"type": "boolean"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["city"],
        },
    ),
    Tool("get_time", {"type": "object", "properties": {}}),
    Tool(
        "run",
        {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "options": {"$ref": "#/$defs/options"},
            },
            "$defs": {"options": {"type": "object"}},
        },
    ),
)

PARIS = '{"city": "Paris"}'
ROME = '{"city": "Rome", "days": 3}'


@dataclass(frozen=True)
class Case:
    family: str
    text: str
    content: str = ""
    reasoning: str = ""
    # Names with arguments, as text or as a value; maybe with an id.
    calls: tuple[tuple[Any, ...], ...] = ()
    prompt: str = ""
    tools: tuple[Tool, ...] = TOOLS
    thinks: bool = True
    reason: Literal["stop", "length"] = "stop"

    @property
    def parsed(self) -> Parsed:
        return Parsed(
            self.content,
            self.reasoning,
            [Call(name, args, *more) for name, args, *more in self.calls],
        )

    def __str__(self) -> str:
        return f"{self.family}: {self.text[:60]!r}"


@dataclass(frozen=True)
class Family:
    """Cases of one family."""

    name: str

    def __call__(self, text: str, **expected: Any) -> None:
        CASES.append(Case(self.name, text, **expected))


CASES: list[Case] = []
W, T = "get_weather", "get_time"
