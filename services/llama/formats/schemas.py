"""Which values a tool's parameters may have, and such values as JSON; pure."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_TYPES = frozenset({"null", "boolean", "number", "string", "array", "object"})
_MAX_DEPTH = 16
_HALVES = re.compile("[\ud800-\udfff]")
_CONSTANTS = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    # JSON schema of its arguments; {}: anything.
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """The declared parameters' names, in order."""
        properties = self.parameters.get("properties")
        return list(properties) if isinstance(properties, Mapping) else []

    def property(self, key: str) -> Any:
        """The schema of a parameter; None if there is none."""
        properties = self.parameters.get("properties")
        return properties.get(key) if isinstance(properties, Mapping) else None

    def types(self, key: str) -> frozenset[str]:
        """JSON's types that a parameter may have; empty if nothing is known."""
        return value_types(self.property(key), self.parameters)


def value_types(schema: Any, root: Any, depth: int = 0) -> frozenset[str]:
    """The types that a schema allows, "integer" as "number"; empty if it does not say."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return frozenset()
    if isinstance(schema.get("$ref"), str):
        return value_types(resolve(schema["$ref"], root), root, depth + 1)
    if "const" in schema:
        return frozenset({type_of(schema["const"])})
    if isinstance(schema.get("enum"), list):
        return frozenset(map(type_of, schema["enum"]))
    stated = schema.get("type")
    names = [stated] if isinstance(stated, str) else stated
    if isinstance(names, list):
        known = {"number" if name == "integer" else name for name in names}
        return frozenset(known & _TYPES) if known <= _TYPES else frozenset()
    return _combined(schema, root, depth)


def _combined(schema: Mapping[str, Any], root: Any, depth: int) -> frozenset[str]:
    """As value_types, of a schema that states no type."""
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            found = [value_types(inner, root, depth + 1) for inner in schema[key]]
            return frozenset().union(*found) if all(found) else frozenset()
    if isinstance(schema.get("allOf"), list):
        types = (value_types(inner, root, depth + 1) for inner in schema["allOf"])
        return next(filter(None, types), frozenset())
    if isinstance(schema.get("properties"), Mapping):
        return frozenset({"object"})
    return frozenset({"array"}) if "items" in schema else frozenset()


def resolve(reference: str, root: Any) -> Any:
    """What a reference into the schema itself leads to; None if that is nothing."""
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or key not in found:
            return None
        found = found[key]
    return found if reference.startswith("#") else None


def inner(schema: Any, root: Any, key: str | None, depth: int = 0) -> Any:
    """The schema of a member, or with None of an array's items; None if nothing is known."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return None
    if isinstance(schema.get("$ref"), str):
        return inner(resolve(schema["$ref"], root), root, key, depth + 1)
    holder = schema.get("properties") if key is not None else schema
    name = key if key is not None else "items"
    if isinstance(holder, Mapping) and isinstance(holder.get(name), Mapping):
        return holder[name]
    for of in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(of), list):
            found = (inner(each, root, key, depth + 1) for each in schema[of])
            return next((each for each in found if each is not None), None)
    return None


def type_of(value: Any) -> str:
    """JSON's name of a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def quoted(text: str) -> str:
    """A text as JSON."""
    written = json.dumps(text, ensure_ascii=False)
    # Half a character, of an escape, has no UTF-8.
    return _HALVES.sub(lambda half: f"\\u{ord(half[0]):04x}", written)


def value_json(text: str, types: frozenset[str]) -> str:
    """What stands between tags, as JSON: of the types it may have; else it is a text."""
    found = _parsed(text.strip(), python=bool(types))
    if found is None:
        return quoted(text)
    written, type_ = found
    # Where no text was asked for: what was given, be it of another type.
    is_text = "string" in types and (type_ == "string" or type_ not in types)
    return quoted(text) if is_text else written


def _parsed(text: str, *, python: bool) -> tuple[str, str] | None:
    """JSON, or maybe a literal of Python's, as JSON with its type."""
    if python:
        # Templates that write values with `string` teach it to models.
        text = _CONSTANTS.get(text, text)
    try:
        return text, type_of(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError):
        pass
    if not python or not text.startswith(("{", "[", "(")):
        return None
    try:
        value = ast.literal_eval(text)
        value = list(value) if isinstance(value, tuple) else value
        return json.dumps(value, ensure_ascii=False, allow_nan=False), type_of(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _refuse(name: str) -> Any:
    raise ValueError(name)
