"""Requests drawn from the description, sent to a running edge: every answer is as it is described.

Over a scripted worker; by `make fuzz` more of them, and over llama.cpp with the demo models.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from edge.openapi.describe import describe
from edge.openapi.facts import Facts
from edge.openapi.operations import OPERATIONS
from edge.routes import mounted
from tests.e2e.stack import MODEL_NAME, running_stack
from tests.edge.apart import EdgeApart, edge_apart
from tests.edge.bodies import MODEL
from tests.fakes.process import worker_process

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# What asks for more than a few tokens of a model that really computes them.
LENGTHS = {"max_tokens", "max_completion_tokens", "max_output_tokens"}
UNBOUNDED = {"ignore_eos", "min_tokens", "n", "best_of", "background"}


def narrowed(model: str, tokens: int = 0) -> dict[str, Any]:
    """The description for one model, so that requests get past its name; at most so many tokens."""
    document = copy.deepcopy(describe(mounted(), OPERATIONS, Facts("1")))
    for schema in document["components"]["schemas"].values():
        properties = schema.get("properties", {})
        if properties.get("model") != {"type": "string"} or "object" in properties:
            continue
        properties["model"] = {"const": model}
        if tokens:
            for name in LENGTHS & set(properties):
                properties[name] = {"type": "integer", "minimum": 1, "maximum": tokens}
            needed = LENGTHS & set(properties) - {"max_completion_tokens"}
            schema["required"] = sorted({*schema.get("required", ()), *needed})
            for name in UNBOUNDED & set(properties):
                del properties[name]
    for item in document["paths"].values():
        for told in item.values():
            for parameter in told["parameters"]:
                if parameter.get("in") == "path":
                    # Slashes and dots in it lead to other paths.
                    parameter["schema"] = {"type": "string", "pattern": "^[A-Za-z0-9_]{1,20}$"}
    return document


# What is forbidden may also be too large.
CONFIG = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}}}
)


def operations(document: dict[str, Any]) -> list[Any]:
    found = []
    schema = schemathesis.openapi.from_dict(document, config=CONFIG)
    for operation in schema.get_all_operations():
        assert isinstance(operation, Ok), operation
        found.append(operation.ok())
    return found


def draw(operation: Any, url: str, mode: GenerationMode, examples: int) -> None:
    """Sends requests that the description allows, or such that it forbids."""
    checks = [*CHECKS, *([negative_data_rejection] if mode is GenerationMode.NEGATIVE else [])]

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(base_url=url, checks=checks, timeout=60)

    check()


@pytest.fixture(scope="module")
def edge() -> Iterator[EdgeApart]:
    # Of two models: where there is one, some endpoints need no name of it.
    with (
        worker_process(("--tokens", "3")) as one,
        worker_process(("--model-name", "other", "--identity", "sha256:" + "1" * 64)) as other,
        edge_apart(one.address, other.address) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def demo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack.url


ALL = operations(narrowed(MODEL))
DEMO = operations(narrowed(MODEL_NAME, tokens=4))
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


def can_be_wrong(operation: Any, mode: GenerationMode) -> bool:
    """Whether a request has a body: what is in a query may not concern the form that is asked for."""
    return mode is GenerationMode.POSITIVE or bool(list(operation.body))


@pytest.mark.parametrize("mode", MODES, ids=["allowed", "forbidden"])
@pytest.mark.parametrize("operation", ALL, ids=lambda one: f"{one.method.upper()} {one.path}")
def test_answers_are_as_described(edge: EdgeApart, operation: Any, mode: GenerationMode) -> None:
    if not can_be_wrong(operation, mode):
        pytest.skip("it has no body")
    draw(operation, edge.url, mode, 6)
    assert not edge.failures()


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", MODES, ids=["allowed", "forbidden"])
@pytest.mark.parametrize("operation", ALL, ids=lambda one: f"{one.method.upper()} {one.path}")
def test_many_answers(edge: EdgeApart, operation: Any, mode: GenerationMode) -> None:
    if not can_be_wrong(operation, mode):
        pytest.skip("it has no body")
    draw(operation, edge.url, mode, 80)
    assert not edge.failures()


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("operation", DEMO, ids=lambda one: f"{one.method.upper()} {one.path}")
def test_answers_of_the_demo_model(demo_url: str, operation: Any) -> None:
    draw(operation, demo_url, GenerationMode.POSITIVE, 30)
