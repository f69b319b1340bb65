"""The body of POST /v1/embeddings as OpenAI defines it, and as a question to a worker. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from edge.errors import ApiError, Names, field_param, invalid
from edge.openai import invalid as say
from edge.openai.checks import validate, with_model
from edge.openai.fields import FIRST, Part, string_or
from edge.openai.sampling_fields import MAX_INT32
from protos.inference.v1 import inference_pb2 as pb

MAX_INPUTS = 2048
MAX_TOKENS = 2**20

Token = Annotated[int, Field(ge=0, le=MAX_INT32)]
Tokens = Annotated[list[Token], FIRST, Field(min_length=1, max_length=MAX_TOKENS)]
Text = Annotated[str, Field(min_length=1)]


def _kind(value: Any) -> str | None:
    """Chooses by the first of a list; one that is none of these fails as a text."""
    if isinstance(value, str):
        return "~string"
    if not isinstance(value, list):
        return None
    first = value[0] if value else None
    if isinstance(first, list):
        return "~arrays"
    return "~tokens" if isinstance(first, int) and not isinstance(first, bool) else "~strings"


Input = Annotated[
    Annotated[Text, Tag("~string")]
    | Annotated[
        Annotated[list[Text], FIRST, Field(min_length=1, max_length=MAX_INPUTS)], Tag("~strings")
    ]
    | Annotated[Tokens, Tag("~tokens")]
    | Annotated[
        Annotated[list[Tokens], FIRST, Field(min_length=1, max_length=MAX_INPUTS)], Tag("~arrays")
    ],
    Discriminator(
        _kind,
        custom_error_type="wanted",
        custom_error_message="one of a string, array of strings, array of integers, or array of "
        "arrays of integers",
    ),
]
Truncate = Annotated[
    Annotated[Literal["NONE", "END"], Tag("~string")] | Annotated[bool, Tag("~boolean")],
    string_or(bool, "~boolean", "one of a string or boolean"),
]


class EmbeddingRequest(Part):
    """What is to be embedded. `None` is absent; the order of fields is that of checks."""

    model: str
    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None

    # Accepted and without effect here.
    user: str | None = None

    # Beyond OpenAI: TEI's name, then vLLM's. -1 is as long as the model can.
    truncate: Truncate | None = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None


def read(
    body: dict[str, Any], default_model: str = "", strict: bool = False, of_path: str = ""
) -> EmbeddingRequest:
    """The request of a parsed body: model → input present → unknown keys → fields.

    Raises ApiError 400.
    """
    body = with_model(body, default_model, of_path)
    given = body.get("input")
    if given is None:
        raise say.missing("input")
    if given == "" or (isinstance(given, list) and "" in given):
        raise _empty(given)
    return validate(EmbeddingRequest, body, strict)


def translate(request: EmbeddingRequest, model: pb.ModelInfo) -> pb.EmbedRequest:
    """As the contract has it, without the model's identity. Raises ApiError 400."""
    out = pb.EmbedRequest(truncate=_truncate(request, model.context_length))
    if request.dimensions is not None:
        if model.embedding_dimensions and request.dimensions > model.embedding_dimensions:
            raise say.describe(
                "less_than_equal",
                "dimensions",
                {"le": model.embedding_dimensions},
                request.dimensions,
                {},
            )
        out.dimensions = request.dimensions
    for value in inputs(request):
        if isinstance(value, str):
            out.inputs.add(text=value)
        else:
            out.inputs.add().tokens.ids.extend(value)
    return out


def inputs(request: EmbeddingRequest) -> Sequence[str | Sequence[int]]:
    """Each input on its own."""
    given: Any = request.input
    alone = isinstance(given, str) or isinstance(given[0], int)
    return [given] if alone else given


def names(request: EmbeddingRequest, first: int = 0) -> Names:
    """Names in errors of a question whose first input is the request's number `first`."""
    several = not isinstance(request.input, str) and not isinstance(request.input[0], int)

    def field(path: str) -> str | None:
        if not path.startswith("inputs["):
            return "dimensions" if path == "dimensions" else field_param(path)
        at, _, rest = path.removeprefix("inputs[").partition("]")
        where = f"input[{int(at) + first}]" if several else "input"
        # `.tokens.ids[3]` is the fourth token.
        return where + rest.removeprefix(".tokens.ids").removeprefix(".text")

    return Names("input", field)


def _truncate(request: EmbeddingRequest, context_length: int) -> bool:
    tokens = request.truncate_prompt_tokens
    if tokens is None:
        return request.truncate in (True, "END")
    if tokens != -1 and (tokens < context_length or not context_length):
        raise invalid(
            "Unsupported value: 'truncate_prompt_tokens' can only be -1, or at least the model's "
            "context length.",
            "truncate_prompt_tokens",
            "unsupported_value",
        )
    return True


def _empty(given: str | list[Any]) -> ApiError:
    """An empty text, in OpenAI's words for this endpoint."""
    param = "input" if isinstance(given, str) else f"input[{given.index('')}]"
    return invalid("Invalid 'input': input cannot be an empty string.", param, "empty_string")
