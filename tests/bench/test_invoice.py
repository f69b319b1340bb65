import json

import pytest
from jsonschema import Draft202012Validator

from bench.invoice import RESPONSE_FORMAT, SCHEMA, is_valid
from tests.bench.server import INVOICE


def test_the_schema_is_strict_and_a_schema():
    Draft202012Validator.check_schema(SCHEMA)
    assert RESPONSE_FORMAT["type"] == "json_schema"

    def objects(schema):
        if schema.get("type") == "object":
            yield schema
        for inner in schema.get("properties", {}).values():
            yield from objects(inner)
        if "items" in schema:
            yield from objects(schema["items"])

    found = list(objects(SCHEMA))
    assert len(found) == 3
    for schema in found:
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False


def test_everything_is_bounded_so_that_any_model_ends():
    def bounded(schema):
        match schema["type"]:
            case "object":
                return all(map(bounded, schema["properties"].values()))
            case "array":
                return "maxItems" in schema and bounded(schema["items"])
            case "string":
                return "enum" in schema or schema["pattern"].endswith("}$")
            case "integer":
                return "maximum" in schema and "minimum" in schema
            case kind:
                return kind == "boolean"

    assert bounded(SCHEMA)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", INVOICE[:-1], INVOICE + "}", '"a"'])
def test_what_is_no_invoice(text):
    assert not is_valid(text)


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("paid", False, True),
        ("paid", 1, False),
        ("total", 10_000, False),
        ("currency", "CHF", False),
        ("items", [], False),
        ("more", 1, False),
        ("customer", {"name": "Anna Bo", "country": "FR"}, True),
        ("customer", {"name": "x" * 17, "country": "FR"}, False),
        ("customer", {"name": "Zoë", "country": "FR"}, False),
    ],
)
def test_it_judges_by_the_schema(key, value, valid):
    assert is_valid(INVOICE)
    assert is_valid(json.dumps(json.loads(INVOICE) | {key: value})) == valid
