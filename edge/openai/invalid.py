"""A failed validation in OpenAI's words: message, path of the parameter, code.

pydantic says what is wrong and where; nothing of the value itself but its type, its length or a
number out of range gets into a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from edge.errors import ApiError, invalid

_EXPECTED: Final = {
    "int_type": "an integer",
    "float_type": "a decimal number",
    "string_type": "a string",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_ARRAYS_OF_OBJECTS: Final = frozenset({"messages", "tools", "functions", "tool_calls", "documents"})
# Of a path with a client's key at its end.
_LONGEST_NAME: Final = 160
_QUOTED: Final = re.compile(r"'([^']*)'")


def from_validation(error: ValidationError, exact: ValidationError | None = None) -> ApiError:
    """The first error of a validation, as OpenAI would put it (400).

    `exact`: what the first would have been, had its number been parsed exactly.
    """
    value = error.errors(include_url=False)[0]["input"]
    first = (exact or error).errors(include_url=False)[0]
    return describe(first["type"], path(first["loc"]), first.get("ctx", {}), value, first)


def path(loc: Sequence[int | str]) -> str:
    """`messages[0].content`: pydantic's location without the tags of unions (`~…`)."""
    if loc and loc[-1] == "[key]":
        # What is wrong is the key itself, which is the client's text.
        loc = loc[:-2]
    out = ""
    for part in loc:
        if isinstance(part, int):
            out += f"[{part}]"
        elif not part.startswith("~"):
            out += f".{part}" if out else part
    return out


def describe(
    kind: str, param: str, ctx: Mapping[str, Any], value: Any, item: Mapping[str, Any]
) -> ApiError:
    """One pydantic error (`kind` is its type) at `param` about `value`."""
    if kind == "missing":
        return missing(param)
    if kind in _EXPECTED:
        # Integers beyond 64 bits were parsed as floats; this one has no limit of its own.
        if kind == "int_type" and isinstance(value, float) and abs(value) >= 2**63:
            if value > 0:
                return _bound(param, "integer", True, "<=", 2**63 - 1, value)
            return _bound(param, "integer", False, ">=", -(2**63), value)
        return wrong_type(param, _expected(kind, param), value)
    if kind == "wanted":
        return wrong_type(param, str(item["msg"]), value)
    if kind == "literal_error":
        if not isinstance(value, str):
            return wrong_type(param, "a string", value)
        return bad_value(param, value, _QUOTED.findall(ctx["expected"]))
    if kind in _LIMITS:
        key, sign = _LIMITS[kind]
        number = "decimal" if isinstance(ctx[key], float) else "integer"
        return _bound(param, number, sign.startswith("<"), sign, ctx[key], value)
    return _size(kind, param, ctx, value) or invalid(
        f"Invalid value for '{param}'.", param, "invalid_value"
    )


_LIMITS: Final = {
    "greater_than_equal": ("ge", ">="),
    "greater_than": ("gt", ">"),
    "less_than_equal": ("le", "<="),
    "less_than": ("lt", "<"),
}


def missing(param: str) -> ApiError:
    """A parameter that must be there is not."""
    return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def wrong_type(param: str, expected: str, value: Any) -> ApiError:
    """A value of another JSON type; `expected` with its article."""
    return invalid(
        f"Invalid type for '{param}': expected {expected}, but got {_article(value)} instead.",
        param,
        "invalid_type",
    )


def bad_value(param: str, value: str, supported: Sequence[str]) -> ApiError:
    """A string that is none of those supported."""
    quoted = [f"'{name}'" for name in supported]
    listed = (
        " and ".join(quoted) if len(quoted) < 3 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
    )
    return invalid(
        f"Invalid value: '{value[:64]}'. Supported values are: {listed}.", param, "invalid_value"
    )


def unknown_parameter(name: str) -> ApiError:
    """A key that does not exist, where unknown keys are refused."""
    name = name[:_LONGEST_NAME]
    return invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")


def empty_array(param: str) -> ApiError:
    """An array that must have something in it."""
    return invalid(
        f"Invalid '{param}': empty array. Expected an array with minimum length 1, "
        "but got an empty array instead.",
        param,
        "empty_array",
    )


def _expected(kind: str, param: str) -> str:
    if kind == "list_type" and param.rsplit(".", 1)[-1] in _ARRAYS_OF_OBJECTS:
        return "an array of objects"
    return _EXPECTED[kind]


def _bound(param: str, number: str, above: bool, sign: str, limit: float, value: float) -> ApiError:
    side, code = ("above maximum", "above_max") if above else ("below minimum", "below_min")
    return invalid(
        f"Invalid '{param}': {number} {side} value. Expected a value {sign} {_plain(limit)}, "
        f"but got {_plain(value)} instead.",
        param,
        f"{number}_{code}_value",
    )


def _size(kind: str, param: str, ctx: Mapping[str, Any], value: Any) -> ApiError | None:
    if kind == "too_short":
        return empty_array(param)
    if kind == "string_too_short":
        return invalid(
            f"Invalid '{param}': empty string. Expected a string with minimum length "
            f"{ctx['min_length']}, but got an empty string instead.",
            param,
            "empty_string",
        )
    if kind == "string_too_long":
        return _long(param, "string", "string_above_max_length", ctx["max_length"], len(value))
    if kind == "too_long" and isinstance(value, dict):
        return invalid(
            f"Invalid '{param}': too many properties. Expected an object with at most "
            f"{ctx['max_length']} properties, but got an object with {len(value)} properties "
            "instead.",
            param,
            "object_above_max_properties",
        )
    if kind == "too_long":
        return _long(param, "array", "array_above_max_length", ctx["max_length"], len(value))
    if kind == "string_pattern_mismatch":
        return invalid(
            f"Invalid '{param}': string does not match pattern. Expected a string that matches "
            f"the pattern '{ctx['pattern']}'.",
            param,
            "invalid_value",
        )
    return None


def _long(param: str, what: str, code: str, limit: int, length: int) -> ApiError:
    article = "an" if what == "array" else "a"
    return invalid(
        f"Invalid '{param}': {what} too long. Expected {article} {what} with maximum length "
        f"{limit}, but got {article} {what} with length {length} instead.",
        param,
        code,
    )


def _article(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _plain(number: float) -> str:
    """All of its digits: rounded, a number beyond a limit may read like the limit."""
    return str(number).removesuffix(".0")
