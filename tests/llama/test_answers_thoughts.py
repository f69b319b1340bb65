"""Chats' answers of models that think first: constraints behind thoughts, budgets, counts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import requests
from services.llama.builtin_templates import BUILTIN
from services.llama.job import Resumed
from services.llama.prompt import Prompts
from tests.llama.answers_kit import CALL, OSLO, THINKING, VOCABULARY, answer, asked, calls, job
from tests.llama.fake_runtime import FakeRuntime

_Mode = pb.ToolChoice.Mode

YES: dict[str, Any] = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("template", "script", "reasoning"),
    [
        (BUILTIN["hermes"], "<think>\nhm\n</think>\n\nYes, it is.", "hm"),
        (BUILTIN["hermes"], '{"so": "yes"}', ""),
        (THINKING, "hm, hm\n</think>\n\nYes, it is.", "hm, hm"),
    ],
)
async def test_thinks_as_it_likes_and_then_answers_as_it_must(start, template, script, reasoning):
    kinds: list[dict[str, Any]] = [
        {"json_schema": json.dumps(YES)},
        {"regex": '\\{"ok": (true|false)\\}'},
    ]
    for kind in kinds:
        made = asked(tools=(), constraint=pb.Constraint(**kind))
        made.chat.enable_thinking = True
        (whole,) = (await answer(start, job(made, template), script)).values()
        assert isinstance(json.loads(whole.text)["ok"], bool)
        assert whole.reasoning == reasoning
        assert whole.finish.reason == pb.FINISH_REASON_STOP


async def test_one_that_does_not_think_has_no_way_out(start):
    made = asked(tools=(), constraint=pb.Constraint(regex="yes|no"))
    for template, thinks in ((BUILTIN["hermes"], False), (THINKING, True)):
        prompt = Prompts(VOCABULARY, template).made(made)
        assert prompt.thinks == thinks
    (whole,) = (await answer(start, job(made), "<think>hm</think>yes")).values()
    assert whole.text in ("yes", "no")


async def test_a_format_of_content_with_tools(start):
    made = asked(constraint=pb.Constraint(json_schema=json.dumps(YES)))
    (whole,) = (await answer(start, job(made), '{"so": "yes"}')).values()
    assert calls(whole) or isinstance(json.loads(whole.text)["ok"], bool)
    (whole,) = (await answer(start, job(made), CALL)).values()
    assert calls(whole)[0] == OSLO
    assert whole.text == ""


async def test_forced_open_thoughts_and_required_calls(start):
    made = asked()
    made.chat.tool_choice.mode = _Mode.MODE_REQUIRED
    made.chat.parallel_tool_calls = False
    (whole,) = (await answer(start, job(made, THINKING), f"hm\n</think>\n\n{CALL}")).values()
    assert whole.reasoning == "hm"
    assert len(calls(whole)) == 1


async def test_thoughts_are_ended_by_the_budget(start):
    made = asked(tools=())
    made.chat.reasoning_budget = 3
    (whole,) = (await answer(start, job(made, THINKING), "x" * 40)).values()
    assert whole.reasoning == "xxx"
    assert set(whole.text) == {"x"}


@pytest.mark.parametrize("budget", range(1, 9))
async def test_the_budget_ends_thoughts_as_the_constraint_allows(start, budget):
    made = asked(tools=(), constraint=pb.Constraint(json_schema=json.dumps(YES)))
    made.chat.reasoning_budget = budget
    (whole,) = (await answer(start, job(made, THINKING), "é🐫" * 9)).values()
    assert whole.reasoning == "é🐫é🐫"[: len(whole.reasoning)]
    assert budget <= len(whole.reasoning.encode()) <= budget + 3
    assert isinstance(json.loads(whole.text)["ok"], bool)


@pytest.mark.parametrize("cut", [0, 45, 60, 80])
async def test_the_budget_does_not_write_what_the_constraint_forbids(start, cut):
    made = asked()
    made.chat.tool_choice.mode = _Mode.MODE_REQUIRED
    made.chat.parallel_tool_calls = False
    made.chat.reasoning_budget = 3
    one = job(made, name="harmony")
    script = "<|channel|>analysis<|message|>" + "x" * 40
    (whole,) = (await answer(start, one, script)).values()
    assert set(whole.reasoning) == {"x"}
    assert len(calls(whole)) == 1
    resumed = replace(one, resumed={0: Resumed(list(whole.token_ids[:cut]))})
    (again,) = (await answer(start, resumed, script)).values()
    assert [*whole.token_ids[:cut], *again.token_ids] == list(whole.token_ids)


async def test_reasoning_tokens_are_counted(start):
    one = job(asked(tools=()), THINKING)
    streams = start(FakeRuntime(script="hm</think>Yes.")).submit(one)
    gained = None
    while gained is None or gained.ended is None:
        _, gained = await streams.next()
    finished = requests.finished(
        asked(), one, {0: (gained.completion_tokens, gained.ended)}
    ).finished
    assert finished.usage.reasoning_tokens == len("hm</think>")


async def test_reasoning_tokens_of_a_choice_that_had_ended_elsewhere_are_counted(start):
    made = asked(tools=(), n=2)
    for index, (text, finished) in enumerate([("hm</think>Yes.", True), ("h", False)]):
        made.resume.choices.add(index=index, token_ids=text.encode(), finished=finished)
    made.resume.choices[0].token_ids.append(VOCABULARY.eos)
    one = job(made, THINKING)
    streams = start(FakeRuntime(script="hm</think>Yes.")).submit(one)
    gained = None
    while gained is None or gained.ended is None:
        choice, gained = await streams.next()
    ended = {choice: (gained.completion_tokens, gained.ended)}
    usage = requests.finished(made, one, ended).finished.usage
    assert usage.completion_tokens == 2 * len("hm</think>Yes.$")
    assert usage.reasoning_tokens == 2 * len("hm</think>")


def test_what_the_template_began_and_nothing_of_a_user():
    prompts = Prompts(VOCABULARY, THINKING)
    assert prompts.made(asked("a <think>", ())).begun == "assistant: <think>\n"
    made = asked("a <think>", ())
    made.chat.add_generation_prompt = False
    assert prompts.made(made).begun == ""
    always = THINKING.replace("{% if add_generation_prompt %}", "{{ eos_token }}{% if 1 %}")
    assert Prompts(VOCABULARY, always).made(asked("b <think>", ())).begun.endswith("<think>\n")


def test_a_turn_to_be_continued_may_be_in_its_thoughts():
    made = asked("hi", ())
    made.chat.messages.add(role=pb.ROLE_ASSISTANT, reasoning="so far")
    made.chat.continue_final_message = True
    begun = Prompts(VOCABULARY, THINKING).made(made).begun
    assert begun.endswith("<think>\nso far")
