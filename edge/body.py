"""A request's body, read within limits of size and time."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from edge.errors import invalid, too_large, too_slow, unsupported_encoding

# What is unpacked here; anything else would be read as if it were not packed.
_ENCODINGS: Final = frozenset({"", "identity", "gzip", "deflate"})


async def read(request: web.Request, limit: int, seconds: float) -> bytes:
    """At most `limit` bytes after decompression, within `seconds`. Raises ApiError 400, 408, 413, 415.

    The application's `client_max_size` is what stops a compressed body that grows.
    """
    if request.headers.get("Content-Encoding", "").strip().lower() not in _ENCODINGS:
        raise unsupported_encoding()
    if request.content_length is not None and request.content_length > limit:
        raise too_large(limit)
    try:
        # Most bodies are here with their heads, and need no timer.
        async with asyncio.timeout(None if request.content.is_eof() else seconds):
            body = await request.read()
    except TimeoutError:
        raise too_slow() from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large(limit) from None
    except web.RequestPayloadError:
        raise invalid("The body of your request could not be read.") from None
    if len(body) > limit:
        raise too_large(limit)
    return body
