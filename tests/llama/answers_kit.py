"""Chats with tools, and what a fake model's text becomes as their answer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from protos.inference.v1 import inference_pb2 as pb
from services.llama import answers, requests
from services.llama.builtin_templates import BUILTIN
from services.llama.job import Job
from services.llama.prompt import Prompts
from tests.llama.constrained import constraints
from tests.llama.fake_runtime import BOS, FakeRuntime, FakeVocabulary

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: dict[str, Any] = {"get_weather": WEATHER, "get_time": None}
CALL = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>'
)
THINKING = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if tools %}{{ tools }}<tool_call></tool_call>{% endif %}"
    "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)
VOCABULARY = FakeVocabulary()


def asked(text: str = "How is the weather?", tools: Iterable[str] = TOOLS, **fields: Any) -> Any:
    made = pb.GenerateRequest(
        sampling=pb.SamplingParams(seed=5, temperature=0),
        stop=pb.StopConditions(max_tokens=400),
        output=pb.OutputOptions(token_ids=True),
        **fields,
    )
    made.chat.messages.add(role=pb.ROLE_USER).content.add(text=text)
    for name in tools:
        schema = TOOLS[name]
        made.chat.tools.add(name=name, parameters_json_schema=json.dumps(schema) if schema else "")
    return made


def job(made: pb.GenerateRequest, template: str = BUILTIN["hermes"], name: str = "") -> Job:
    prompt = Prompts(VOCABULARY, template, tool_format=name).made(made)
    grammar, reading, ends = answers.expected(made, prompt, constraints(), VOCABULARY)
    # The fake model's script begins behind it.
    return requests.job(
        made, [BOS], pb.SamplingParams(), None, grammar=grammar, reading=reading, ends=ends
    )


async def answer(start: Any, one: Job, script: str | None = None) -> dict[int, pb.Delta]:
    """Each choice's whole answer, as one delta."""
    whole: dict[int, pb.Delta] = {}
    streams = start(FakeRuntime(script=script)).submit(one)
    ended = 0
    while ended < len(one.choices):
        choice, gained = await streams.next()
        delta = requests.delta(choice, gained, VOCABULARY).delta
        add(whole.setdefault(choice, pb.Delta(index=choice)), delta)
        ended += delta.HasField("finish")
    return whole


def add(whole: pb.Delta, delta: pb.Delta) -> None:
    whole.text += delta.text
    whole.reasoning += delta.reasoning
    for piece in delta.tool_calls:
        if piece.index == len(whole.tool_calls):
            assert piece.id
            assert piece.name
            whole.tool_calls.add(index=piece.index, id=piece.id, name=piece.name)
        assert piece.index == len(whole.tool_calls) - 1
        whole.tool_calls[-1].arguments_json += piece.arguments_json
    whole.token_ids.extend(delta.token_ids)
    whole.logprobs.extend(delta.logprobs)
    whole.in_text.extend(delta.in_text)
    whole.completion_tokens = delta.completion_tokens
    whole.delivered_bytes = delta.delivered_bytes
    if delta.HasField("finish"):
        whole.finish.CopyFrom(delta.finish)


def calls(delta: pb.Delta) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments_json)) for call in delta.tool_calls]


OSLO = ("get_weather", {"city": "Oslo", "days": 2})
EVERYTHING = f"<think>\nWo? Köln?\n</think>\n\nLet me see.\n{CALL}\n{CALL}"
