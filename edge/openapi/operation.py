"""What is said of an operation beyond its route: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of the path, the query or the head. `kind` is its type, as in a model."""

    name: str
    where: str
    kind: Any
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """Types are pydantic models, TypedDicts, or what else pydantic knows; None: there is no such body.

    `events` is the data of a stream's events, for requests with `stream`; `done` its last words.
    `example` is a body that any model can answer. `also` are the statuses, besides 200 and those
    that the request's kind has anyway, with the type of their body (None: the API's error).
    """

    tag: str
    summary: str
    description: str = ""
    request: Any = None
    example: dict[str, Any] | None = None
    response: Any = None
    media: str = JSON
    events: Any = None
    done: str = ""
    parameters: tuple[Parameter, ...] = ()
    also: tuple[tuple[int, Any], ...] = ()
