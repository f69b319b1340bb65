from __future__ import annotations

import json

import pytest

from services.llama.formats import by_name, names, parse, written
from services.llama.formats.grammar import shape
from tests.llama.formats.cases import TOOLS

CALLS = (
    ("get_weather", {"city": 'Pa"r\\is é <b>', "days": 2, "metric": True, "tags": ["a", "b"]}),
    ("run", {"code": "x = {1: None}\n", "options": {"a": [1.5, None, {"b": False}]}}),
)
# Calls that nothing tells from content, messages with heads, and arguments between tags.
NOT = {
    *("generic", "gemma", "gemma-4", "functiongemma", "llama3", "llama4"),
    *("harmony", "functionary-v3.2", "solar-open", "muse-glimmer"),
    *("qwen3-coder", "seed-oss", "glm-4.5", "hunyuan", "minimax-m2", "minimax-m3", "minicpm5"),
    *("deepseek-v3.2", "deepseek-v4", "kimi-k3"),
}


@pytest.mark.parametrize("family", sorted(set(names()) - NOT))
def test_what_is_written_is_read_again(family):
    several = shape(by_name(family)).several
    for calls in (CALLS[:1], CALLS[1:], CALLS):
        pieces = written(by_name(family), calls)
        assert (pieces is None) == (len(calls) > 1 and not several)
        parsed = parse(by_name(family), "".join(text for text, _ in pieces or ()), TOOLS)
        assert not parsed.content
        found = [(call.name, json.loads(call.arguments)) for call in parsed.calls]
        assert found == (list(calls) if pieces else [])
        # What a user may have made is told apart from the family's signs.
        assert not any(ours and "Pa" in text for text, ours in pieces or ())


@pytest.mark.parametrize("family", sorted(NOT))
def test_of_the_others_that_is_not_known(family):
    assert written(by_name(family), CALLS[:1]) is None


def test_a_form_that_models_know():
    pieces = written(by_name("lfm2"), [("get_weather", {"city": "Rome", "metric": False})])
    assert pieces == [
        ("<|tool_call_start|>[", True),
        ("get_weather", False),
        ('(city="Rome", metric=False)', False),
        ("]<|tool_call_end|>", True),
    ]
