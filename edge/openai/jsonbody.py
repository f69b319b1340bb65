"""Bytes of a request body to a JSON object, within limits that hold before anything is parsed."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from edge.errors import ApiError, invalid

MAX_DEPTH: Final = 32
MAX_KEYS: Final = 10_000
MAX_CONTAINERS: Final = 20_000

# A string, or what is left of one that never ends: without the `?` such a body is quadratic.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def parse(body: bytes, max_depth: int = MAX_DEPTH, max_keys: int = MAX_KEYS) -> dict[str, Any]:
    """The JSON object of a body. Raises ApiError 400.

    Not JSON here: NaN, Infinity, numbers that overflow, lone surrogates, invalid UTF-8, a byte
    order mark. Of duplicate keys the last counts. Integers beyond 64 bits come as floats.
    """
    _check_shape(body, max_depth, max_keys)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _malformed() from None
    if not isinstance(value, dict):
        raise invalid("The body of your request must be a JSON object.")
    return value


def _check_shape(body: bytes, max_depth: int, max_keys: int) -> None:
    """Refuses deep and wide bodies in linear time, without recursion."""
    opened = body.count(b"[") + body.count(b"{")
    if opened <= max_depth and body.count(b":") <= max_keys:
        return
    bare = _STRING.sub(b"", body)
    if bare.count(b":") > max_keys:
        raise invalid(f"The JSON body has more than {max_keys} keys.")
    brackets = bare.translate(_BRACKETS, _NOT_BRACKETS)
    if brackets.count(b"[") > MAX_CONTAINERS:
        raise invalid(f"The JSON body has more than {MAX_CONTAINERS} arrays and objects.")
    # One pass takes the innermost level away, so what is left after n passes is deeper than n.
    for _ in range(max_depth):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise invalid(f"The JSON body is malformed or nested deeper than {max_depth} levels.")


def _malformed() -> ApiError:
    return invalid(
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't "
        "using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was "
        "sent was not valid JSON.)"
    )
