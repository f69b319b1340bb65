"""Chats' answers through the engine: calls and their constraints, over a fake model."""

from __future__ import annotations

import json

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import answers
from services.llama.builtin_templates import BUILTIN
from services.llama.prompt import Prompts
from services.worker.errors import InvalidField, Unsupported
from tests.llama.answers_kit import (
    CALL,
    EVERYTHING,
    OSLO,
    TOOLS,
    VOCABULARY,
    WEATHER,
    answer,
    asked,
    calls,
    job,
)

# As models that were not asked well.
BAD = '<tool_call>\n{"name": "nobody", "arguments": {"town": "Lübeck"}}\n</tool_call>'
_Mode = pb.ToolChoice.Mode


async def test_thoughts_text_and_calls(start):
    made = asked()
    (whole,) = (await answer(start, job(made), EVERYTHING)).values()
    assert (whole.reasoning, whole.text) == ("Wo? Köln?", "Let me see.")
    assert calls(whole) == [OSLO, OSLO]
    assert whole.finish.reason == pb.FINISH_REASON_TOOL_CALLS
    assert len({call.id for call in whole.tool_calls}) == 2


async def test_choices_have_their_own_calls(start):
    made = asked(n=3)
    whole = await answer(start, job(made), EVERYTHING)
    assert [calls(delta) for delta in whole.values()] == [[OSLO, OSLO]] * 3
    assert len({call.id for delta in whole.values() for call in delta.tool_calls}) == 6


async def test_a_call_once_begun_is_one_that_can_be_made(start):
    made = asked()
    (whole,) = (await answer(start, job(made), f"Let me see.\n{BAD}")).values()
    assert whole.text == "Let me see."
    ((name, arguments),) = calls(whole)[:1]
    assert name in TOOLS
    assert set(arguments) == (set(WEATHER["properties"]) if name == "get_weather" else set())


async def test_thoughts_may_be_about_calls(start):
    script = f"<think>\n{BAD}\n</think>\n\nNo."
    (whole,) = (await answer(start, job(asked()), script)).values()
    assert (whole.reasoning, whole.text, calls(whole)) == (BAD, "No.", [])


@pytest.mark.parametrize("seed", range(4))
async def test_required(start, seed):
    made = asked()
    made.chat.tool_choice.mode = _Mode.MODE_REQUIRED
    made.chat.parallel_tool_calls = False
    made.sampling.seed, made.sampling.temperature = seed, 2.0
    made.chat.enable_thinking = False
    (whole,) = (await answer(start, job(made))).values()
    assert len(calls(whole)) == 1
    assert whole.text == ""
    assert whole.finish.reason == pb.FINISH_REASON_TOOL_CALLS


async def test_named_and_allowed(start):
    for mode, names in ((_Mode.MODE_REQUIRED, ["get_time"]), (_Mode.MODE_AUTO, ["get_time"])):
        made = asked()
        made.chat.tool_choice.mode = mode
        made.chat.tool_choice.allowed_names.extend(names)
        made.chat.parallel_tool_calls = False
        (whole,) = (await answer(start, job(made), CALL)).values()
        assert calls(whole) == [("get_time", {})]


async def test_none(start):
    made = asked()
    made.chat.tool_choice.mode = _Mode.MODE_NONE
    (whole,) = (await answer(start, job(made), CALL)).values()
    assert (whole.text, calls(whole)) == (CALL, [])
    assert whole.finish.reason == pb.FINISH_REASON_STOP


async def test_one_call_where_more_are_not_wanted(start):
    made = asked()
    made.chat.parallel_tool_calls = False
    (whole,) = (await answer(start, job(made), f"{CALL}\n{CALL}")).values()
    assert calls(whole) == [OSLO]


def test_what_the_template_has_no_place_for_is_read_as_json():
    prompts = Prompts(VOCABULARY, BUILTIN["chatml"])
    assert prompts.family(asked().chat).name == "generic"
    assert Prompts(VOCABULARY, BUILTIN["hermes"]).family(asked().chat).name == "hermes"
    named = Prompts(VOCABULARY, BUILTIN["chatml"], tool_format="granite")
    assert named.family(asked().chat).name == "granite"


def test_schemas_that_cannot_be_enforced():
    made = asked(tools=())
    odd = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
    made.chat.tools.add(name="odd", parameters_json_schema=json.dumps(odd))
    assert job(made).grammar is not None
    made.chat.tools[0].strict = True
    with pytest.raises(InvalidField) as caught:
        job(made)
    assert caught.value.metadata["field"] == "chat.tools[0].parameters_json_schema"


def test_required_needs_constraints():
    made = asked()
    prompt = Prompts(VOCABULARY, BUILTIN["hermes"]).made(made)
    assert answers.expected(made, prompt, None, VOCABULARY)[0] is None
    made.chat.tool_choice.mode = _Mode.MODE_REQUIRED
    with pytest.raises(Unsupported):
        answers.expected(made, prompt, None, VOCABULARY)
