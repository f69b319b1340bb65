"""The description at /openapi.json, and its page: whole, valid, and true of what is validated."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import TypeAdapter, ValidationError

from edge.errors import ApiError
from edge.openai import jsonbody
from edge.openai.chat_request import ChatRequest
from edge.openapi import describe, page
from edge.openapi.describe import EVENTS
from edge.openapi.facts import Facts
from edge.openapi.operations import OPERATIONS
from edge.routes import mounted
from tests.edge.bodies import seeds
from tests.edge.hostile import hostile
from tests.edge.running import RunningEdge, raw


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return describe.describe(mounted(), OPERATIONS, Facts("1"))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, told in item.items():
            yield method.upper(), path, told


def test_no_route_is_left_out() -> None:
    missing = {
        f"{each.route.method} {each.name}"
        for each in mounted()
        if each.route.handler not in OPERATIONS
    }
    assert not missing, f"say what they do in edge/openapi/operations.py: {sorted(missing)}"
    shapes = {each.route.shape for each in mounted()}
    assert shapes <= set(describe.ERRORS), "say how their errors look in edge/openapi/describe.py"


def test_nothing_is_described_that_is_not_there() -> None:
    assert set(OPERATIONS) == {each.route.handler for each in mounted()}


def test_it_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()
    ids = [told["operationId"] for _, _, told in operations(document)]
    assert len(ids) == len(set(ids))
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_nothing_of_how_it_is_made_shows(document: dict[str, Any]) -> None:
    text = str(document)
    assert "'~" not in text  # tags of unions
    names = document["components"]["schemas"]
    assert all(re.fullmatch(r"[A-Za-z0-9]+(-(Input|Output))?", name) for name in names), names
    # Members of unions that only say in errors what there is.
    assert not {name for name in names if name.startswith("Other")}, names


def accepts(document: dict[str, Any], name: str, value: Any) -> bool:
    whole = {**document, "$ref": f"#/components/schemas/{name}"}
    return bool(Draft202012Validator(whole).is_valid(value))


CHAT: list[dict[str, Any]] = [
    {},
    {"stop": "x"},
    {"stop": ["x", "y"]},
    {"stop": None, "temperature": None, "tools": None},
    {"temperature": 1},
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
    {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
    {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    {
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "f"}}]},
        }
    },
    {"messages": [{"role": "developer", "content": [{"type": "text", "text": "x"}]}]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
    {"messages": [{"role": "function", "content": None, "name": "f"}]},
    {"unknown": {"keys": "are ignored"}},
    # Refused by both.
    {"stop": 1},
    {"stop": [""]},
    {"temperature": "1"},
    {"temperature": 2.5},
    {"n": 0},
    {"n": 1.5},
    {"n": True},
    {"messages": []},
    {"messages": "x"},
    {"messages": [{"role": "robot", "content": "x"}]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": []}]},
    {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}]},
    {"response_format": {"type": "xml"}},
    {"response_format": {"type": "json_schema"}},
    {"tool_choice": "never"},
    {"tool_choice": {"type": "function"}},
    {"tools": [{"type": "function", "function": {"name": "a b"}}]},
    {"logit_bias": {"1": 101}},
    {"metadata": {"a": 1}},
]


@pytest.mark.parametrize("fields", CHAT, ids=str)
def test_the_schema_takes_what_validation_takes(
    document: dict[str, Any], fields: dict[str, Any]
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    try:
        ChatRequest.model_validate(body)
    except ValueError:
        valid = False
    else:
        valid = True
    assert accepts(document, "ChatRequest", body) == valid


def whole_floats(value: Any) -> bool:
    """Whether there is a `1.0`, which a schema takes for an integer and validation does not."""
    if isinstance(value, dict):
        return any(map(whole_floats, value.values()))
    if isinstance(value, list):
        return any(map(whole_floats, value))
    return isinstance(value, float) and value.is_integer()


def may_be_reference(body: Any) -> bool:
    """Whether an item of a response's input has an id: to the schema it may always be a reference.

    Validation takes one with a role for a message, which a schema could say at length only.
    """
    given = body.get("input")
    return isinstance(given, list) and any(isinstance(one, dict) and "id" in one for one in given)


@pytest.mark.parametrize("path", sorted(seeds()))
def test_schemas_and_models_agree(document: dict[str, Any], path: str) -> None:
    """About valid bodies, and about those that are drawn from them and are JSON at all."""
    told = next(OPERATIONS[e.route.handler] for e in mounted() if e.name == path)
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    schema = Draft202012Validator({**document, **content["schema"]})
    model: TypeAdapter[Any] = TypeAdapter(told.request)
    bodies = [json.dumps(body).encode() for body in seeds()[path]]
    drawn = hostile({path: seeds()[path]}, 400, seed=9)
    bodies += [one.body for one in drawn if len(one.body) < 20_000]
    judged = Counter[bool]()
    for data in bodies:
        try:
            body = jsonbody.parse(data)
        except ApiError:
            continue
        if whole_floats(body):
            continue
        try:
            model.validate_python(body)
        except ValidationError:
            valid = False
        else:
            valid = True
        judged[valid] += 1
        if schema.is_valid(body) != valid:
            assert not valid, data
            assert may_be_reference(body), data
    assert judged[True] > 30
    assert judged[False] > 30


def test_settings_show() -> None:
    plain, other = (
        describe.describe(mounted(), OPERATIONS, facts)
        for facts in (Facts("1"), Facts("1", default_model=True, strict=True, keys=True))
    )
    body = {"messages": [{"role": "user", "content": "hi"}]}
    assert not accepts(plain, "ChatRequest", body)
    assert accepts(other, "ChatRequest", body)
    assert accepts(other, "ChatRequest", {**body, "model": None})
    assert not accepts(other, "ChatRequest", {**body, "unknown": 1})
    assert {} in plain["security"]
    assert {} not in other["security"]
    assert "401" in other["paths"]["/v1/chat/completions"]["post"]["responses"]


async def test_served(edge: RunningEdge, document: dict[str, Any]) -> None:
    status, served = await edge.get("/openapi.json")
    assert status == 200
    assert served["paths"] == document["paths"]
    async with edge.http.get(edge.url + "/docs") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        text = await answer.text()
    assert page.STYLE in text
    # Examples ask whom the reader asked.
    assert f"curl {edge.url}/v1/chat/completions" in text
    assert page.ROOT not in text
    head = b"GET /docs HTTP/1.0\r\nHost: <script>\r\n\r\n"
    assert b"<script>" not in await raw(edge, head)


EXAMPLES = [
    (each.route.method, each.name, OPERATIONS[each.route.handler])
    for each in describe.routes(mounted()).values()
    if OPERATIONS[each.route.handler].example is not None
]


@pytest.mark.parametrize(("method", "path", "told"), EXAMPLES, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("stream", [False, True])
async def test_examples_are_answered_as_described(
    edge: RunningEdge, method: str, path: str, told: Any, stream: bool
) -> None:
    if stream and told.events is None:
        pytest.skip("not streamed")
    body = {**told.example, "model": "scripted"}
    if stream:
        body["stream"] = True
    async with edge.http.request(method, edge.url + path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["x-request-id"]
        text = await answer.text()
    if not stream:
        TypeAdapter(told.response).validate_json(text, strict=True, extra="forbid")
        return
    assert answer.content_type == EVENTS
    for line in text.splitlines():
        if line.startswith("data: {"):
            data = line.removeprefix("data: ")
            TypeAdapter(told.events).validate_json(data, strict=True, extra="forbid")


class Links(HTMLParser):
    """What a page loads or leads to, what may be led to, and tags that are open."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in {"href", "src"}:
                self.targets.add(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_and_leads_where_it_says(document: dict[str, Any]) -> None:
    text = page.page(document)
    found = Links(text)
    assert not found.open
    assert not found.tags & {"script", "link", "img", "iframe"}
    assert found.targets - {"/openapi.json"} == {
        target for target in found.targets if target.startswith("#")
    }
    assert len(found.ids) == len(set(found.ids))
    assert {target[1:] for target in found.targets if target.startswith("#")} <= set(found.ids)
    for method, path, told in operations(document):
        assert f"{method}</span> <code>{path}" in text
        assert told["operationId"] in found.ids
    for name in document["components"]["schemas"]:
        assert f'id="type-{name}"' in text


def test_examples_have_a_key_where_one_is_needed() -> None:
    keyed = describe.describe(mounted(), OPERATIONS, Facts("1", keys=True))
    assert "authorization: Bearer YOUR_KEY" in page.page(keyed)
    assert "YOUR_KEY" not in page.page(describe.describe(mounted(), OPERATIONS, Facts("1")))


def test_the_page_says_text_as_text() -> None:
    document = describe.describe(mounted(), OPERATIONS, Facts("<b>1"))
    assert "<b>" not in page.page(document)
