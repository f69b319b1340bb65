"""A small JSON schema as applications send them, and a check of answers against it. No I/O."""

from __future__ import annotations

from typing import Any

import orjson

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
    return {"type": "string", "minLength": 1, "maxLength": longest}


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


def is_valid(answer: str) -> bool:
    """Whether the text is one JSON document that the schema allows."""
    try:
        found = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return False
    return _allows(SCHEMA, found)


def _allows(schema: dict[str, Any], found: object) -> bool:
    """The keywords that SCHEMA uses, no others."""
    if "enum" in schema and found not in schema["enum"]:
        return False
    match schema["type"]:
        case "object":
            properties = schema["properties"]
            return (
                isinstance(found, dict)
                and found.keys() == properties.keys()
                and all(_allows(properties[name], value) for name, value in found.items())
            )
        case "array":
            return (
                isinstance(found, list)
                and schema["minItems"] <= len(found) <= schema["maxItems"]
                and all(_allows(schema["items"], value) for value in found)
            )
        case "string":
            # An enum says itself how long its strings are.
            bounds = schema.get("minLength", 0), schema.get("maxLength", 2**31)
            return isinstance(found, str) and bounds[0] <= len(found) <= bounds[1]
        case "integer":
            whole = isinstance(found, int) and not isinstance(found, bool)
            return whole and schema["minimum"] <= found <= schema["maximum"]
        case _:
            return isinstance(found, bool)
