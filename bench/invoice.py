"""A small JSON schema as applications send them, and a check of answers against it. No I/O."""

from __future__ import annotations

from typing import Any

import orjson
from jsonschema import Draft202012Validator

CURRENCIES = ("EUR", "USD", "GBP", "JPY")
COUNTRIES = ("DE", "FR", "GB", "IT", "US")
# Everything is bounded, so that even a model of random weights comes to an end.
_NAME, _DESCRIPTION, _ITEMS, _MOST = 16, 12, 2, 9999


def _object(**properties: Any) -> dict[str, Any]:
    """As strict schemas have it: every property required, no other allowed."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _string(longest: int) -> dict[str, Any]:
    # Letters only: bytes that make no character are as likely as others where weights are random,
    # and llama-server ends such an answer with an error.
    return {"type": "string", "pattern": f"^[A-Za-z ]{{1,{longest}}}$"}


def _integer(least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


_ITEM = _object(
    description=_string(_DESCRIPTION),
    quantity=_integer(1, 99),
    price=_integer(0, _MOST),
)
SCHEMA = _object(
    customer=_object(name=_string(_NAME), country={"type": "string", "enum": list(COUNTRIES)}),
    currency={"type": "string", "enum": list(CURRENCIES)},
    items={"type": "array", "items": _ITEM, "minItems": 1, "maxItems": _ITEMS},
    paid={"type": "boolean"},
    total=_integer(0, _MOST),
)
RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "invoice", "strict": True, "schema": SCHEMA},
}


_JUDGE = Draft202012Validator(SCHEMA)


def is_valid(answer: str) -> bool:
    """Whether the text is one JSON document that the schema allows."""
    try:
        found = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return False
    return bool(_JUDGE.is_valid(found))
