"""Chats' answers through the engine: calls, thoughts, constraints and resumption, over a fake model."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import answers, requests, templates
from services.llama.builtin_templates import BUILTIN
from services.llama.constrain import Constraints
from services.llama.interface import Logits, SpecialToken
from services.llama.job import Job
from services.llama.prompt import Prompts
from services.worker.errors import InvalidField, Unsupported
from tests.llama.constrained import constraints
from tests.llama.fake_runtime import BOS, EOS, FakeRuntime, FakeVocabulary

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
# As models that were not asked well.
BAD = '<tool_call>\n{"name": "nobody", "arguments": {"town": "Lübeck"}}\n</tool_call>'
THINKING = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if tools %}{{ tools }}<tool_call></tool_call>{% endif %}"
    "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)
VOCABULARY = FakeVocabulary()
_Mode = pb.ToolChoice.Mode


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
    return requests.job(made, [BOS], pb.SamplingParams(), None, grammar, reading, ends)


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
    whole.completion_tokens = delta.completion_tokens
    whole.delivered_bytes = delta.delivered_bytes
    if delta.HasField("finish"):
        whole.finish.CopyFrom(delta.finish)


def calls(delta: pb.Delta) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments_json)) for call in delta.tool_calls]


OSLO = ("get_weather", {"city": "Oslo", "days": 2})
EVERYTHING = f"<think>\nWo? Köln?\n</think>\n\nLet me see.\n{CALL}\n{CALL}"


async def test_thoughts_text_and_calls(start):
    made = asked()
    (whole,) = (await answer(start, job(made), EVERYTHING)).values()
    assert (whole.reasoning, whole.text) == ("Wo? Köln?", "Let me see.")
    assert calls(whole) == [OSLO, OSLO]
    assert whole.finish.reason == pb.FINISH_REASON_TOOL_CALLS
    assert len({call.id for call in whole.tool_calls}) == 2


async def test_resumed_behind_every_delta_it_says_the_rest_with_the_same_ids(start):
    one = job(asked())
    (whole,) = (await answer(start, one, EVERYTHING)).values()
    runtime = FakeRuntime(script=EVERYTHING)
    runtime.permits = threading.Semaphore(0)
    streams = start(runtime, drafts=0).submit(one)
    told, cuts = pb.Delta(), []
    while not told.HasField("finish"):
        runtime.permits.release()
        add(told, requests.delta(0, (await streams.next())[1], VOCABULARY).delta)
        before = pb.Delta()
        before.CopyFrom(told)
        cuts.append(before)
    assert told == whole
    assert len(cuts) > 50
    engine = start(FakeRuntime(script=EVERYTHING))
    for before in cuts[:-1]:
        made = asked()
        made.resume.choices.add(
            index=0, token_ids=before.token_ids, delivered_bytes=before.delivered_bytes
        )
        streams = engine.submit(job(made))
        gained = None
        while gained is None or gained.ended is None:
            _, gained = await streams.next()
            delta = requests.delta(0, gained, VOCABULARY).delta
            add(before, delta)
        assert before == whole


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


def test_what_the_template_has_no_place_for_is_read_as_json():
    prompts = Prompts(VOCABULARY, BUILTIN["chatml"])
    assert prompts.family(asked().chat).name == "generic"
    assert Prompts(VOCABULARY, BUILTIN["hermes"]).family(asked().chat).name == "hermes"
    named = Prompts(VOCABULARY, BUILTIN["chatml"], tool_format="granite")
    assert named.family(asked().chat).name == "granite"


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


def test_a_format_of_the_operators_makes_another_model():
    own = templates.with_format("sha256:x", "")
    made = {templates.with_format("sha256:x", name) for name in ("", "hermes", "granite")}
    assert own == "sha256:x"
    assert len(made) == 3


class Harmony(FakeVocabulary):
    """With tokens that its users' texts cannot make."""

    words = ("start", "channel", "message", "end", "call", "constrain", "return")
    texts = tuple(f"<|{word}|>" for word in words)
    size = 258 + len(texts)
    special: Mapping[str, SpecialToken] = {
        **FakeVocabulary.special,
        **{text: SpecialToken(258 + at) for at, text in enumerate(texts)},
    }

    def piece(self, token: int, *, special: bool) -> bytes:
        if token < 258:
            return super().piece(token, special=special)
        return self.texts[token - 258].encode() if special else b""

    def tokens(self, text: str) -> list[int]:
        parts = re.split("(<[|][a-z]+[|]>)", text)
        return [
            token
            for at, part in enumerate(parts)
            for token in ([self.special[part].id] if at % 2 else part.encode())
        ]


class Saying(FakeRuntime):
    """Says these tokens."""

    def __init__(self, vocabulary: Harmony, text: str) -> None:
        super().__init__(script="")
        self.vocabulary, self._say = vocabulary, vocabulary.tokens(text)

    def _next_of_script(self, tokens: list[int]) -> int:
        position = tokens[::-1].index(BOS)
        return self._say[position] if position < len(self._say) else EOS


HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
    "{{ tools }}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


@pytest.mark.parametrize("mode", [_Mode.MODE_AUTO, _Mode.MODE_REQUIRED])
@pytest.mark.parametrize("name", ["get_weather", "nobody"])
async def test_special_tokens_of_the_format_stay_and_its_stops_end_the_turn(start, mode, name):
    vocabulary = Harmony()
    made = asked()
    made.chat.tool_choice.mode = mode
    prompt = Prompts(vocabulary, HARMONY, tool_format="harmony").made(made)
    assert prompt.begun == "<|start|>assistant"
    grammar, reading, ends = answers.expected(made, prompt, Constraints(vocabulary), vocabulary)
    assert ends == {vocabulary.special[text].id for text in ("<|call|>", "<|return|>")}
    one = requests.job(made, [BOS], pb.SamplingParams(), None, grammar, reading, ends)
    say = (
        "<|channel|>analysis<|message|>Oslo?<|end|><|start|>assistant<|channel|>commentary "
        f"to=functions.{name} <|constrain|>json<|message|>"
        '{"city": "Oslo", "days": 2}<|call|>and never this'
    )
    streams = start(Saying(vocabulary, say)).submit(one)
    whole = pb.Delta()
    while not whole.HasField("finish"):
        add(whole, requests.delta(0, (await streams.next())[1], vocabulary).delta)
    assert (whole.reasoning, whole.text) == ("Oslo?", "")
    ((called, arguments),) = calls(whole)
    assert called in TOOLS
    assert (called, arguments) == OSLO or name == "nobody"
    assert whole.finish.reason == pb.FINISH_REASON_TOOL_CALLS


async def test_a_stop_of_the_format_ends_the_turn(start):
    vocabulary = Harmony()
    made = asked(tools=())
    prompt = Prompts(vocabulary, HARMONY, tool_format="harmony").made(made)
    expected = answers.expected(made, prompt, Constraints(vocabulary), vocabulary)
    one = requests.job(made, [BOS], pb.SamplingParams(), None, *expected)
    say = "<|channel|>final<|message|>Hi!<|return|>and never this"
    streams = start(Saying(vocabulary, say)).submit(one)
    whole = pb.Delta()
    while not whole.HasField("finish"):
        add(whole, requests.delta(0, (await streams.next())[1], vocabulary).delta)
    assert whole.text == "Hi!"


class Beginning(FakeRuntime):
    """Says the script and then what it likes."""

    def _logits(self, tokens: list[int]) -> Logits:
        script = self._script or ""
        if tokens[::-1].index(BOS) >= len(script):
            self._script = None
        try:
            return super()._logits(tokens)
        finally:
            self._script = script


@pytest.mark.parametrize("script", ["<think>xxxxxxxx", "a\n<tool_call>"])
async def test_what_was_not_chosen_is_no_surprise_when_it_is_resumed(start, script):
    """Mirostat's state depends on the logits of tokens that were chosen, and on their masks."""

    async def run(ids: Iterable[int]) -> list[int]:
        made = asked()
        made.chat.reasoning_budget = 4
        long = {"type": "string", "minLength": 40, "maxLength": 60}
        note = {"type": "object", "properties": {"text": long}, "required": ["text"]}
        made.chat.tools[1].parameters_json_schema = json.dumps(note)
        made.chat.tool_choice.allowed_names.append("get_time")
        made.sampling.temperature = 1.0
        made.sampling.mirostat.version = 2
        made.sampling.mirostat.tau = 3.0
        made.stop.max_tokens = 80
        if ids:
            made.resume.choices.add(index=0, token_ids=ids)
        streams = start(Beginning(script=script)).submit(job(made))
        found, ended = list(ids), False
        while not ended:
            _, gained = await streams.next()
            found += gained.token_ids
            ended = gained.ended is not None
        return found

    whole = await run([])
    for cut in range(1, len(whole), 7):
        assert await run(whole[:cut]) == whole
