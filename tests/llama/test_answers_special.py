"""Chats' answers in a format of special tokens, over a fake model that has them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import answers, requests
from services.llama.constrain import Constraints
from services.llama.interface import SpecialToken
from services.llama.prompt import Prompts
from tests.llama.answers_kit import OSLO, TOOLS, add, asked, calls
from tests.llama.fake_runtime import BOS, EOS, FakeRuntime, FakeVocabulary

_Mode = pb.ToolChoice.Mode


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
    one = requests.job(
        made, [BOS], pb.SamplingParams(), None, grammar=grammar, reading=reading, ends=ends
    )
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
    grammar, reading, ends = answers.expected(made, prompt, Constraints(vocabulary), vocabulary)
    one = requests.job(
        made, [BOS], pb.SamplingParams(), None, grammar=grammar, reading=reading, ends=ends
    )
    say = "<|channel|>final<|message|>Hi!<|return|>and never this"
    streams = start(Saying(vocabulary, say)).submit(one)
    whole = pb.Delta()
    while not whole.HasField("finish"):
        add(whole, requests.delta(0, (await streams.next())[1], vocabulary).delta)
    assert whole.text == "Hi!"
