"""Bodies of POST /v1/completions: what is refused, in which order and words, and what is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ApiError
from edge.openai import completion_rules, completion_to_proto, jsonbody
from edge.openai.completion_request import CompletionRequest
from protos.inference.v1 import inference_pb2 as pb
from tests.fakes.scripted import ALL_CAPABILITIES, model_info

SEED = 7


def read(**fields: Any) -> CompletionRequest:
    body = json.dumps({"model": "m", "prompt": "hi", **fields}).encode()
    return completion_rules.read(jsonbody.parse(body))


def to_proto(**fields: Any) -> list[pb.GenerateRequest]:
    return completion_to_proto.translate(read(**fields), SEED)


KINDS = "one of a string, array of strings, array of integers, or array of integer arrays"
ROWS: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({"model": "", "prompt": 5}, None, None),
    ({"prompt": 5, "n": "x"}, "prompt", "invalid_type"),
    ({"prompt": {}}, "prompt", "invalid_type"),
    ({"prompt": []}, "prompt", "empty_array"),
    ({"prompt": ["a", 5]}, "prompt[1]", "invalid_type"),
    ({"prompt": [5, "a"]}, "prompt[1]", "invalid_type"),
    ({"prompt": [True]}, "prompt[0]", "invalid_type"),
    ({"prompt": [None]}, "prompt[0]", "invalid_type"),
    ({"prompt": [-1]}, "prompt[0]", "integer_below_min_value"),
    ({"prompt": [2**31]}, "prompt[0]", "integer_above_max_value"),
    ({"prompt": [[1], []]}, "prompt[1]", "empty_array"),
    ({"prompt": [[1], [2, "x"]]}, "prompt[1][1]", "invalid_type"),
    ({"prompt": [[1], 2]}, "prompt[1]", "invalid_type"),
    ({"prompt": ["a"] * 2049}, "prompt", "array_above_max_length"),
    ({"prompt": ["a"] * 129}, "prompt", None),
    ({"prompt": ["a"] * 43, "n": 3}, "prompt", None),
    ({"prompt": ["a"] * 13, "best_of": 10}, "prompt", None),
    ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
    ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
    ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
    ({"logprobs": -1}, "logprobs", "integer_below_min_value"),
    ({"logprobs": True}, "logprobs", "invalid_type"),
    ({"best_of": 21}, "best_of", "integer_above_max_value"),
    ({"best_of": 2, "n": 3}, "best_of", None),
    ({"best_of": 2, "stream": True}, "best_of", None),
    ({"echo": "yes"}, "echo", "invalid_type"),
    ({"suffix": 5}, "suffix", "invalid_type"),
    ({"suffix": "x", "prompt": [1]}, "suffix", None),
    ({"suffix": "x", "prompt": [[1], [2]]}, "suffix", None),
    ({"suffix": "x", "echo": True}, "echo", "invalid_parameter_combination"),
    ({"stream_options": {"include_usage": True}}, "stream_options", None),
    ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
    ({"temperature": 2.5}, "temperature", "decimal_above_max_value"),
    ({"stop": ["x"] * 17}, "stop", "array_above_max_length"),
    ({"stop": "a", "stop_sequence": "b"}, "stop_sequence", "invalid_parameter_combination"),
    ({"user": 5}, "user", "invalid_type"),
    ({"response_format": {"type": "x"}}, "response_format.type", "invalid_value"),
]


@pytest.mark.parametrize(("fields", "param", "code"), ROWS)
def test_row(fields: dict[str, Any], param: str | None, code: str | None) -> None:
    with pytest.raises(ApiError) as error:
        read(**fields)
    assert (error.value.status, error.value.param, error.value.code) == (400, param, code)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": None}, "you must provide a model parameter"),
        (
            {"prompt": 5},
            f"Invalid type for 'prompt': expected {KINDS}, but got an integer instead.",
        ),
        (
            {"prompt": ["a"] * 100, "n": 2},
            (
                "Too many parallel completions requested. You submitted 100 prompts with 2 "
                "completions each, but you can currently request up to at most a total of 128."
            ),
        ),
    ],
)
def test_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as error:
        read(**fields)
    assert error.value.message == words


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": None, "max_tokens": None, "stop": None, "user": "u", "unknown": 1},
        {"best_of": 0},
        {"best_of": 3, "n": 3, "stream": True},
        {"suffix": "", "echo": True, "prompt": [1]},
        {"prompt": ["a"] * 128},
    ],
)
def test_accepted(fields: dict[str, Any]) -> None:
    read(**fields)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        (None, [""]),
        ("", [""]),
        ("a", ["a"]),
        (["a", ""], ["a", ""]),
        ([1, 2], [[1, 2]]),
        ([0], [[0]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_each_prompt_is_a_generation_of_its_own(prompt: Any, found: list[Any]) -> None:
    made = to_proto(prompt=prompt)
    inputs = [
        one.text.text if one.WhichOneof("input") == "text" else list(one.tokens.ids) for one in made
    ]
    assert inputs == found


def test_defaults_are_openais() -> None:
    (made,) = to_proto()
    assert made == pb.GenerateRequest(
        text=pb.TextInput(text="hi", parse_special=True),
        sampling=pb.SamplingParams(seed=SEED),
        stop=pb.StopConditions(max_tokens=16),
        output=pb.OutputOptions(),
        n=1,
    )


def test_everything_has_its_place() -> None:
    (made,) = to_proto(
        suffix="after",
        max_tokens=0,
        n=2,
        best_of=4,
        logprobs=0,
        stop_sequence="x",
        seed=3,
        guided_regex="a+",
        cache_salt="s",
        add_special_tokens=False,
        skip_special_tokens=False,
    )
    assert (made.text.suffix, made.text.parse_special, made.text.add_bos) == ("after", False, False)
    assert made.stop.HasField("max_tokens")
    assert made.stop.max_tokens == 0
    assert (made.n, made.best_of) == (2, 4)
    assert (made.output.logprobs, made.output.top_logprobs) == (True, 0)
    assert not made.output.prompt_logprobs
    assert not made.output.skip_special_tokens
    assert list(made.stop.strings) == ["x"]
    assert made.constraint.regex == "a+"
    assert len(made.cache_namespace) == 64


def test_echo_with_logprobs_asks_for_the_prompts() -> None:
    assert to_proto(echo=True, logprobs=1)[0].output.prompt_logprobs
    assert not to_proto(echo=True)[0].output.prompt_logprobs


def test_equal_prompts_differ_unless_a_seed_is_asked_for() -> None:
    assert len({one.sampling.seed for one in to_proto(prompt=["a"] * 3)}) == 3
    assert {one.sampling.seed for one in to_proto(prompt=["a"] * 3, seed=5)} == {5}


@pytest.mark.parametrize(
    ("fields", "capability", "param"),
    [
        ({}, pb.CAPABILITY_GENERATE, "prompt"),
        ({"suffix": "x"}, pb.CAPABILITY_INFILL, "suffix"),
        ({"echo": True, "logprobs": 1}, pb.CAPABILITY_PROMPT_LOGPROBS, "logprobs"),
        ({"echo": True, "prompt": [1]}, pb.CAPABILITY_TOKENIZE, "echo"),
        ({"logprobs": 0}, pb.CAPABILITY_LOGPROBS, "logprobs"),
        ({"best_of": 2}, pb.CAPABILITY_BEST_OF, "best_of"),
        ({"n": 2}, pb.CAPABILITY_MULTIPLE_CHOICES, "n"),
        ({"guided_regex": "a"}, pb.CAPABILITY_CONSTRAINT, "guided_regex"),
    ],
)
def test_what_the_model_must_be_able_to_do(
    fields: dict[str, Any], capability: pb.Capability.ValueType, param: str
) -> None:
    request = read(**fields)
    wanted = completion_to_proto.translate(request, SEED)
    completion_to_proto.check_model(request, wanted, model_info())
    rest = [other for other in ALL_CAPABILITIES if other != capability]
    with pytest.raises(ApiError) as error:
        completion_to_proto.check_model(request, wanted, model_info(capabilities=rest))
    assert (error.value.param, error.value.code) == (param, "unsupported_parameter")


@pytest.mark.parametrize(
    ("path", "one", "of_several"),
    [
        ("input", "prompt", "prompt[1]"),
        ("text.text", "prompt", "prompt[1]"),
        ("tokens.ids[3]", "prompt[3]", "prompt[1][3]"),
        ("token_ids[3]", "prompt[3]", "prompt[1][3]"),
        ("text.suffix", "suffix", "suffix"),
        ("stop.strings[2]", "stop[2]", "stop[2]"),
    ],
)
def test_errors_name_the_prompt(path: str, one: str, of_several: str) -> None:
    assert completion_to_proto.names(0, 1).field(path) == one
    assert completion_to_proto.names(1, 2).field(path) == of_several


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IDS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9)


@given(TEXT | st.lists(TEXT, min_size=1, max_size=9) | IDS | st.lists(IDS, min_size=1, max_size=9))
def test_prompts_survive_the_round_trip(prompt: Any) -> None:
    made = to_proto(prompt=prompt)
    found: list[Any] = [
        one.text.text if one.WhichOneof("input") == "text" else list(one.tokens.ids) for one in made
    ]
    single = isinstance(prompt, str) or isinstance(prompt[0], int)
    assert found == ([prompt] if single else prompt)
