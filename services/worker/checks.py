"""Single checks of a value, from which the validation of a request is made; pure.

Each takes the field's path in the contract first and raises InvalidField. Values never go into
messages: they may be a user's words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import orjson

from services.worker.errors import InvalidField

KIB_64 = 64 * 2**10
# Token ids of one request: what is looked at on the event loop must not hold it up.
MOST_TOKEN_IDS = 2**20
# The same, of JSON, which is parsed there.
MIB_2 = 2 * 2**20
# Less than what recursive code, such as Python's own JSON encoder, can take.
_JSON_LEVELS = 64

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MIME = re.compile(r"(image|audio)/[A-Za-z0-9.+-]{1,64}")


def within(field: str, value: float, least: float, most: float) -> None:
    """`least <= value <= most`; NaN is not."""
    if not least <= value <= most:
        raise InvalidField(field, f"must be {least:g} to {most:g}")


def above(field: str, value: float, bound: float) -> None:
    """`value > bound`, and finite."""
    if not (value > bound and math.isfinite(value)):
        raise InvalidField(field, f"must be greater than {bound:g}")


def at_least(field: str, value: float, bound: float) -> None:
    """`value >= bound`, and finite."""
    if not (value >= bound and math.isfinite(value)):
        raise InvalidField(field, f"must be at least {bound:g}")


def count(field: str, values: Sequence[object], least: int, most: int) -> None:
    """Number of entries."""
    if not least <= len(values) <= most:
        raise InvalidField(field, f"must have {least} to {most} entries")


def total(field: str, ids: int) -> None:
    """Number of token ids of a request."""
    if ids > MOST_TOKEN_IDS:
        raise InvalidField(field, f"must have at most {MOST_TOKEN_IDS} token ids")


def required(field: str, value: str | bytes | None) -> None:
    """Set and not empty."""
    if not value:
        raise InvalidField(field, "is required")


def characters(field: str, value: str, most: int) -> None:
    """At most so many characters."""
    if len(value) > most:
        raise InvalidField(field, f"must have at most {most} characters")


def size(field: str, value: str, most: int) -> None:
    """At most so many bytes of UTF-8."""
    # A character has at least one byte: a long text is refused without encoding it.
    if len(value) > most or len(value.encode()) > most:
        raise InvalidField(field, f"must have at most {most} bytes")


def function_name(field: str, value: str) -> None:
    """As a tool is named."""
    if not _NAME.fullmatch(value):
        raise InvalidField(field, "must be 1 to 64 of A-Z, a-z, 0-9, _ and -")


def media_type(field: str, value: str) -> None:
    """An image's or a sound's MIME type."""
    if not _MIME.fullmatch(value):
        raise InvalidField(field, "must be image/* or audio/*")


def token_ids(field: str, ids: Sequence[int], vocabulary: int) -> None:
    """Each `0 <= id < vocabulary`; a vocabulary of 0 is not known. Names the first wrong one."""
    if not ids or (min(ids) >= 0 and (not vocabulary or max(ids) < vocabulary)):
        return
    for at, token in enumerate(ids):
        # The path is written for the wrong one only: there may be a million before it.
        if token < 0 or (vocabulary and token >= vocabulary):
            token_id(f"{field}[{at}]", token, vocabulary)


def token_id(field: str, token: int, vocabulary: int) -> None:
    """`0 <= id < vocabulary`; a vocabulary of 0 is not known."""
    if token < 0 or (vocabulary and token >= vocabulary):
        raise InvalidField(field, "is no token of this model")


def json_text(field: str, text: str, kinds: type | tuple[type, ...], what: str) -> object:
    """The value of a JSON text of one of these kinds; `what` names them in the message."""
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidField(field, "is not valid JSON") from None
    if not isinstance(value, kinds):
        raise InvalidField(field, f"must be {what}")
    levels(field, value, _JSON_LEVELS)
    return value


def levels(field: str, value: object, most: int) -> None:
    """How deep objects and arrays are nested in each other."""
    layer = [value]
    for _ in range(most):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if any(isinstance(value, dict | list) for value in layer):
        raise InvalidField(field, f"must not be nested deeper than {most} levels")
