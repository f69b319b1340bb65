"""What the keywords of a JSON schema may be, as far as it does not take other schemas; pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from services.llama.constrain import regex
from services.llama.constrain.problem import Problem

# Optional properties make the grammar grow with their square.
MAX_PROPERTIES = 1000
MAX_ENUM = 4096
MAX_LEAST_ITEMS = 1000
MAX_LEAST_LENGTH = 10_000
# Up to here a number is the same in every implementation.
MAX_NUMBER = 2**53
_MAX_POINTER = 200

TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
COUNTS = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
)
FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
# Characters that JSON only has as \uXXXX, which is never generated: a property's name could be
# spelled differently with it, and so be there twice.
_UNSPELLABLE = frozenset(map(chr, range(32))) - set("\b\t\n\f\r") | {"\x7f"}


def problem(pointer: str, message: str) -> Problem:
    if len(pointer) > _MAX_POINTER:
        pointer = pointer[:_MAX_POINTER] + "…"
    return Problem(f"at '{pointer}': {message}" if pointer else f"the schema: {message}")


def join(pointer: str, key: str) -> str:
    return f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"


def array(value: Any, pointer: str, most: int) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise problem(pointer, "must be an array of at least 1 entry")
    if len(value) > most:
        raise problem(pointer, f"more than {most} entries")
    return value


def check_pattern(pattern: Any, pointer: str) -> None:
    if not isinstance(pattern, str):
        raise problem(pointer, "must be a string")
    try:
        regex.check(pattern)
    except Problem as error:
        raise problem(pointer, str(error)) from None


def _check_literal(value: Any, pointer: str) -> None:
    match value:
        case str():
            if _UNSPELLABLE & set(value):
                raise problem(pointer, "control characters are not supported")
        case dict():
            for key, inner in value.items():
                _check_literal(inner, join(pointer, key))
        case list():
            for at, inner in enumerate(value):
                _check_literal(inner, f"{pointer}/{at}")
        case int() | float() if not isinstance(value, bool) and abs(value) > MAX_NUMBER:
            raise problem(pointer, f"numbers beyond {MAX_NUMBER} are not supported")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_type(value: Any, pointer: str) -> None:
    names = [value] if isinstance(value, str) else array(value, pointer, len(TYPES))
    if not all(isinstance(each, str) and each in TYPES for each in names):
        raise problem(pointer, f"must be one or several of {', '.join(sorted(TYPES))}")


def _check_enum(value: Any, pointer: str) -> None:
    for at, member in enumerate(array(value, pointer, MAX_ENUM)):
        _check_literal(member, f"{pointer}/{at}")


def _check_number(value: Any, pointer: str) -> None:
    if not _is_number(value):
        raise problem(pointer, "must be a number")
    if abs(value) > MAX_NUMBER:
        raise problem(pointer, f"numbers beyond {MAX_NUMBER} are not supported")


def _check_divisor(value: Any, pointer: str) -> None:
    _check_number(value, pointer)
    if value <= 0:
        raise problem(pointer, "must be greater than 0")


def _check_count(value: Any, pointer: str, most: int = MAX_NUMBER) -> None:
    if not _is_number(value) or value < 0 or value != int(value):
        raise problem(pointer, "must be a whole number of at least 0")
    if value > most:
        raise problem(pointer, f"more than {most} is not supported")


def _check_format(value: Any, pointer: str) -> None:
    if not isinstance(value, str):
        raise problem(pointer, "must be a string")


def _check_required(value: Any, pointer: str) -> None:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise problem(pointer, "must be an array of strings")
    if len(value) > MAX_PROPERTIES:
        raise problem(pointer, f"more than {MAX_PROPERTIES} properties")


# Each raises Problem when the keyword's value, at the pointer, cannot be used.
CHECKS: dict[str, Callable[[Any, str], None]] = {
    "type": _check_type,
    "const": _check_literal,
    "enum": _check_enum,
    "required": _check_required,
    "minProperties": _check_count,
    "maxProperties": _check_count,
    "minItems": partial(_check_count, most=MAX_LEAST_ITEMS),
    "maxItems": _check_count,
    "minimum": _check_number,
    "maximum": _check_number,
    "exclusiveMinimum": _check_number,
    "exclusiveMaximum": _check_number,
    "multipleOf": _check_divisor,
    "minLength": partial(_check_count, most=MAX_LEAST_LENGTH),
    "maxLength": _check_count,
    "pattern": check_pattern,
    "format": _check_format,
}
