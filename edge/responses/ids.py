"""Ids of responses and their items. An item's id holds that of its response: it is found by it.

Pure but for the random number.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Final

from edge.errors import ApiError, invalid

_RESPONSE: Final = re.compile(r"resp_([0-9a-f]{32})")
_ITEM: Final = re.compile(r"[a-z]+_([0-9a-f]{32})([io])(\d{1,5})")

PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
}


@dataclass(frozen=True, slots=True)
class Ids:
    """Those of one response."""

    root: str

    @property
    def response(self) -> str:
        """The response's own."""
        return f"resp_{self.root}"

    def output(self, kind: str, place: int) -> str:
        """Of an item that came out, by its type and place."""
        return f"{PREFIXES[kind]}_{self.root}o{place}"

    def input(self, kind: str, place: int) -> str:
        """Of an item that went in, by its type and place among those of the request."""
        return f"{PREFIXES[kind]}_{self.root}i{place}"


def new() -> Ids:
    """Of a response that begins. Nobody can guess it: whoever has no key has no name either."""
    return Ids(uuid.uuid4().hex)


def response_of(item: str) -> str | None:
    """The response that an item with this id belongs to; None where it can be none."""
    found = _ITEM.fullmatch(item)
    return f"resp_{found[1]}" if found else None


def check_response(given: str, param: str) -> None:
    """Raises ApiError 400 where this cannot be a response's id at all."""
    if not given.startswith("resp"):
        raise invalid(
            f"Invalid '{param}': '{given[:64]}'. Expected an ID that begins with 'resp'.",
            param,
            "invalid_value",
        )


def is_response(given: str) -> bool:
    """Whether it has the form that ids have here; no other one needs to be looked for."""
    return _RESPONSE.fullmatch(given) is not None


def no_response(given: str) -> ApiError:
    """404: there is none with this id for whoever asks."""
    return ApiError(404, f"Response with id '{given[:128]}' not found.")


def no_previous(given: str) -> ApiError:
    """400: the response to go on from is not there."""
    return invalid(
        f"Previous response with id '{given[:128]}' not found.",
        "previous_response_id",
        "previous_response_not_found",
    )


def no_item(given: str) -> ApiError:
    """404: a reference to nothing."""
    return ApiError(
        404,
        f"Item with id '{given[:128]}' not found. Items are not persisted when `store` is set to "
        "false. Try again with `store` set to true, or remove this item from your input.",
        param="input",
    )
