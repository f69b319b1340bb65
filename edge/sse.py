"""Server-sent events as bytes, so that no text of a model can end an event. No I/O.

Only `data:` lines and comments for chats: `event:`, `retry:` and `id:` break parsers in the field.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

DONE: Final = b"data: [DONE]\n\n"
# A comment: keeps proxies open and makes a dead client's socket fail.
PING: Final = b": ping\n\n"

HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    # Tells nginx not to collect the stream.
    "X-Accel-Buffering": "no",
}


def event(data: Any) -> bytes:
    """One event. JSON escapes line breaks, so the data is one line whatever the text holds."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def named(name: str, data: Any) -> bytes:
    """One event with its name, for APIs whose clients look for one."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
