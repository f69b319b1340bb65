"""What belongs to one HTTP request besides its body: its id, its clock, what its log line says."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from common.transport import MAX_REQUEST_ID, REQUEST_ID_KEY
from edge import chance
from edge.access.identity import ANONYMOUS, Identity
from edge.errors import ApiError, Shape, Status, own_status

_REQUEST_ID: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_REQUEST_ID}}}")


@dataclass(slots=True)
class Context:
    """Filled while the request is served. Times are on time.monotonic()."""

    request_id: str
    route: str = "unknown"
    # How errors are written for whoever asks.
    shape: Shape = ApiError.body
    status: Status = own_status
    # Who asks, and what the answer says of that one's limits.
    identity: Identity = ANONYMOUS
    limits: Mapping[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    model: str = ""
    worker: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_token: float | None = None
    # How often another worker went on with the answer.
    resumed: int = 0
    # A stream's error after its 200, for the log.
    error: str = ""

    def take(self, route: str, shape: Shape, status: Status) -> None:
        """Notes the route that is asked, and how its errors are written."""
        self.route, self.shape, self.status = route, shape, status

    def now(self) -> float:
        """The clock of `began`."""
        return time.monotonic()

    def elapsed_ms(self) -> float:
        """Milliseconds since the head of the request."""
        return (time.monotonic() - self.began) * 1000

    def ttft_ms(self) -> float | None:
        """Milliseconds from the head of the request to its first token."""
        return None if self.first_token is None else (self.first_token - self.began) * 1000


KEY: Final = web.RequestKey("context", Context)
# The model that the path named, before it was rewritten.
MODEL: Final = web.RequestKey("model", str)


def request_id(given: str | None) -> str:
    """The caller's id where it is one (visible ASCII, at most 128), else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return f"req_{chance.name()}"


def begin(request: web.Request) -> Context:
    """Attaches a context to the request."""
    context = Context(request_id(request.headers.get(REQUEST_ID_KEY)))
    request[KEY] = context
    return context
