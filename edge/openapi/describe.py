"""The description of the HTTP API as OpenAPI 3.1. Pure: routes and operations in, a document out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http.client import responses
from typing import Any, Final

from edge.anthropic import errors as anthropic
from edge.anthropic.schemas import ErrorAnswer
from edge.errors import ApiError, Shape
from edge.openai.schemas.common import Error
from edge.openapi import schema
from edge.openapi.facts import Facts
from edge.openapi.operation import JSON, Operation
from edge.routes import Handler, Mounted, Route

Json = dict[str, Any]
EVENTS: Final = "text/event-stream"

# How each API writes its errors (see Route.shape), as a type.
ERRORS: Final[dict[Shape, Any]] = {ApiError.body: Error, anthropic.body: ErrorAnswer}

# Besides 200, of whatever has a body; 400 is what the body says, 404 the model.
_OF_BODIES: Final = (400, 404, 408, 413, 415, 417, 503, 504)
_RETRY: Final = frozenset({429, 503})

_WHY: Final[dict[int, str]] = {
    400: "The request is at fault: `param` says where, `code` how.",
    401: "No key, or a wrong one.",
    404: "No such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is packed in a way that is not understood: gzip and deflate are.",
    417: "Only `100-continue` can be expected.",
    429: "A limit of the caller's own was reached.",
    500: "An error of the server; the log has it under the request's id.",
    503: "Overloaded, or no worker can answer now. Worth another try later.",
    504: "Not done in the time that a request has.",
}

_HEADERS: Final[Json] = {
    "x-request-id": {
        "description": "The request's id: the caller's where it sent one, else a new one.",
        "schema": {"type": "string"},
    },
    "openai-processing-ms": {
        "description": "Milliseconds until the head of the answer was sent.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "openai-version": {
        "description": "Of OpenAI's API.",
        "schema": {"type": "string"},
    },
    "openai-model": {
        "description": "The model that was asked, if one was found.",
        "schema": {"type": "string"},
    },
    "request-id": {
        "description": "The request's id, by Anthropic's name.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "That a key is sent as a bearer token.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before another try.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "retry-after-ms": {
        "description": "The same in milliseconds.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
}

_REQUEST_ID: Final[Json] = {
    "name": "x-request-id",
    "in": "header",
    "description": "An id of the caller's choice: 1 to 128 visible ASCII characters. It is in the "
    "answer's head and in the logs.",
    "schema": {"type": "string"},
}

_SECURITY: Final[Json] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send it."},
    "api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "api-key",
        "description": "As Azure's clients send it.",
    },
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "As Anthropic's clients send it.",
    },
}


def routes(mounted: Iterable[Mounted]) -> dict[tuple[str, str], Mounted]:
    """By method and name, the first path of each: aliases are the same operation."""
    found: dict[tuple[str, str], Mounted] = {}
    for each in mounted:
        found.setdefault((each.route.method, each.name), each)
    return found


def describe(
    mounted: Iterable[Mounted], operations: Mapping[Handler, Operation], facts: Facts
) -> Json:
    """The whole document. A route whose handler has no operation is left out."""
    described = {
        at: (each.route, operations[each.route.handler])
        for at, each in routes(mounted).items()
        if each.route.handler in operations
    }
    # In the order in which operations are told, and not in that of their paths.
    order = {handler: at for at, handler in enumerate(operations)}
    described = dict(sorted(described.items(), key=lambda each: order[each[1][0].handler]))
    told = [operation for _, operation in described.values()]
    kinds, components = schema.schemas(list(_kinds(told)))
    paths: Json = {}
    for (method, path), (route, operation) in described.items():
        writer = _Writer(facts, kinds, route)
        paths.setdefault(path, {})[method.lower()] = writer.operation(path, operation)
    if facts.default_model or facts.strict:
        for operation in told:
            _adapt(components, kinds, operation, facts)
    security: list[dict[str, list[str]]] = [{name: []} for name in _SECURITY]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Caravan",
            "version": facts.version,
            "summary": "An OpenAI-compatible server of llama.cpp models.",
            "description": "Every path is also there with a slash behind it, and where it is a "
            "`GET`, as `HEAD`. Unknown keys of a body are "
            + ("refused." if facts.strict else "ignored."),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": security if facts.keys else [{}, *security],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in told)],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": _HEADERS,
            "parameters": {"RequestId": _REQUEST_ID},
            "securitySchemes": _SECURITY,
        },
    }


def _key(kind: Any) -> str:
    # Not all types hash, and what is annotated passes for what it annotates.
    return repr(kind)


def _kinds(operations: Iterable[Operation]) -> Iterator[tuple[str, Any, Any]]:
    """Every type once, requests as what is validated, answers as what is written."""
    seen: set[tuple[str, str]] = set()
    for operation in operations:
        wanted = [("validation", operation.request)]
        wanted += [("validation", parameter.kind) for parameter in operation.parameters]
        wanted += [("serialization", kind) for kind in (operation.response, operation.events)]
        wanted += [("serialization", kind) for _, kind in operation.also]
        wanted += [("serialization", kind) for kind in ERRORS.values()]
        for mode, kind in wanted:
            if kind is not None and (mode, _key(kind)) not in seen:
                seen.add((mode, _key(kind)))
                yield _key(kind), mode, kind


def _adapt(components: Json, kinds: Mapping[Any, Json], operation: Operation, facts: Facts) -> None:
    """What this edge takes at the top of a body, where that differs from the model's."""
    if operation.request is None:
        return
    asked = kinds[_key(operation.request), "validation"]
    for one in [asked, *asked.get("oneOf", ()), *asked.get("anyOf", ())]:
        body = components.get(one.get("$ref", "").removeprefix(schema.PREFIX), {})
        if body and facts.strict:
            body["additionalProperties"] = False
        if facts.default_model and "model" in body.get("required", ()):
            body["required"].remove("model")
            body["properties"]["model"] = {"type": ["string", "null"]}


class _Writer:
    """Writes one operation object."""

    def __init__(self, facts: Facts, kinds: Mapping[Any, Json], route: Route) -> None:
        self._facts = facts
        self._kinds = kinds
        self._route = route

    def operation(self, path: str, told: Operation) -> Json:
        """The object; `path` is without patterns."""
        out: Json = {
            "operationId": _id(self._route.method, path),
            "tags": [told.tag],
            "summary": told.summary,
        }
        if told.description:
            out["description"] = told.description
        if self._route.open:
            out["security"] = [{}]
        out["parameters"] = [{"$ref": "#/components/parameters/RequestId"}]
        for parameter in told.parameters:
            out["parameters"].append(
                {
                    "name": parameter.name,
                    "in": parameter.where,
                    "required": parameter.required or parameter.where == "path",
                    "description": parameter.description,
                    "schema": self._schema(parameter.kind, "validation"),
                }
            )
        if told.request is not None:
            body: Json = {"schema": self._schema(told.request, "validation")}
            if told.example is not None:
                body["example"] = told.example
            out["requestBody"] = {"required": True, "content": {JSON: body}}
        out["responses"] = dict(self._responses(told))
        return out

    def _responses(self, told: Operation) -> Iterator[tuple[str, Json]]:
        if told.response is not None or told.events is not None:
            yield "200", self._answer(told)
        errors: dict[int, Any] = dict.fromkeys((500, *self._errors(told))) | dict(told.also)
        # As this API has them: statuses are not the same for all.
        own = {self._route.status(ApiError(status, "")): status for status in errors}
        for status in sorted(own):
            yield str(status), self._error(status, own[status], errors[own[status]])

    def _errors(self, told: Operation) -> Iterator[int]:
        if told.request is not None:
            yield from _OF_BODIES
        if self._facts.keys and not self._route.open:
            yield 401

    def _answer(self, told: Operation) -> Json:
        content: Json = {}
        if told.response is not None:
            content[told.media] = {"schema": self._schema(told.response, "serialization")}
        if told.events is not None:
            content[EVENTS] = {
                "schema": {
                    "type": "string",
                    "description": told.done,
                    "contentMediaType": EVENTS,
                    "contentSchema": {
                        "type": "array",
                        "items": self._schema(told.events, "serialization"),
                    },
                }
            }
        return {"description": "The answer.", "headers": self._headers(), "content": content}

    def _error(self, status: int, meant: int, kind: Any) -> Json:
        """`meant` is what the status would be in OpenAI's API; `kind` is None for an error's body."""
        body = self._schema(kind or ERRORS[self._route.shape], "serialization")
        return {
            "description": _WHY.get(meant) or f"{_phrase(status)}.",
            "headers": self._headers(meant if kind is None else 0),
            "content": {JSON: {"schema": body}},
        }

    def _headers(self, error: int = 0) -> Json:
        names = ["x-request-id", "openai-processing-ms", "openai-version", "openai-model"]
        if self._route.shape is anthropic.body:
            names.append(anthropic.REQUEST_ID_HEADER)
        if error == 401:
            names.append("WWW-Authenticate")
        if error in _RETRY:
            names += ["Retry-After", "retry-after-ms"]
        return {name: {"$ref": f"#/components/headers/{name}"} for name in names}

    def _schema(self, kind: Any, mode: str) -> Json:
        return self._kinds[_key(kind), mode]


def _phrase(status: int) -> str:
    # 529 is Anthropic's own.
    return responses.get(status, "Overloaded")


def _id(method: str, path: str) -> str:
    """`post_chat_completions`: unique, and a name in most languages."""
    words = re.findall(r"[a-z0-9]+", path.lower().removeprefix("/v1"))
    return "_".join([method.lower(), *words])
