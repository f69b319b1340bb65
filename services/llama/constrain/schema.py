"""A caller's JSON schema as the one that llguidance is given; pure.

What would change which values are valid and cannot be enforced is refused, with its place as a JSON
pointer. What the specification calls an annotation, unknown keywords and formats included, is left
out. So the result holds nothing but what is enforced:

- Draft 2020-12; the older forms of `items` and `exclusiveMinimum` are rewritten.
- `$ref` within the document only; what is referred to moves to `$defs`.
- Formats that are enforced are in `schema_values.FORMATS`; others, `int32` or `double`, say nothing.
- A plain `integer` has at most 18 digits: small models do not always find the end of a number.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import orjson

from services.llama.constrain.schema_values import (
    CHECKS,
    COUNTS,
    FORMATS,
    MAX_PROPERTIES,
    TYPES,
    array,
    check_pattern,
    join,
    problem,
)

MAX_SUBSCHEMAS = 4096
MAX_ALTERNATIVES = 256
# Levels of the root and of all that is referred to, added: the library follows them recursively, and
# a chain of 1000 references overflowed its stack.
MAX_LEVELS = 400
_MAX_INTEGER = 10**18
_MAX_COUNT = 10**9
_MAX_LEAST_OF_PATTERN = 1000

_SCALARS = TYPES - {"array", "object"}
# Keywords that restrict values and are not enforced, each with the values that restrict nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "not": (False,),
    "if": (),
    "contains": (),
    "uniqueItems": (False,),
    "propertyNames": (True, {}),
    "dependencies": ({},),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "$dynamicRef": (),
    "$recursiveRef": (),
}


def prepare(text: str) -> str:
    """The schema to compile, as JSON text. Raises Problem."""
    root = orjson.loads(text)
    audit = _Audit(root)
    return orjson.dumps(audit.run()).decode()


class _Audit:
    """One walk through a schema and what it refers to."""

    def __init__(self, root: Any) -> None:
        self._root = root
        # What is referred to, in the order found, and its names by pointer.
        self._targets: list[str] = []
        self._names: dict[str, str] = {}
        self._subschemas = 0
        self._deepest = 0

    def run(self) -> dict[str, Any]:
        if self._root is False:
            raise problem("", "nothing satisfies false")
        if self._root is True:
            return {}
        root = self._subschema(self._root, "", 1)
        levels = self._deepest
        definitions: dict[str, Any] = {}
        for pointer in self._targets:  # which grows as they are read
            self._deepest = 0
            definitions[self._names[pointer]] = self._subschema(
                _lookup(self._root, pointer), pointer, 1
            )
            levels += self._deepest
            if levels > MAX_LEVELS:
                raise problem(pointer, "references lead too deep")
        root, definitions = _without_endless(root, definitions)
        assert isinstance(root, dict)
        return {**root, "$defs": definitions} if definitions else root

    def _subschema(self, schema: Any, pointer: str, level: int) -> Any:
        self._deepest = max(self._deepest, level)
        self._subschemas += 1
        if self._subschemas > MAX_SUBSCHEMAS:
            raise problem(pointer, f"more than {MAX_SUBSCHEMAS} subschemas")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise problem(pointer, "a schema must be an object or a boolean")
        if pointer and "$id" in schema:
            raise problem(f"{pointer}/$id", "only the whole schema can have an identifier")
        for name, harmless in _UNSUPPORTED.items():
            # `if` alone asks for nothing.
            alone = name == "if" and not schema.keys() & {"then", "else"}
            if name in schema and not alone and not _one_of(schema[name], harmless):
                raise problem(f"{pointer}/{name}", f"'{name}' is not supported")
        out: dict[str, Any] = {}
        for name, value in _modern(schema, pointer).items():
            self._keyword(out, name, value, f"{pointer}/{name}", level)
        _check_properties_count(out, pointer)
        _check_least_of_pattern(out, pointer)
        _bound_integers(out)
        return out

    def _keyword(
        self, out: dict[str, Any], name: str, value: Any, pointer: str, level: int
    ) -> None:
        match name:
            case "$ref":
                out[name] = self._reference(value, pointer)
            case "items" | "additionalProperties":
                out[name] = self._subschema(value, pointer, level + 1)
            case "allOf" | "anyOf" | "oneOf" | "prefixItems":
                out[name] = [
                    self._subschema(schema, f"{pointer}/{at}", level + 1)
                    for at, schema in enumerate(array(value, pointer, MAX_ALTERNATIVES))
                ]
            case "properties" | "patternProperties":
                out[name] = self._map(name, value, pointer, level)
            case _ if name in CHECKS:
                CHECKS[name](value, pointer)
                if name in COUNTS:
                    # No output is as long as that, and the library has a limit there.
                    if value <= _MAX_COUNT:
                        out[name] = int(value)  # 3.0 is whole, but not to the library
                elif name != "format" or value in FORMATS:
                    out[name] = value

    def _map(self, name: str, value: Any, pointer: str, level: int) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise problem(pointer, "must be an object")
        if len(value) > MAX_PROPERTIES:
            raise problem(pointer, f"more than {MAX_PROPERTIES} properties")
        if name == "patternProperties":
            for pattern in value:
                check_pattern(pattern, join(pointer, pattern))
        return {
            key: self._subschema(schema, join(pointer, key), level + 1)
            for key, schema in value.items()
        }

    def _reference(self, value: Any, pointer: str) -> str:
        if not isinstance(value, str) or not (value == "#" or value.startswith("#/")):
            raise problem(pointer, "only references into the schema itself, '#/…', are supported")
        target = unquote(value[1:])
        if _lookup(self._root, target) is _MISSING:
            raise problem(pointer, "refers to nothing")
        if target not in self._names:
            self._names[target] = f"d{len(self._targets)}"
            self._targets.append(target)
        return f"#/$defs/{self._names[target]}"


def _without_endless(root: Any, definitions: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Root and definitions without what no finite value satisfies.

    The library would follow such a schema until the context is full. Raises Problem where nothing
    is left.
    """
    finite: set[str] = set()
    found = True
    while found:
        found = False
        # What was found last is what others are made of.
        for name in reversed(definitions):
            if name not in finite and _is_finite(definitions[name], finite):
                finite.add(name)
                found = True
    if not _is_finite(root, finite):
        raise problem("", "no finite value satisfies it")
    return _pruned(root, finite), {
        name: _pruned(schema, finite) for name, schema in definitions.items() if name in finite
    }


def _pruned(schema: Any, finite: set[str]) -> Any:
    """The schema with false for what has no finite value."""
    if isinstance(schema, bool):
        return schema
    if not _is_finite(schema, finite):
        return False
    out = dict(schema)
    for name in schema.keys() & {"items", "additionalProperties"}:
        out[name] = _pruned(schema[name], finite)
    for name in schema.keys() & {"allOf", "anyOf", "oneOf", "prefixItems"}:
        out[name] = [_pruned(inner, finite) for inner in schema[name]]
    for name in schema.keys() & {"properties", "patternProperties"}:
        out[name] = {key: _pruned(inner, finite) for key, inner in schema[name].items()}
    return out


_MISSING = object()


def _lookup(root: Any, pointer: str) -> Any:
    """What a JSON pointer leads to; _MISSING if that is nothing."""
    found = root
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(key, _MISSING)
        elif isinstance(found, list) and key.isdecimal() and len(key) < 6:
            found = found[int(key)] if int(key) < len(found) else _MISSING
        else:
            return _MISSING
    return found


def _modern(schema: dict[str, Any], pointer: str) -> dict[str, Any]:
    """The older drafts' forms of `items` and of the exclusive bounds as today's."""
    out = dict(schema)
    if isinstance(out.get("items"), list):
        if "prefixItems" in out:
            raise problem(f"{pointer}/items", "must be a schema beside 'prefixItems'")
        out["prefixItems"] = out.pop("items")
        if "additionalItems" in out:
            out["items"] = out["additionalItems"]
        if not out["prefixItems"]:
            del out["prefixItems"]
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if out.get(exclusive) is True and bound in out:
            out[exclusive] = out.pop(bound)
        elif out.get(exclusive) is False:
            del out[exclusive]
    return out


def _one_of(value: Any, harmless: tuple[Any, ...]) -> bool:
    # False == 0 and True == 1, but not as keywords.
    return any(value == each and type(value) is type(each) for each in harmless)


def _check_properties_count(schema: dict[str, Any], pointer: str) -> None:
    """Names beyond `properties` may come twice, and then count once."""
    least = schema.get("minProperties", 0)
    if least > max(1, len(set(schema.get("required", ())))):
        raise problem(
            f"{pointer}/minProperties",
            "more than 1, and more than 'required' has, is not supported",
        )


def _check_least_of_pattern(schema: dict[str, Any], pointer: str) -> None:
    """The library compiles the two together in one step, whose work is limited."""
    if "pattern" in schema and schema.get("minLength", 0) > _MAX_LEAST_OF_PATTERN:
        raise problem(
            f"{pointer}/minLength",
            f"more than {_MAX_LEAST_OF_PATTERN} beside a pattern is not supported",
        )


def _bound_integers(schema: dict[str, Any]) -> None:
    types = schema.get("type")
    if types == "integer" or (isinstance(types, list) and "integer" in types):
        if isinstance(types, list) and "number" in types:
            return
        if not schema.keys() & {"minimum", "exclusiveMinimum"}:
            schema["minimum"] = -_MAX_INTEGER
        if not schema.keys() & {"maximum", "exclusiveMaximum"}:
            schema["maximum"] = _MAX_INTEGER


def _is_finite(schema: Any, finite: set[str]) -> bool:
    """Whether some finite value might satisfy it, if those of `finite` have one."""
    if isinstance(schema, bool):
        return schema

    def is_finite(inner: Any) -> bool:
        return _is_finite(inner, finite)

    if "$ref" in schema and schema["$ref"].removeprefix("#/$defs/") not in finite:
        return False
    if not all(map(is_finite, schema.get("allOf", ()))):
        return False
    for name in ("anyOf", "oneOf"):
        if name in schema and not any(map(is_finite, schema[name])):
            return False
    if schema.keys() & {"const", "enum"}:
        return True
    types = schema.get("type", "null")
    types = {types} if isinstance(types, str) else set(types)
    if types & _SCALARS:
        return True
    return ("object" in types and all(map(is_finite, _required_values(schema)))) or (
        "array" in types and all(map(is_finite, _required_items(schema)))
    )


def _required_values(schema: dict[str, Any]) -> list[Any]:
    properties = schema.get("properties", {})
    others = True if "patternProperties" in schema else schema.get("additionalProperties", True)
    return [properties.get(name, others) for name in schema.get("required", ())]


def _required_items(schema: dict[str, Any]) -> list[Any]:
    least = schema.get("minItems", 0)
    first = schema.get("prefixItems", [])
    rest = [schema.get("items", True)] if least > len(first) else []
    return [*first[:least], *rest]
