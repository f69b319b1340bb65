from __future__ import annotations

import json
import random
import socket
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from services.worker.errors import InvalidField
from tests.llama.constrained import answer, compiled, schema, takes

SEEDS = st.integers(0, 2**32)
answers = settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
SCALARS: list[Any] = [
    None, True, False, 0, -3, 17, 2.5, 0.125, "", "red", 'a "b" \\ c', "é\n", 2**53, "/", "\u2028"
]  # fmt: skip
NAMES = ["a", "b", "long name", 'q"', "x/y~z", "\n", "é"]
PATTERNS = ["^[a-c]+$", "b", "^(x|yz){1,3}$", r"^\d{2}-\d{2}$", "[^a]$", ""]


def bounds(low: str, high: str, most: int) -> st.SearchStrategy[dict[str, int]]:
    pairs = st.tuples(st.integers(0, most), st.integers(0, most)).map(sorted)
    both = pairs.map(lambda pair: {low: pair[0], high: pair[1]})
    return st.just({}) | both | pairs.map(lambda p: {high: p[1]}) | pairs.map(lambda p: {low: p[0]})


NUMBERS = st.builds(
    lambda kind, low, width, form, multiple: {
        "type": kind,
        **[
            {},
            {"minimum": low},
            {"maximum": low},
            {"minimum": low, "maximum": low + width},
            {"exclusiveMinimum": low, "exclusiveMaximum": low + width + 1},
        ][form],
        **({"multipleOf": multiple} if multiple and kind == "integer" else {}),
    },
    st.sampled_from(["integer", "number"]),
    st.integers(-300, 300),
    st.integers(0, 500),
    st.integers(0, 4),
    st.sampled_from([0, 1, 7]),
)
STRINGS = st.builds(
    lambda limits, pattern: {"type": "string", **limits, **pattern},
    bounds("minLength", "maxLength", 8),
    st.just({}) | st.sampled_from(PATTERNS).map(lambda pattern: {"pattern": pattern}),
)
LITERALS = st.lists(
    st.sampled_from([*SCALARS, [1, [None]], {"k": "v", "é": [True]}]), min_size=1, max_size=4
).map(lambda values: {"enum": values})
LEAVES = (
    NUMBERS
    | STRINGS
    | LITERALS
    | st.sampled_from(SCALARS).map(lambda value: {"const": value})
    | st.sampled_from(
        [
            {},
            True,
            {"type": "boolean"},
            {"type": ["string", "null"]},
            {"type": ["integer", "array"], "minimum": 3, "minItems": 1},
            {"type": "string", "format": "date", "title": "when", "x-unknown": {}},
            {"$ref": "#/$defs/list"},
            {"$ref": "#/$defs/tree"},
            {"type": "array", "items": [{"type": "null"}], "additionalItems": False},
        ]
    )
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    made: dict[str, Any] = {"type": "object", "properties": {name: draw(inner) for name in names}}
    required = draw(st.lists(st.sampled_from([*names, "other"]), unique=True, max_size=3))
    if required:
        made["required"] = required
    match draw(st.integers(0, 4)):
        case 0:
            made["additionalProperties"] = False
        case 1:
            made["additionalProperties"] = draw(inner)
        case 2:
            made["patternProperties"] = {"^p_": draw(inner)}
            made["additionalProperties"] = False
        case 3:
            made["minProperties"] = 1
            made["maxProperties"] = draw(st.integers(1, 5))
    return made


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return (
        objects(inner)
        | st.builds(
            lambda items, first, limits: {"type": "array", "items": items, **first, **limits},
            inner,
            st.just({}) | several.map(lambda schemas: {"prefixItems": schemas}),
            bounds("minItems", "maxItems", 3),
        )
        | several.map(lambda schemas: {"anyOf": schemas})
        | several.map(lambda schemas: {"oneOf": schemas})
        | st.lists(inner, min_size=2, max_size=2).map(lambda schemas: {"allOf": schemas})
        | st.builds(
            lambda base, more: {"anyOf": more, **base} if isinstance(base, dict) else base,
            objects(inner),
            several,
        )
    )


DEFINITIONS = {
    "list": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
    "tree": {
        "type": "object",
        "properties": {"left": {"$ref": "#/$defs/tree"}, "n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    },
}
SCHEMAS = st.recursive(LEAVES, containers, max_leaves=6).map(
    lambda made: {**made, "$defs": DEFINITIONS} if isinstance(made, dict) else made
)


def check(made: Any, text: str) -> None:
    # Older drafts' `items`, as they are meant.
    plain = json.loads(
        json.dumps(made).replace(
            '"items": [{"type": "null"}], "additionalItems": false',
            '"prefixItems": [{"type": "null"}], "items": false',
        )
    )
    Draft202012Validator.check_schema(plain)
    Draft202012Validator(plain).validate(json.loads(text))


@answers
@given(SCHEMAS, SEEDS)
def test_an_answer_satisfies_its_schema(made, seed):
    try:
        grammar = compiled(schema(made))
    except InvalidField:
        # Contradictions, and `oneOf` whose parts overlap.
        assume(False)
    for number in range(3):
        text = answer(grammar, seed + number)
        if text is not None:
            check(made, text)


PERSON: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.org/person",
    "title": "Person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 150}, {"type": "null"}]},
        "email": {"type": "string", "format": "email"},
        "level": {"type": "number", "format": "double", "minimum": 0, "maximum": 1},
        "role": {"$ref": "#/$defs/Role"},
        "pet": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}},
                    "required": ["kind", "lives"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"kind": {"const": "dog"}, "tail": {"type": "boolean"}},
                    "required": ["kind"],
                    "additionalProperties": False,
                },
            ],
            "discriminator": {"propertyName": "kind"},
        },
        "friends": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2},
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["name", "age", "role", "pet"],
    "additionalProperties": False,
    "$defs": {"Role": {"enum": ["admin", "user"], "type": "string"}, "unused": {"not": {}}},
}


@settings(max_examples=15)
@given(SEEDS)
def test_a_schema_as_applications_have_it(seed):
    text = answer(compiled(schema(PERSON)), seed, soft=200, hard=2000)
    assert text is not None
    check(PERSON, text)
    # In the schema's order.
    found = list(json.loads(text))
    assert found == [name for name in PERSON["properties"] if name in found]


@pytest.mark.parametrize(
    ("made", "yes", "no"),
    [
        (True, ["1", "[[]]", '"x"'], ["", "x"]),
        ({}, ["null"], [" null"]),
        ({"type": "integer"}, ["-5", "0", "1000000000000000000"], ["1" * 20, "01", "1.0"]),
        ({"type": ["integer", "string"]}, ['"1"', "1"], ["9" * 30]),
        ({"type": "number"}, ["-1.5e3"], [".5"]),
        ({"type": "integer", "exclusiveMinimum": True, "minimum": 3}, ["4"], ["3"]),
        ({"type": "integer", "exclusiveMinimum": False, "minimum": 3}, ["3"], ["2"]),
        ({"type": "string", "minLength": 1.0, "maxLength": 2.0}, ['"é"', '"ab"'], ['""', '"abc"']),
        ({"type": "string", "maxLength": 2**53}, ['"abc"'], []),
        ({"type": "string", "format": "date"}, ['"2026-11-21"'], ['"tomorrow"']),
        ({"type": "string", "format": "int32"}, ['"x"'], []),
        ({"type": "string", "pattern": "^.$"}, ['"é"'], ['"éé"']),
        ({"items": [{"type": "null"}], "type": "array"}, ["[null, 1]"], ["[1]"]),
        ({"$ref": "#/definitions/a%20b~1c", "definitions": {"a b/c": {"const": 1}}}, ["1"], ["2"]),
        ({"$ref": "#/x/0", "x": [{"const": 1}]}, ["1"], ["2"]),
        (
            # A name that is in `properties` cannot come in disguise, nor twice.
            {"type": "object", "properties": {"a": {"type": "integer"}}},
            ['{"a": 1, "b": "x"}', '{"b": "x"}'],
            ['{"\\u0061": "x"}', '{"b": 1, "a": "x"}', '{"a": 1, "a": 2}'],
        ),
        ({"uniqueItems": False, "if": {"type": "null"}, "not": False}, ["1"], []),
        ({"type": "string", "x-guidance": {"lenient": True}}, ['"a"'], ["1"]),
        # What has no finite value is left out, not followed.
        (
            {
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/endless"}, "b": {"type": "null"}},
                "$defs": {
                    "endless": {
                        "type": "object",
                        "properties": {"e": {"$ref": "#/$defs/endless"}},
                        "required": ["e"],
                    }
                },
            },
            ["{}", '{"b": null}'],
            ['{"a": {"e": {}}}'],
        ),
    ],
)
def test_what_a_schema_lets_through(made: Any, yes: list[str], no: list[str]):
    assert [text for text in yes if not takes(schema(made), text)] == []
    assert [text for text in no if takes(schema(made), text)] == []


def nested(levels: int) -> Any:
    made: Any = {"type": "string"}
    for _ in range(levels):
        made = {"type": "array", "items": made}
    return made


def chain(length: int) -> Any:
    definitions = {
        f"d{at}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{at + 1}"}}}
        for at in range(length)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{length}": {"type": "null"}}}


LINK = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}

REFUSED: list[tuple[Any, str]] = [
    (False, "the schema"),
    ({"not": {"type": "string"}}, "/not"),
    ({"if": {}, "then": {}}, "/if"),
    ({"properties": {"a/b": {"items": {"uniqueItems": True}}}}, "/properties/a~1b/items/uniqueItems"),
    ({"anyOf": [{}, {"contains": {}}]}, "/anyOf/1/contains"),
    ({"propertyNames": {"pattern": "a"}}, "/propertyNames"),
    ({"dependentRequired": {"a": ["b"]}}, "/dependentRequired"),
    ({"unevaluatedProperties": False}, "/unevaluatedProperties"),
    ({"$dynamicRef": "#x"}, "/$dynamicRef"),
    ({"$ref": "https://example.org/schema.json"}, "/$ref"),
    ({"$ref": "file:///etc/passwd"}, "/$ref"),
    ({"$ref": "other.json#/a"}, "/$ref"),
    ({"$ref": "#anchor"}, "/$ref"),
    ({"$ref": "#/nowhere"}, "/$ref"),
    ({"$ref": 1}, "/$ref"),
    ({"items": {"$id": "https://example.org"}}, "/items/$id"),
    ({"$ref": "#"}, "finite"),
    (LINK, "finite"),
    ({"$ref": "#/a", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}, "finite"),
    ({"allOf": [{"$ref": "#"}]}, "finite"),
    ({"type": "array", "minItems": 1, "items": {"$ref": "#"}}, "finite"),
    ({"type": "strnig"}, "/type"),
    ({"type": []}, "/type"),
    ({"type": 1}, "/type"),
    ({"enum": []}, "/enum"),
    ({"enum": "a"}, "/enum"),
    ({"enum": [1, {"a": ["\u0000"]}]}, "/enum/1/a/0"),
    ({"const": "\x7f"}, "/const"),
    ({"const": 2**60}, "/const"),
    ({"const": 10**40}, "/const"),
    ({"type": "integer", "minimum": 2**60}, "/minimum"),
    ({"minimum": "1"}, "/minimum"),
    ({"multipleOf": 0}, "/multipleOf"),
    ({"minLength": -1}, "/minLength"),
    ({"minLength": 1.5}, "/minLength"),
    ({"type": "string", "minLength": 10**6}, "/minLength"),
    ({"type": "string", "minLength": 1001, "pattern": "^é+$"}, "/minLength"),
    ({"type": "array", "minItems": 10**6}, "/minItems"),
    ({"pattern": "(a{1000}){1000}"}, "/pattern"),
    ({"pattern": 1}, "/pattern"),
    ({"patternProperties": {"(" * 1000: {}}}, "/patternProperties/((("),
    ({"format": 1}, "/format"),
    ({"required": "a"}, "/required"),
    ({"properties": []}, "/properties"),
    ({"properties": {"a": 1}}, "/properties/a"),
    ({"properties": {f"p{n}": True for n in range(1001)}}, "/properties"),
    ({"anyOf": []}, "/anyOf"),
    ({"anyOf": [True] * 257}, "/anyOf"),
    ({"prefixItems": {}}, "/prefixItems"),
    ({"prefixItems": [True], "items": [True]}, "/items"),
    # Names may come twice, and are then one.
    ({"type": "object", "minProperties": 2}, "/minProperties"),
    ({"anyOf": [{"properties": {f"p{n}": True for n in range(900)}}] * 5}, "subschemas"),
    (chain(300), "/$defs/d"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "place"), REFUSED)
def test_what_is_not_enforced_is_refused_with_its_place(made: Any, place: str):
    started = time.process_time()
    with pytest.raises(InvalidField) as error:
        compiled(schema(made))
    assert time.process_time() - started < 1
    assert error.value.metadata == {"field": "constraint.json_schema"}
    assert place in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "made",
    [
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"type": "string", "pattern": "^a$", "minLength": 2},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        {"type": "string", "pattern": "(?=a)"},
        {"type": "string", "pattern": "["},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
    ],
)
def test_contradictions_are_refused(made: Any):
    with pytest.raises(InvalidField) as error:
        compiled(schema(made))
    assert error.value.metadata == {"field": "constraint.json_schema"}


def test_large_schemas_are_compiled():
    many = {f"property {number}": {"type": "string"} for number in range(1000)}
    for extra in ({}, {"required": list(many)}, {"additionalProperties": False}):
        started = time.process_time()
        assert takes(schema({"type": "object", "properties": many, **extra}), "{}") == (
            "required" not in extra
        )
        assert time.process_time() - started < 3
    assert takes(schema({"enum": [f"value {number}" for number in range(4096)]}), '"value 4095"')
    assert takes(schema(nested(15)), "[" * 15 + "]" * 15)
    assert takes(schema(chain(100)), '{"a": {"a": {}}}')


def test_half_a_grammar_of_a_hundred_properties_is_followed():
    made = {"type": "object", "properties": {f"p{n}": {"type": "null"} for n in range(100)}}
    chance = random.Random(1)
    chosen = sorted(chance.sample(range(100), 50))
    assert takes(schema(made), json.dumps({f"p{n}": None for n in chosen}))
    assert not takes(schema({**made, "additionalProperties": False}), '{"p2": null, "p1": null}')


def test_nothing_is_fetched(monkeypatch):
    def refuse(*_: Any, **__: Any):
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    for reference in ("https://json-schema.org/draft/2020-12/schema", "http://127.0.0.1:1/x#/a"):
        with pytest.raises(InvalidField):
            compiled(schema({"properties": {"a": {"$ref": reference}}}))
    made = {"$schema": "http://127.0.0.1:1/", "$id": "http://127.0.0.1:1/x", "type": "null"}
    assert takes(schema(made), "null")
