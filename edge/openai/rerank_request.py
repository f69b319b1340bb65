"""The body of POST /v1/rerank, as Cohere and Jina have it, and as a question to a worker. Pure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, Tag

from edge.errors import Names, field_param, invalid
from edge.openai import invalid as say
from edge.openai.checks import validate, with_model
from edge.openai.fields import FIRST, Part, string_or
from edge.openai.sampling_fields import MAX_INT32
from protos.inference.v1 import inference_pb2 as pb

MAX_DOCUMENTS = 1024

Text = Annotated[str, Field(min_length=1)]


class TextDocument(Part):
    """A document with its text; what else it has comes back where documents are asked for."""

    beside = None

    text: Text


Document = Annotated[
    Annotated[Text, Tag("~string")] | Annotated[TextDocument, Tag("~object")],
    string_or(dict, "~object", "one of a string or object"),
]
Positive = Annotated[int, Field(ge=1, le=MAX_INT32)]


class RerankRequest(Part):
    """What is to be ranked. `None` is absent; the order of fields is that of checks."""

    model: str
    query: Text
    documents: Annotated[list[Document], FIRST, Field(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: Positive | None = None
    return_documents: bool | None = None
    rank_fields: Annotated[list[str], FIRST, Field(max_length=16)] | None = None

    # Accepted and without effect: a document is ranked as a whole.
    max_chunks_per_doc: Positive | None = None
    max_tokens_per_doc: Positive | None = None
    priority: int | None = None
    user: str | None = None


def read(
    body: dict[str, Any], default_model: str = "", strict: bool = False, of_path: str = ""
) -> RerankRequest:
    """The request of a parsed body: model → query, documents present → unknown keys → fields.

    Raises ApiError 400.
    """
    body = with_model(body, default_model, of_path)
    for name in ("query", "documents"):
        if body.get(name) is None:
            raise say.missing(name)
    request = validate(RerankRequest, body, strict)
    if request.rank_fields not in (None, ["text"]):
        raise invalid(
            "Unsupported value: 'rank_fields' can only be ['text'].",
            "rank_fields",
            "unsupported_value",
        )
    return request


def texts(request: RerankRequest) -> list[str]:
    """The documents' texts."""
    return [each if isinstance(each, str) else each.text for each in request.documents]


def names(first: int = 0) -> Names:
    """Names in errors of a question whose first document is the request's number `first`."""

    def field(path: str) -> str | None:
        if path.startswith("documents["):
            at, _, rest = path.removeprefix("documents[").partition("]")
            return f"documents[{int(at) + first}]{rest}"
        return path if path in ("query", "documents", "top_n") else field_param(path)

    return Names("documents", field)


def translate(request: RerankRequest, part: slice, documents: list[str]) -> pb.RerankRequest:
    """The question of some of the documents, without the model's identity."""
    out = pb.RerankRequest(query=request.query, documents=documents[part])
    if request.top_n is not None:
        out.top_n = request.top_n
    return out
