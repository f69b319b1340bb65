"""Sizes of what a chat template computes: refuses, before it is made, a text that would be huge.

Not everything that can be: nested lists that repeat each other, or `join`, can still be large.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_CHARACTERS = 16 * 2**20
# Padding, indents and numbers' digits: no prompt needs more.
_MAX_WIDTH = 1000

_PADS = frozenset(("center", "ljust", "rjust", "zfill", "expandtabs"))
_FORMATS = frozenset(("format", "format_map"))
# In formats, a width of more than three digits or (in braces) one that is an argument.
_WIDE = {
    "%": re.compile(r"[%)\-#0 +.]\d{4,20}(\.\d{0,20})?[hlL]?[diouxXeEfFgGcrsa%]"),
    "{": re.compile(r"\{[^{}:]*:[^{}]*(\d{4}|\{)"),
}


class TooLargeError(Exception):
    """It would be; the message may go to the caller."""

    def __init__(self) -> None:
        super().__init__("the chat template computes something too large")


def operation(operator: str, left: Any, right: Any) -> None:
    """Raises TooLargeError for an operation whose result would be huge."""
    if operator == "%":
        if isinstance(left, str):
            formatting(left, right, "%")
    elif operator == "+":
        if not _is_number(left):
            _refuse_over(_weight(left) + _weight(right))
    elif operator == "*":
        _refuse_over(_weight(left) * _weight(right))
    elif max(_weight(left), _weight(right)) > 64:
        raise TooLargeError


def method(text: str, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Raises TooLargeError for a call of a text's method whose result would be huge."""
    if name in _PADS:
        for argument in (*arguments, *named.values()):
            width(argument)
        _refuse_over(text.count("\t") * _MAX_WIDTH if name == "expandtabs" else 0)
    elif name in _FORMATS:
        formatting(text, (*arguments, *named.values()), "{")
    elif name == "replace" and len(arguments) > 1:
        replacing(text, str(arguments[0]), str(arguments[1]))


def width(value: Any) -> None:
    """Raises TooLargeError for more padding than a prompt needs."""
    if (_is_number(value) and value > _MAX_WIDTH) or (
        isinstance(value, str) and len(value) > _MAX_WIDTH
    ):
        raise TooLargeError


def replacing(text: str, old: str, new: str) -> None:
    """Raises TooLargeError where so many would be put in."""
    _refuse_over(len(text) + text.count(old) * len(new))


def concatenated(parts: list[Any]) -> str:
    """What `~` makes. Raises TooLargeError."""
    texts = [str(part) for part in parts]
    _refuse_over(sum(map(len, texts)))
    return "".join(texts)


def formatting(text: str, arguments: Any, sign: str) -> None:
    """Raises TooLargeError for wide fields, and for a long argument put in often."""
    if _WIDE[sign].search(text):
        raise TooLargeError
    given = arguments.values() if isinstance(arguments, Mapping) else arguments
    given = given if isinstance(given, tuple | list) else [given]
    if sign == "%" and "*" in text:
        for value in given:
            width(abs(value) if _is_number(value) else 0)
    longest = max((len(value) for value in given if isinstance(value, str)), default=0)
    _refuse_over(len(text) + text.count(sign) * longest)


def _refuse_over(characters: float) -> None:
    if characters > MAX_CHARACTERS:
        raise TooLargeError


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _weight(value: Any) -> float:
    return abs(value) if _is_number(value) else len(value)
