"""POST /v1/embeddings over a scripted worker, and its rules."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.openai import embedding_request, embedding_response, splitting
from edge.openai.schemas.embeddings import EmbeddingList
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import ContextLengthExceeded, InvalidField
from tests.edge.asking import Asked, error_of, is_a, post
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.scripted import DIMENSIONS, model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker

PATH = "/v1/embeddings"


@pytest.fixture
async def backend() -> Asked:
    return Asked()


async def vectors(edge: RunningEdge, **body: Any) -> list[Any]:
    status, answer = await post(edge, PATH, **body)
    assert status == 200, answer
    assert is_a(EmbeddingList, answer)
    assert [entry["index"] for entry in answer["data"]] == list(range(len(answer["data"])))
    return [entry["embedding"] for entry in answer["data"]]


async def test_a_text(edge: RunningEdge, backend: Asked) -> None:
    status, answer = await post(edge, PATH, input="hello")
    assert status == 200
    assert is_a(EmbeddingList, answer)
    assert (answer["object"], answer["model"]) == ("list", "scripted")
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    (entry,) = answer["data"]
    assert len(entry["embedding"]) == DIMENSIONS
    assert math.isclose(math.hypot(*entry["embedding"]), 1, rel_tol=1e-6)
    (asked,) = backend.questions
    assert asked.model_identity == backend.info.identity
    assert not asked.truncate
    async with edge.http.get(edge.url + "/metrics") as metrics:
        text = await metrics.text()
    assert 'caravan_edge_tokens_total{kind="prompt",model="scripted"} 5.0' in text


async def test_many_texts_keep_their_order(edge: RunningEdge) -> None:
    several = await vectors(edge, input=["a", "b", "a"])
    assert several[0] == several[2] != several[1]
    assert [(await vectors(edge, input=text))[0] for text in ("a", "b")] == several[:2]


async def test_token_ids(edge: RunningEdge, backend: Asked) -> None:
    alone = await vectors(edge, input=[1, 2, 3])
    several = await vectors(edge, input=[[1, 2, 3], [4]])
    assert alone[0] == several[0] != several[1]
    assert [list(item.tokens.ids) for item in backend.questions[1].inputs] == [[1, 2, 3], [4]]


async def test_base64_is_the_same_numbers(edge: RunningEdge) -> None:
    numbers = await vectors(edge, input=["a", "b"], encoding_format="float")
    packed = await vectors(edge, input=["a", "b"], encoding_format="base64")
    for vector, text in zip(numbers, packed, strict=True):
        assert list(struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(text))) == vector


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=300), st.binary(max_size=20))
def test_packed_is_little_endian_float32(values: list[float], unknown: bytes) -> None:
    vector = pb.Embedding(values=values)
    # A field of a later contract comes behind.
    vector.MergeFromString(b"\x1a" + bytes((len(unknown),)) + unknown)
    assert embedding_response.packed(vector) == struct.pack(f"<{len(values)}f", *values)


async def test_dimensions(edge: RunningEdge, backend: Asked) -> None:
    (vector,) = await vectors(edge, input="a", dimensions=3)
    assert len(vector) == 3
    assert backend.questions[0].dimensions == 3
    for wrong, code in (
        (DIMENSIONS + 1, "integer_above_max_value"),
        (0, "integer_below_min_value"),
        ("3", "invalid_type"),
    ):
        answer = await post(edge, PATH, input="a", dimensions=wrong)
        assert error_of(answer) == (400, "dimensions", code)
    assert len(backend.questions) == 1


@pytest.mark.parametrize(
    ("fields", "truncates"),
    [
        ({"truncate": True}, True),
        ({"truncate": "END"}, True),
        ({"truncate": "NONE"}, False),
        ({"truncate": False}, False),
        ({"truncate_prompt_tokens": -1}, True),
        ({"truncate_prompt_tokens": 4096}, True),
        ({"user": "u", "encoding_format": None, "dimensions": None, "extra": 1}, False),
    ],
)
async def test_extras(
    edge: RunningEdge, backend: Asked, fields: dict[str, Any], truncates: bool
) -> None:
    await vectors(edge, input="a", **fields)
    assert backend.questions[0].truncate is truncates


WRONG: list[tuple[Any, str, str]] = [
    (None, "input", "missing_required_parameter"),
    ("", "input", "empty_string"),
    (["a", ""], "input[1]", "empty_string"),
    ([], "input", "empty_array"),
    ([[]], "input[0]", "empty_array"),
    ([[1], []], "input[1]", "empty_array"),
    (5, "input", "invalid_type"),
    ({"a": 1}, "input", "invalid_type"),
    ([1.5], "input[0]", "invalid_type"),
    ([True], "input[0]", "invalid_type"),
    ([None], "input[0]", "invalid_type"),
    ([1, "a"], "input[1]", "invalid_type"),
    (["a", 1], "input[1]", "invalid_type"),
    ([[1], 2], "input[1]", "invalid_type"),
    ([[1, "a"]], "input[0][1]", "invalid_type"),
    ([-1], "input[0]", "integer_below_min_value"),
    ([[2**31]], "input[0][0]", "integer_above_max_value"),
    (["a"] * 2049, "input", "array_above_max_length"),
    ([[1]] * 2049, "input", "array_above_max_length"),
]


@pytest.mark.parametrize(("value", "param", "code"), WRONG)
async def test_wrong_inputs(
    edge: RunningEdge, backend: Asked, value: Any, param: str, code: str
) -> None:
    assert error_of(await post(edge, PATH, input=value)) == (400, param, code)
    assert not backend.questions


async def test_other_mistakes(edge: RunningEdge) -> None:
    for fields, expected in (
        ({"model": ""}, (400, None, None)),
        ({"model": "other"}, (404, None, "model_not_found")),
        ({"encoding_format": "int8"}, (400, "encoding_format", "invalid_value")),
        ({"truncate": "START"}, (400, "truncate", "invalid_value")),
        ({"truncate": 1}, (400, "truncate", "invalid_type")),
        ({"truncate_prompt_tokens": 9}, (400, "truncate_prompt_tokens", "unsupported_value")),
    ):
        assert error_of(await post(edge, PATH, **{"input": "a", **fields})) == expected
    _, body = await post(edge, PATH, input="")
    assert body["error"]["message"] == "Invalid 'input': input cannot be an empty string."


async def test_strict(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, strict=True) as edge:
        answer = await post(edge, PATH, input="a", what=1)
        assert error_of(answer) == (400, "what", "unknown_parameter")


@pytest.mark.parametrize(
    ("given_", "field", "param"),
    [
        ("a", "inputs[0].text", "input"),
        (["a", "b"], "inputs[1].text", "input[1]"),
        ([7, 8], "inputs[0].tokens.ids[1]", "input[1]"),
        ([[7], [8]], "inputs[1].tokens.ids[0]", "input[1][0]"),
        ("a", "dimensions", "dimensions"),
        ("a", "tenant", None),
    ],
)
async def test_what_workers_find_has_the_clients_names(
    edge: RunningEdge, backend: Asked, given_: Any, field: str, param: str | None
) -> None:
    backend.fault = InvalidField(field, "is odd")
    assert error_of(await post(edge, PATH, input=given_)) == (400, param, "invalid_value")


async def test_too_long(edge: RunningEdge, backend: Asked) -> None:
    backend.fault = ContextLengthExceeded(9000, 512)
    status, body = answer = await post(edge, PATH, input="a")
    assert error_of(answer) == (400, "input", "context_length_exceeded")
    assert status == 400
    assert "9000" in body["error"]["message"]
    assert "512" in body["error"]["message"]


async def test_a_model_without_vectors() -> None:
    model = model_info(capabilities=[pb.CAPABILITY_CHAT], embedding_dimensions=0)
    async with (
        scripted_worker(model=model) as worker,
        running_edge(worker.address) as edge,
    ):
        answer = await post(edge, PATH, input="a")
        assert error_of(answer) == (400, "model", "unsupported_parameter")


async def test_many_inputs_are_shared_out() -> None:
    a, b = Asked(), Asked()
    texts = [f"text {at}" for at in range(100)]
    async with (
        scripted_worker(backend=a) as one,
        scripted_worker(backend=b) as two,
        running_edge(one.address, two.address) as edge,
    ):
        shared = await vectors(edge, input=texts)
        sizes = sorted(len(each.questions[0].inputs) for each in (a, b))
        assert sum(sizes) == 100
        assert sizes[0] > 40
        async with running_edge(one.address) as alone:
            assert await vectors(alone, input=texts) == shared
        # An error names the input as the client counts.
        a.fault = b.fault = InvalidField("inputs[1].text", "is odd")
        status, param, _ = error_of(await post(edge, PATH, input=texts))
        assert status == 400
        assert param in ("input[1]", f"input[{sizes[0] + 1}]", f"input[{sizes[1] + 1}]")


async def test_a_worker_that_gives_too_few_is_at_fault(edge: RunningEdge, backend: Asked) -> None:
    async def embed(*_: object) -> pb.EmbedResponse:
        return pb.EmbedResponse()

    backend.embed = embed  # type: ignore[assignment]
    assert error_of(await post(edge, PATH, input="a")) == (500, None, "internal_error")


async def test_names_of_later_inputs() -> None:
    request = embedding_request.read({"model": "m", "input": ["a", "b"]})
    assert embedding_request.names(request, 40).field("inputs[1].text") == "input[41]"


@given(
    st.lists(st.integers(min_value=1, max_value=10_000), min_size=1, max_size=300),
    st.integers(min_value=1, max_value=20),
)
def test_parts(sizes: list[int], most: int) -> None:
    found = splitting.parts(sizes, most)
    assert 1 <= len(found) <= most
    assert [at for part in found for at in range(len(sizes))[part]] == list(range(len(sizes)))
    for part in found:
        assert sizes[part]
        assert sum(sizes[part]) <= sum(sizes) / most + max(sizes)


async def test_the_sdk(edge: RunningEdge) -> None:
    """Whose default is base64."""
    async with openai.AsyncOpenAI(base_url=edge.url + "/v1", api_key="x", max_retries=0) as sdk:
        default = await sdk.embeddings.create(model="scripted", input=["a", "b"])
        numbers = await sdk.embeddings.create(
            model="scripted", input=["a", "b"], encoding_format="float"
        )
        assert [one.embedding for one in default.data] == [one.embedding for one in numbers.data]
        assert default.usage.total_tokens == 2
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.embeddings.create(model="scripted", input="")
        assert caught.value.param == "input"
