"""/tokenize, /detokenize and /apply-template over a scripted worker: a token is a byte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.openai import token_response
from edge.openai.schemas.tokens import Detokenized, Rendered, Tokenized
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import ContextLengthExceeded, InvalidField, TemplateFailed
from tests.edge.asking import Asked, error_of, is_a, post
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.scripted import model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker

TOKENIZE = "/v1/tokenize"
DETOKENIZE = "/v1/detokenize"
TEMPLATE = "/v1/apply-template"
MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]


@pytest.fixture
async def backend() -> Asked:
    return Asked()


async def tokens(edge: RunningEdge, **body: Any) -> dict[str, Any]:
    status, answer = await post(edge, TOKENIZE, **body)
    assert status == 200, answer
    assert is_a(Tokenized, answer)
    assert answer["max_model_len"] == 4096
    return answer


@pytest.mark.parametrize("name", ["prompt", "content", "text"])
async def test_a_text_under_its_names(edge: RunningEdge, name: str) -> None:
    answer = await tokens(edge, **{name: "hé"})
    assert answer["tokens"] == list("hé".encode())
    assert answer["count"] == 3
    assert "token_strs" not in answer
    assert (await tokens(edge, **{name: ""}))["tokens"] == []


async def test_several_texts(edge: RunningEdge) -> None:
    texts = [chr(97 + at) * (at + 1) for at in range(9)]
    answer = await tokens(edge, text=texts)
    assert answer["tokens"] == [list(text.encode()) for text in texts]
    assert answer["count"] == sum(map(len, texts))
    assert (await tokens(edge, text=["x"]))["tokens"] == [[120]]


@pytest.mark.parametrize(
    ("fields", "bos"),
    [
        ({"prompt": "x"}, True),
        ({"text": "x"}, True),
        ({"content": "x"}, False),
        ({"content": "x", "add_special": True}, True),
        ({"prompt": "x", "add_special_tokens": False}, False),
        ({"content": "x", "add_special_tokens": True, "add_special": False}, True),
    ],
)
async def test_special_tokens(
    edge: RunningEdge, backend: Asked, fields: dict[str, Any], bos: bool
) -> None:
    await tokens(edge, **fields)
    (asked,) = backend.questions
    # Where it may be, it is the model's to say whether it wants one.
    assert asked.text.HasField("add_bos") is not bos
    assert asked.text.parse_special
    await tokens(edge, parse_special=False, **fields)
    assert not backend.questions[1].text.parse_special


async def test_pieces(edge: RunningEdge) -> None:
    answer = await tokens(edge, content="aé", with_pieces=True)
    assert answer["tokens"] == [
        {"id": 97, "piece": "a"},
        {"id": 0xC3, "piece": [0xC3]},
        {"id": 0xA9, "piece": [0xA9]},
    ]
    answer = await tokens(edge, prompt="aé", return_token_strs=True)
    assert answer["tokens"] == [97, 0xC3, 0xA9]
    assert answer["token_strs"] == ["a", "�", "�"]
    answer = await tokens(edge, text=["a"], with_pieces=True, return_token_strs=True)
    assert answer["tokens"] == [[{"id": 97, "piece": "a"}]]
    assert answer["token_strs"] == [["a"]]


async def test_cut(edge: RunningEdge) -> None:
    answer = await tokens(edge, text="abcd", max_length=2, with_pieces=True)
    assert [token["id"] for token in answer["tokens"]] == [97, 98]
    assert answer["count"] == 2
    assert (await tokens(edge, text="ab", max_length=9, padding_side="left"))["count"] == 2


async def test_a_conversation(edge: RunningEdge, backend: Asked) -> None:
    answer = await tokens(edge, messages=MESSAGES, add_special_tokens=False)
    assert bytes(answer["tokens"]).decode() == "system: be brief\nuser: hi"
    assert answer["count"] == len(answer["tokens"])
    await tokens(
        edge,
        messages=[*MESSAGES, {"role": "assistant", "content": "He"}],
        continue_final_message=True,
        tools=[{"type": "function", "function": {"name": "f"}}],
        chat_template_kwargs={"a": 1},
    )
    asked = backend.questions[1].chat
    assert asked.continue_final_message
    assert [tool.name for tool in asked.tools] == ["f"]
    assert asked.template_args_json == '{"a":1}'


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "prompt", "missing_required_parameter"),
        ({"prompt": "a", "content": "b"}, "content", "invalid_parameter_combination"),
        ({"text": "a", "messages": MESSAGES}, "messages", "invalid_parameter_combination"),
        ({"prompt": 1}, "prompt", "invalid_type"),
        ({"prompt": ["a"]}, "prompt", "invalid_type"),
        ({"text": ["a", 1]}, "text[1]", "invalid_type"),
        ({"text": []}, "text", "empty_array"),
        ({"text": ["a"] * 129}, "text", "array_above_max_length"),
        ({"text": "a", "max_length": 0}, "max_length", "integer_below_min_value"),
        ({"text": "a", "pad_to_max_length": True}, "pad_to_max_length", "unsupported_parameter"),
        ({"text": "a", "padding_side": "top"}, "padding_side", "invalid_value"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": [{"role": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": MESSAGES, "with_pieces": True}, "with_pieces", "unsupported_parameter"),
    ],
)
async def test_mistakes(
    edge: RunningEdge, backend: Asked, fields: dict[str, Any], param: str, code: str
) -> None:
    assert error_of(await post(edge, TOKENIZE, **fields)) == (400, param, code)
    assert not backend.questions


async def test_what_workers_find_has_the_clients_names(edge: RunningEdge, backend: Asked) -> None:
    backend.fault = InvalidField("text.text", "is too long")
    for fields, param in (
        ({"prompt": "a"}, "prompt"),
        ({"content": "a"}, "content"),
        ({"text": ["a"]}, "text[0]"),
    ):
        assert error_of(await post(edge, TOKENIZE, **fields)) == (400, param, "invalid_value")
    backend.fault = InvalidField("token_ids[3]", "is no token")
    answer = await post(edge, DETOKENIZE, tokens=[1, 2, 3, 4])
    assert error_of(answer) == (400, "tokens[3]", "invalid_value")
    backend.fault = ContextLengthExceeded(9000, 4096)
    answer = await post(edge, TOKENIZE, messages=MESSAGES)
    assert error_of(answer) == (400, "messages", "context_length_exceeded")
    backend.fault = InvalidField("with_token_ids", "images and sounds have no token ids")
    answer = await post(edge, TOKENIZE, messages=MESSAGES)
    assert error_of(answer) == (400, "messages", "invalid_value")
    backend.fault = TemplateFailed("roles must alternate")
    status, body = await post(edge, TEMPLATE, messages=MESSAGES)
    assert (status, body["error"]["param"]) == (400, "messages")
    assert "alternate" in body["error"]["message"]


async def test_back_to_text(edge: RunningEdge, backend: Asked) -> None:
    status, answer = await post(edge, DETOKENIZE, tokens=list("hé".encode()))
    assert status == 200
    assert is_a(Detokenized, answer)
    assert answer == {"prompt": "hé", "content": "hé"}
    assert not backend.questions[0].skip_special_tokens
    assert (await post(edge, DETOKENIZE, tokens=[], skip_special_tokens=True))[1]["content"] == ""
    assert backend.questions[1].skip_special_tokens
    for wrong, param, code in (
        (None, "tokens", "missing_required_parameter"),
        ("a", "tokens", "invalid_type"),
        ([1, "a"], "tokens[1]", "invalid_type"),
        ([-1], "tokens[0]", "integer_below_min_value"),
        ([2**31], "tokens[0]", "integer_above_max_value"),
        ([VOCABULARY], "tokens[0]", "invalid_value"),
    ):
        assert error_of(await post(edge, DETOKENIZE, tokens=wrong)) == (400, param, code)


VOCABULARY = model_info().vocabulary_size


async def test_a_template_is_applied(edge: RunningEdge, backend: Asked) -> None:
    status, answer = await post(edge, TEMPLATE, messages=MESSAGES)
    assert status == 200
    assert is_a(Rendered, answer)
    assert answer == {"prompt": "system: be brief\nuser: hi"}
    assert not backend.questions[0].with_token_ids
    mistake = await post(edge, TEMPLATE, messages=[])
    assert error_of(mistake) == (400, "messages", "empty_array")


async def test_the_only_model_needs_no_name(edge: RunningEdge, worker: ScriptedWorker) -> None:
    questions: list[tuple[str, dict[str, Any]]] = [
        (TOKENIZE, {"content": "a"}),
        (DETOKENIZE, {"tokens": [1]}),
        (TEMPLATE, {"messages": MESSAGES}),
    ]
    for path, body in questions:
        assert (await post(edge, path, model=None, **body))[0] == 200
    async with (
        scripted_worker(model=model_info(name="other")) as other,
        running_edge(worker.address, other.address) as both,
    ):
        for path, body in questions:
            assert error_of(await post(both, path, model=None, **body)) == (400, None, None)


async def test_strict(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, strict=True) as edge:
        for path, body in (
            (TOKENIZE, {"prompt": "a"}),
            (TOKENIZE, {"messages": MESSAGES, "add_special_tokens": True}),
            (DETOKENIZE, {"tokens": [1]}),
        ):
            assert (await post(edge, path, **body))[0] == 200
            answer = await post(edge, path, what=1, **body)
            assert error_of(answer) == (400, "what", "unknown_parameter")


async def test_models_that_cannot() -> None:
    model = model_info(capabilities=[pb.CAPABILITY_GENERATE])
    async with (
        scripted_worker(model=model) as worker,
        running_edge(worker.address) as edge,
    ):
        for path, body, param in (
            (TOKENIZE, {"prompt": "a"}, "model"),
            (DETOKENIZE, {"tokens": [1]}, "model"),
            (TOKENIZE, {"messages": MESSAGES}, "messages"),
            (TEMPLATE, {"messages": MESSAGES}, "messages"),
        ):
            answer = await post(edge, path, **body)
            assert error_of(answer) == (400, param, "unsupported_parameter")


@given(st.lists(st.binary(min_size=1, max_size=6), max_size=20))
def test_pieces_lose_nothing(pieces: list[bytes]) -> None:
    answer = pb.TokenizeResponse(token_ids=range(len(pieces)), pieces=pieces)
    told = token_response.tokenized(
        [answer],
        several=False,
        max_length=None,
        with_pieces=True,
        strings=False,
        context_length=1,
    )
    again = [token["piece"] for token in told["tokens"]]
    assert [each.encode() if isinstance(each, str) else bytes(each) for each in again] == pieces
