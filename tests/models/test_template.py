"""The chat template: golden conversations, and agreement with the corpus's own renderer."""

from __future__ import annotations

import json
import random

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.demo.chat import TEMPLATE, render
from models.demo.corpus import Corpus

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def template() -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def fail(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = fail
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def test_plain_question(template: jinja2.Template) -> None:
    text = template.render(messages=[{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_content_in_parts(template: jinja2.Template) -> None:
    text = template.render(
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "you"}],
            }
        ]
    )
    assert text == "<|im_start|>user\nHi you<|im_end|>\n"


def test_images_are_refused(template: jinja2.Template) -> None:
    with pytest.raises(jinja2.TemplateError, match="text only"):
        template.render(
            messages=[
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
            ]
        )


def test_unknown_role_is_refused(template: jinja2.Template) -> None:
    with pytest.raises(jinja2.TemplateError, match="unknown role"):
        template.render(messages=[{"role": "wizard", "content": "x"}])


def test_thinking_switch(template: jinja2.Template) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    on = template.render(messages=messages, enable_thinking=True, add_generation_prompt=True)
    off = template.render(messages=messages, enable_thinking=False, add_generation_prompt=True)
    assert (
        on
        == "<|im_start|>system\nBe kind.\nThink first.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert off == on.replace("\nThink first.", "")


def test_past_thoughts_are_dropped(template: jinja2.Template) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello!"},
    ]
    assert (
        template.render(messages=messages)
        == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
    )


@pytest.mark.parametrize("arguments", [{"city": "Oslo"}, '{"city": "Oslo"}'])
def test_tools_calls_and_results(template: jinja2.Template, arguments: object) -> None:
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": "rainy"},
    ]
    assert template.render(messages=messages, tools=[WEATHER], add_generation_prompt=True) == (
        "<|im_start|>system\nYou can call these tools:\n<tools>\n"
        '{"name": "get_weather", "description": "Get the weather", "parameters": {"city": "string", "unit": ["c", "f"]}}\n'
        "</tools><|im_end|>\n<|im_start|>user\nWeather in Oslo?<|im_end|>\n<|im_start|>assistant\n"
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response>\n<tool_response>\nrainy\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_template_and_corpus_agree(template: jinja2.Template) -> None:
    corpus = Corpus(random.Random(4))
    for i in range(400):
        chat = corpus.tool_chat() if i % 2 else corpus.talk.any()
        wanted = "".join(text for text, _ in render(chat))
        assert template.render(messages=chat.messages, tools=chat.tools or None) == wanted
