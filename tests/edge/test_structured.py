from __future__ import annotations

from typing import Any

import pytest

from edge.errors import ApiError
from edge.openai import chat_rules, chat_to_proto
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.running import chat_body
from tests.edge.test_chat_to_proto import to_proto
from tests.fakes.scripted import ALL_CAPABILITIES, model_info

SCHEMA = {"type": "object", "properties": {"z": {}, "a": {"const": 1}}}
TEXT = '{"type":"object","properties":{"z":{},"a":{"const":1}}}'
SPACED = '{ "type": "object" }'
GBNF = 'root ::= "a" |\n  "::="'
LARK = 'start: "a" | "::="'


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "json_object"}}, pb.Constraint(json_object=True)),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            pb.Constraint(json_schema=TEXT),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            pb.Constraint(json_object=True),
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
                }
            },
            pb.Constraint(json_schema=TEXT),
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": False, "schema": {}},
                }
            },
            pb.Constraint(json_schema="{}"),
        ),
        ({"guided_json": SCHEMA}, pb.Constraint(json_schema=TEXT)),
        ({"guided_json": SPACED}, pb.Constraint(json_schema=SPACED)),
        ({"guided_regex": "[ab]+"}, pb.Constraint(regex="[ab]+")),
        (
            {"guided_choice": ["yes", "no"]},
            pb.Constraint(choice=pb.ChoiceList(values=["yes", "no"])),
        ),
        ({"guided_grammar": GBNF}, pb.Constraint(gbnf=GBNF)),
        ({"guided_grammar": LARK}, pb.Constraint(lark=LARK)),
        ({"structured_outputs": {"json": SCHEMA}}, pb.Constraint(json_schema=TEXT)),
        ({"structured_outputs": {"json": SPACED}}, pb.Constraint(json_schema=SPACED)),
        ({"structured_outputs": {"regex": "a"}}, pb.Constraint(regex="a")),
        (
            {"structured_outputs": {"choice": ["a"], "regex": None, "unknown": 1}},
            pb.Constraint(choice=pb.ChoiceList(values=["a"])),
        ),
        ({"structured_outputs": {"grammar": GBNF}}, pb.Constraint(gbnf=GBNF)),
        ({"structured_outputs": {"json_object": True}}, pb.Constraint(json_object=True)),
        ({"grammar": GBNF}, pb.Constraint(gbnf=GBNF)),
        ({"json_schema": SCHEMA}, pb.Constraint(json_schema=TEXT)),
        # As the rest of a request may say that there is none.
        (
            {"response_format": {"type": "text"}, "guided_regex": "a", "guided_json": None},
            pb.Constraint(regex="a"),
        ),
        ({"grammar": "", "json_schema": {}}, pb.Constraint(json_schema="{}")),
    ],
)
def test_every_way_to_ask(fields: dict[str, Any], expected: pb.Constraint) -> None:
    assert to_proto(**fields).constraint == expected


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": None},
        {"response_format": {"type": "text"}},
        {"grammar": "", "guided_choice": None, "structured_outputs": None},
    ],
)
def test_nothing_asked_for(fields: dict[str, Any]) -> None:
    assert not to_proto(**fields).HasField("constraint")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"guided_json": "{"}, "guided_json", "invalid_value"),
        ({"guided_json": "[1]"}, "guided_json", "invalid_value"),
        ({"guided_json": 1}, "guided_json", "invalid_type"),
        ({"guided_regex": ["a"]}, "guided_regex", "invalid_type"),
        ({"guided_choice": "a"}, "guided_choice", "invalid_type"),
        ({"guided_choice": []}, "guided_choice", "empty_array"),
        ({"guided_choice": ["a", ""]}, "guided_choice[1]", "empty_string"),
        ({"guided_choice": ["a", "b" * 4097]}, "guided_choice[1]", "string_above_max_length"),
        ({"guided_choice": ["a"] * 1025}, "guided_choice", "array_above_max_length"),
        ({"guided_grammar": {}}, "guided_grammar", "invalid_type"),
        ({"structured_outputs": {}}, "structured_outputs", "invalid_value"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs", "invalid_value"),
        (
            {"structured_outputs": {"regex": "a", "json": {}}},
            "structured_outputs",
            "invalid_value",
        ),
        ({"structured_outputs": {"json": "x"}}, "structured_outputs.json", "invalid_value"),
        ({"json_schema": "x"}, "json_schema", "invalid_type"),
        (
            {"response_format": {"type": "json_object", "schema": []}},
            "response_format.schema",
            "invalid_type",
        ),
        (
            {"response_format": {"type": "json_object"}, "guided_regex": "a"},
            "guided_regex",
            "invalid_parameter_combination",
        ),
        (
            {"guided_choice": ["a"], "grammar": GBNF},
            "grammar",
            "invalid_parameter_combination",
        ),
    ],
)
def test_what_is_wrong_is_said_of_its_parameter(
    fields: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(ApiError) as error:
        to_proto(**fields)
    assert (error.value.status, error.value.param, error.value.code) == (400, param, code)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"guided_regex": "a"}, "guided_regex"),
        ({"guided_choice": ["a"]}, "guided_choice"),
        ({"guided_grammar": LARK}, "guided_grammar"),
    ],
)
def test_a_model_that_cannot(fields: dict[str, Any], param: str) -> None:
    rest = [one for one in ALL_CAPABILITIES if one != pb.CAPABILITY_CONSTRAINT]
    with pytest.raises(ApiError) as error:
        chat_to_proto.check_model(to_proto(**fields), model_info(capabilities=rest))
    assert (error.value.status, error.value.param) == (400, param)


def test_the_names_are_known_where_unknown_ones_are_refused() -> None:
    body = chat_body(guided_regex="a")
    assert chat_rules.read(body, strict=True).guided_regex == "a"
