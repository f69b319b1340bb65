"""What the answer must look like, in all the ways clients ask for it, as the contract's. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson

from edge.errors import ApiError, invalid
from edge.openai.fields import Object
from edge.openai.structure_fields import (
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    Structured,
    StructuredOutputs,
)
from protos.inference.v1 import inference_pb2 as pb

# vLLM takes both kinds of grammar under one name: a rule is defined by `::=` or by `:`.
_GBNF = re.compile(r"^[ \t]*[A-Za-z0-9_-]+[ \t]*::=", re.MULTILINE)


def constraint(request: Structured) -> pb.Constraint | None:
    """The constraint of a request; None: free text. Raises ApiError 400, also for several."""
    asked = list(_asked(request))
    if not asked:
        return None
    if len(asked) > 1:
        raise invalid(
            f"Setting '{asked[0][0]}' and '{asked[1][0]}' at the same time is not supported.",
            asked[1][0],
            "invalid_parameter_combination",
        )
    return asked[0][1]


def _asked(request: Structured) -> Iterator[tuple[str, pb.Constraint]]:
    """Parameters that ask for structure, each with what it asks for."""
    match request.response_format:
        case (
            JsonObjectFormat(schema_=schema)
            | JsonSchemaFormat(json_schema=JsonSchema(schema_=schema))
        ):
            yield "response_format", _object(schema)
    if request.guided_json is not None:
        yield "guided_json", _schema(request.guided_json, "guided_json")
    if request.guided_regex is not None:
        yield "guided_regex", pb.Constraint(regex=request.guided_regex)
    if request.guided_choice is not None:
        yield "guided_choice", _choice(request.guided_choice)
    if request.guided_grammar is not None:
        yield "guided_grammar", _grammar(request.guided_grammar)
    if request.structured_outputs is not None:
        yield "structured_outputs", _structured(request.structured_outputs)
    if request.grammar:  # some clients send an empty one always
        yield "grammar", pb.Constraint(gbnf=request.grammar)
    if request.json_schema is not None:
        yield "json_schema", _schema(request.json_schema, "json_schema")


def _structured(asked: StructuredOutputs) -> pb.Constraint:
    found: list[pb.Constraint] = []
    if asked.json_ is not None:
        found.append(_schema(asked.json_, "structured_outputs.json"))
    if asked.regex is not None:
        found.append(pb.Constraint(regex=asked.regex))
    if asked.choice is not None:
        found.append(_choice(asked.choice))
    if asked.grammar is not None:
        found.append(_grammar(asked.grammar))
    if asked.json_object:
        found.append(pb.Constraint(json_object=True))
    if len(found) != 1:
        raise _wrong(
            "structured_outputs", "exactly one of json, regex, choice, grammar and json_object"
        )
    return found[0]


def _object(schema: Object | None) -> pb.Constraint:
    if schema is None:
        return pb.Constraint(json_object=True)
    return pb.Constraint(json_schema=orjson.dumps(schema).decode())


def _schema(schema: Object | str, param: str) -> pb.Constraint:
    if isinstance(schema, str):
        try:
            # As it was written, if it is one: the order of keys counts.
            if isinstance(orjson.loads(schema), dict):
                return pb.Constraint(json_schema=schema)
        except orjson.JSONDecodeError:
            pass
        raise _wrong(param, "a JSON schema, as an object or as its JSON text")
    return pb.Constraint(json_schema=orjson.dumps(schema).decode())


def _choice(values: list[str]) -> pb.Constraint:
    return pb.Constraint(choice=pb.ChoiceList(values=values))


def _grammar(text: str) -> pb.Constraint:
    return pb.Constraint(gbnf=text) if _GBNF.search(text) else pb.Constraint(lark=text)


def _wrong(param: str, wanted: str) -> ApiError:
    return invalid(f"Invalid value for '{param}': expected {wanted}.", param, "invalid_value")
