"""Arguments that are no JSON as rules of a grammar: between tags, and as literals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from services.llama.formats.description import Elements, Literals, Tagged
from services.llama.formats.lark import Lark
from services.llama.formats.schemas import Tool, resolve, type_of, value_types

_MAX_DEPTH = 8
_DEFINITIONS = ("$defs", "definitions")
_NUMBER = r"/-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,15})?/"


def tagged_members(lark: Lark, shape: Tagged, tool: Tool) -> str:
    """Parameters in the declared order."""
    newline = "\n" if shape.lines else ""
    found = [lark.literal(shape.before)]
    for key in tool.keys:
        types = tool.types(key)
        is_text = not types or "string" in types
        type_ = "string" if is_text else min(types)
        head = lark.filled(
            shape.parameter[0], key=key, string="true" if is_text else "false", type=type_
        )
        value = _between(lark, tool, key, shape, is_text=is_text)
        behind = lark.literal(shape.between)
        body = " ".join(part for part in (head, lark.literal(newline), value, behind) if part)
        found.append(body if key in _required(tool.parameters) else f"({body})?")
    return " ".join(part for part in found if part)


def _between(lark: Lark, tool: Tool, key: str, shape: Tagged, *, is_text: bool) -> str:
    schema = _resolved(tool.property(key), tool.parameters)
    close = "\n" + shape.close if shape.lines else shape.close
    known = _constants(schema)
    if known is not None:
        texts = (each if isinstance(each, str) else json.dumps(each) for each in known)
        return f"({' | '.join(map(lark.literal, texts))}) {lark.literal(close)}"
    if is_text:
        if shape.cdata:
            marked = f"{lark.literal('<![CDATA[')} {lark.until(']]>' + shape.close)}"
            return f"({marked} | {lark.until(shape.close)})"
        # The newline before it is left to the model: a parser takes the end without one too.
        return lark.until(shape.close)
    return f"{lark.json(_with_definitions(schema, tool.parameters))} {lark.literal(close)}"


def element_members(lark: Lark, shape: Elements, tool: Tool) -> str:
    """Elements in the declared order."""
    return _Elements(lark, shape, tool.parameters).members(tool.parameters, 0)


class _Elements:
    """Elements of one tool."""

    def __init__(self, lark: Lark, shape: Elements, root: Mapping[str, Any]) -> None:
        self._lark, self._shape, self._root = lark, shape, root

    def members(self, schema: Mapping[str, Any], depth: int) -> str:
        required = _required(schema)
        found = []
        for key, inner in (schema.get("properties") or {}).items():
            element = self._element(key, inner, depth)
            found.append(element if key in required else f"({element})?")
        return " ".join(found)

    def _element(self, key: str, schema: Any, depth: int) -> str:
        """A value by its schema; if that is not simple, any value."""
        lark, mark = self._lark, self._shape.mark
        schema = _resolved(schema, self._root)
        known = _constants(schema)
        types = value_types(schema, self._root)
        begin, end = lark.literal(f"{mark}<{key}>"), f"{mark}</{key}>"
        close = lark.literal(end)
        if known is not None and all(type_of(each) not in {"array", "object"} for each in known):
            texts = (each if isinstance(each, str) else json.dumps(each) for each in known)
            return f"{begin} ({' | '.join(map(lark.literal, texts))}) {close}"
        text = f"{lark.until(mark)} {lark.literal(end.removeprefix(mark))}"
        if types == {"string"}:
            return f"{begin} {text}"
        if types and not types & {"string", "array", "object"}:
            value = lark.json(_with_definitions(schema, self._root))
            return f"{begin} {value} {close}"
        if types == {"array"} and depth < _MAX_DEPTH:
            item = self._element(self._shape.item, schema.get("items"), depth + 1)
            least, most = schema.get("minItems", 0), schema.get("maxItems")
            return f"{begin} ({item}){{{least},{'' if most is None else most}}} {close}"
        if types == {"object"} and "properties" in schema and depth < _MAX_DEPTH:
            return f"{begin} {self.members(schema, depth + 1)} {close}"
        more = f"({lark.until(mark)} {self._any()})*"
        return f"{begin} {more} {text}"

    def _any(self) -> str:
        """An element of any name, behind its mark.

        What precedes a tag is one text with the mark, also where it is empty: the library could not
        tell a text from the mark alone.
        """
        lark = self._lark
        name, close = "/[A-Za-z_][A-Za-z0-9_]{0,40}/", lark.literal(">")
        text = lark.until(self._shape.mark)
        opening, closing = lark.literal("<"), lark.literal("</")
        return lark.rule(
            "any", f"{opening} {name} {close} ({text} any)* {text} {closing} {name} {close}"
        )


def literal_members(lark: Lark, shape: Literals, tool: Tool) -> str:
    """Arguments by name, in the declared order."""
    members = _Values(lark, shape, tool.parameters).members(tool.parameters, 0)
    return f"{lark.literal(shape.open)} {members} {lark.literal(shape.close)}"


class _Values:
    """Literals of one tool."""

    def __init__(self, lark: Lark, shape: Literals, root: Mapping[str, Any]) -> None:
        self._lark, self._shape, self._root = lark, shape, root

    def members(self, schema: Mapping[str, Any], depth: int) -> str:
        """Names and values, in the declared order; those not required may be missing."""
        properties = schema.get("properties")
        required = _required(schema)
        lark, shape = self._lark, self._shape
        # What may follow when nothing was written yet, and when something was.
        none, some = "", ""
        for key, inner in reversed(list((properties or {}).items())):
            value = self.value(inner, depth + 1)
            member = f"{lark.literal(key + shape.assign)} {value} {some}"
            after = f"{lark.literal(shape.separator)} {member}"
            if key in required:
                none, some = lark.rule("", member), lark.rule("", after)
            else:
                none = lark.rule("", f"{member} | {none}" if none else f"({member})?")
                some = lark.rule("", f"{after} | {some}" if some else f"({after})?")
        return none

    def value(self, schema: Any, depth: int) -> str:
        """A value by its schema; if that is not simple, any value."""
        lark, shape = self._lark, self._shape
        schema = _resolved(schema, self._root)
        known = _constants(schema)
        types = value_types(schema, self._root)
        if known is not None and all(type_of(each) not in {"array", "object"} for each in known):
            return f"({' | '.join(self._constant(each) for each in known)})"
        if types == {"boolean"}:
            return f"({lark.literal(shape.constants[0])} | {lark.literal(shape.constants[1])})"
        if shape.escapes:
            # Literals of Python's take JSON's.
            return lark.json(_with_definitions(schema, self._root))
        if types == {"string"}:
            return self._text()
        if types == {"number"}:
            return lark.json(_with_definitions(schema, self._root))
        if types == {"array"} and depth < _MAX_DEPTH:
            return self._array(schema, depth)
        if types == {"object"} and "properties" in schema and depth < _MAX_DEPTH:
            return f'"{{" {self.members(schema, depth)} "}}"'
        return self._any()

    def _array(self, schema: Mapping[str, Any], depth: int) -> str:
        item = self.value(schema.get("items"), depth + 1)
        comma = self._lark.literal(self._shape.separator)
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if most == 0:
            return '"[" "]"'
        more = f"{{{max(least - 1, 0)},{'' if most is None else max(most - 1, least - 1)}}}"
        items = f"({item} ({comma} {item}){more})"
        return f'"[" {items}{"" if least else "?"} "]"'

    def _text(self) -> str:
        quote = self._shape.quotes[0]
        return f"{self._lark.literal(quote)} {self._lark.until(quote)}"

    def _constant(self, value: Any) -> str:
        match value:
            case str() if self._shape.escapes:
                return self._lark.literal(json.dumps(value, ensure_ascii=False))
            case str():
                quote = self._shape.quotes[0]
                return self._lark.literal(quote + value + quote)
            case bool():
                return self._lark.literal(self._shape.constants[0 if value else 1])
            case None:
                return self._lark.literal(self._shape.constants[2])
            case _:
                return self._lark.literal(json.dumps(value))

    def _any(self) -> str:
        true, false, null = map(self._lark.literal, self._shape.constants)
        comma = self._lark.literal(self._shape.separator)
        member = f"/[A-Za-z_][A-Za-z0-9_]{{0,40}}/ {self._lark.literal(self._shape.assign)} any"
        return self._lark.rule(
            "any",
            f"{self._text()} | {_NUMBER} | {true} | {false} | {null}"
            f' | "[" (any ({comma} any)*)? "]" | "{{" ({member} ({comma} {member})*)? "}}"',
        )


def _required(schema: Mapping[str, Any]) -> list[Any]:
    required = schema.get("required")
    return required if isinstance(required, list) else []


def _resolved(schema: Any, root: Any) -> Mapping[str, Any]:
    for _ in range(_MAX_DEPTH):
        if isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str):
            schema = resolve(schema["$ref"], root)
    return schema if isinstance(schema, Mapping) else {}


def _with_definitions(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of a schema that stands alone."""
    return {**schema, **{name: root[name] for name in _DEFINITIONS if name in root}}


def _constants(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    known = schema.get("enum")
    return known if isinstance(known, list) and known else None
