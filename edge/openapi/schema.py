"""Types to JSON Schema, as OpenAPI 3.1 has it. Pure.

pydantic makes the schemas; what it cannot know is put right here: members of unions that exist
only to fail, unions that it calls exclusive and are not, defaults that only mean "absent".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

Json = dict[str, Any]
PREFIX: Final = "#/components/schemas/"

# The tag of members that say in errors what there is (see edge.openai.fields).
_OTHER: Final = "~other"


class _Generator(GenerateJsonSchema):
    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> Json:
        choices = {
            tag: kind for tag, kind in schema["choices"].items() if not str(tag).startswith(_OTHER)
        }
        made: Json = super().tagged_union_schema({**schema, "choices": choices})
        return made["oneOf"][0] if len(made["oneOf"]) == 1 else made

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Json:
        made: Json = super().default_schema(schema)
        if made.get("default", ...) is None:
            del made["default"]
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: a title would be the name once more."""
        del schema
        return False


def schemas(
    kinds: Sequence[tuple[str, JsonSchemaMode, Any]],
) -> tuple[dict[tuple[str, JsonSchemaMode], Json], dict[str, Json]]:
    """The schema of each type by its key and mode, and the components that they refer to."""
    adapters = [(key, mode, TypeAdapter(kind)) for key, mode, kind in kinds]
    found, rest = TypeAdapter.json_schemas(
        adapters, ref_template=PREFIX + "{model}", schema_generator=_Generator
    )
    components: dict[str, Json] = rest.get("$defs", {})
    names = _names(components)
    made = {at: _tidy(_renamed(schema, names), components, names) for at, schema in found.items()}
    tidied = {
        names[name]: _component(_tidy(_renamed(schema, names), components, names))
        for name, schema in components.items()
    }
    used = set(_reached(made, tidied))
    return made, {name: tidied[name] for name in sorted(used)}


def _reached(schema: Any, components: Mapping[str, Json]) -> Iterator[str]:
    """The components that a schema needs, in the end."""
    found: set[str] = set()
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
            name = str(value.get("$ref", "")).removeprefix(PREFIX)
            if name in components and name not in found:
                found.add(name)
                waiting.append(components[name])
    yield from found


def _component(schema: Json) -> Json:
    schema.pop("title", None)
    if "description" in schema:
        # Python's word for it.
        schema["description"] = schema["description"].replace("`None`", "`null`")
    return schema


# ---------------------------------------------------------------------------------------- names


def _names(components: Mapping[str, Json]) -> dict[str, str]:
    """What each component is called: its class, with its API before it where two have one name.

    `edge__anthropic__request__Tool` is AnthropicTool, `edge__openai__chat_request__Tool` ChatTool.
    """
    names: dict[str, str] = {}
    for name in sorted(components, key=lambda name: (name.count("__"), name)):
        *modules, last = name.split("__")
        api = modules[1] if len(modules) > 1 else ""
        if api == "openai":
            # Messages of that API are a chat's; those of Anthropic's have their own package.
            api = "chat" if modules[-1] == "messages" else modules[-1].split("_")[0]
        short = api.capitalize() + last
        names[name] = name if short in names.values() else short
    return names


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    match schema:
        case {"$ref": str(ref), **rest}:
            return {**_renamed(rest, names), "$ref": PREFIX + names[ref.removeprefix(PREFIX)]}
        case {"discriminator": {"mapping": _}, **rest}:
            return _renamed(rest, names)
        case dict():
            return {key: _renamed(value, names) for key, value in schema.items()}
        case list():
            return [_renamed(value, names) for value in schema]
        case _:
            return schema


# --------------------------------------------------------------------------------------- unions


def _tidy(schema: Any, components: Mapping[str, Json], names: Mapping[str, str]) -> Any:
    """Nested unions are one; `oneOf` stands only where no value fits two members."""
    by_name = {names[name]: component for name, component in components.items()}

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        value = {key: walk(item) for key, item in value.items()}
        members = list(_members(value))
        if not members:
            return value
        rest = {key: item for key, item in value.items() if key not in ("oneOf", "anyOf")}
        key = "oneOf" if _exclusive(members, by_name) else "anyOf"
        out = {**rest, key: members}
        tag = _tag(members, by_name) if key == "oneOf" else ""
        if tag:
            out["discriminator"] = {
                "propertyName": tag,
                "mapping": {
                    word: member["$ref"]
                    for member in members
                    for word in _words(_resolved(member, by_name), tag)
                },
            }
        return out

    return walk(schema)


def _members(schema: Json) -> Iterator[Json]:
    for key in ("oneOf", "anyOf"):
        for member in schema.get(key, ()):
            plain = not (set(member) - {"oneOf", "anyOf", "discriminator"})
            nested = list(_members(member)) if plain else []
            yield from nested or (member,)


def _resolved(schema: Json, components: Mapping[str, Json]) -> Json:
    ref = schema.get("$ref")
    return schema if ref is None else components[ref.removeprefix(PREFIX)]


def _words(schema: Json, name: str) -> list[str]:
    """The strings that a required property may be, where they are listed."""
    if name not in schema.get("required", ()):
        return []
    told = schema["properties"][name]
    return [told["const"]] if "const" in told else list(told.get("enum", ()))


def _exclusive(members: Sequence[Json], components: Mapping[str, Json]) -> bool:
    """Whether every value fits one member at most: of another JSON type, or told by a property."""
    resolved = [_resolved(member, components) for member in members]
    objects = [schema for schema in resolved if schema.get("type") == "object"]
    types = [schema.get("type") for schema in resolved if schema.get("type") != "object"]
    if any(not isinstance(kind, str) for kind in types) or len(set(types)) < len(types):
        return False
    # An integer is a number, too.
    if {"integer", "number"} <= set(types):
        return False
    return len(objects) < 2 or any(
        _told_apart(objects, name) for name in objects[0].get("properties", ())
    )


def _told_apart(objects: Sequence[Json], name: str) -> bool:
    words = [_words(schema, name) for schema in objects]
    every = [word for some in words for word in some]
    return all(words) and len(set(every)) == len(every)


def _tag(members: Sequence[Json], components: Mapping[str, Json]) -> str:
    """The property that tells all members apart, for generators of clients; empty: none does."""
    if not all("$ref" in member for member in members):
        return ""
    resolved = [_resolved(member, components) for member in members]
    for name in resolved[0].get("properties", ()):
        if _told_apart(resolved, name):
            return str(name)
    return ""
