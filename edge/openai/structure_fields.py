"""All the ways in which clients say what the answer must look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from edge.openai.fields import FIRST, Name, Object, Part, string_or, tagged


class TextFormat(Part):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(Part):
    """Any JSON object; beyond OpenAI, as llama.cpp's server has it, one that satisfies a schema."""

    type: Literal["json_object"]
    schema_: Annotated[Object | None, Field(alias="schema")] = None


class JsonSchema(Part):
    """A schema with its name; without `schema` any JSON object will do."""

    name: Name
    description: str | None = None
    schema_: Annotated[Object | None, Field(alias="schema")] = None
    strict: bool | None = None


class JsonSchemaFormat(Part):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class OtherFormat(Part):
    """Exists to fail with the formats that there are."""

    type: Literal["json_object", "json_schema", "text"]


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("~text")]
    | Annotated[JsonObjectFormat, Tag("~json_object")]
    | Annotated[JsonSchemaFormat, Tag("~json_schema")]
    | Annotated[OtherFormat, Tag("~other")],
    tagged("type", frozenset({"text", "json_object", "json_schema"})),
]

# Beyond OpenAI: what vLLM calls guided decoding, and later structured outputs.
Choices = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=4096)]],
    FIRST,
    Field(min_length=1, max_length=1024),
]
SchemaOrText = Annotated[
    Annotated[str, Tag("~string")] | Annotated[Object, Tag("~object")],
    string_or(dict, "~object", "one of a string or object"),
]


class StructuredOutputs(Part):
    """Exactly one of these; a schema may be its JSON text."""

    json_: Annotated[SchemaOrText | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None


class Structured(Part):
    """At most one of them may ask for something."""

    response_format: ResponseFormat | None = None

    # Beyond OpenAI: vLLM's names, then those of llama.cpp's server.
    guided_json: SchemaOrText | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None
    grammar: str | None = None
    json_schema: Object | None = None
