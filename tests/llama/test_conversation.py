"""Conversations through templates in the style of the main families: frozen renderings.

bench.template_fidelity compares many more with llama.cpp's.
"""

from __future__ import annotations

from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama.builtin_templates import BUILTIN
from services.llama.prompt import Prompts
from services.llama.template_traits import Content
from services.worker.errors import TemplateFailed
from tests.llama.conversation_kit import (
    OSLO,
    ROME,
    SHOWN,
    THINKING,
    TYPED,
    WEATHER,
    assistant,
    render,
    result,
    said,
    system,
    user,
)
from tests.llama.fake_runtime import FakeVocabulary

# One call at a time, tools in the user's turn, arguments called parameters.
LLAMA3_TOOLS = """\
{{- bos_token -}}
{%- if messages[0].role == 'system' -%}
  {%- set system = messages[0].content | trim -%}{%- set messages = messages[1:] -%}
{%- else -%}{%- set system = '' -%}{%- endif -%}
<|system|>{{ system }}<|eot|>
{%- if tools -%}
  {%- set first = messages[0].content -%}{%- set messages = messages[1:] -%}
  <|user|>Functions:
  {%- for tool in tools %} {{ tool | tojson }}{% endfor %} {{ first }}<|eot|>
{%- endif -%}
{%- for message in messages -%}
  {%- if message.tool_calls -%}
    {%- if message.tool_calls | length != 1 -%}{{ raise_exception('one call at once') }}{%- endif -%}
    {%- set call = message.tool_calls[0].function -%}
    <|assistant|>{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|eot|>
  {%- elif message.role == 'tool' -%}
    <|ipython|>{{ message.content | tojson }}<|eot|>
  {%- else -%}
    {{ '<|' + message.role + '|>' + message.content | trim + '<|eot|>' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""

# Arguments are put in as a text.
STRINGS = """\
{%- for message in messages -%}
  {%- for call in message.tool_calls or [] -%}
    {{ '>>>' + call.function.name + '\\n' + call.function.arguments }}
  {%- endfor -%}
  {%- if message.content -%}{{ '>>>' + message.role + '\\n' + message.content }}{%- endif -%}
{%- endfor -%}
{%- for tool in tools or [] -%}{{ tool.function.name }};{%- endfor -%}
"""

# Thoughts in a field of their own, which excludes a text beside a call.
CHANNELS = """\
{%- for message in messages -%}
  {%- if message.tool_calls -%}
    {%- if message.content and message.thinking -%}{{ raise_exception('not both') }}{%- endif -%}
    {{ '(' + (message.content or message.thinking or '') + ')' }}
    {{- message.tool_calls[0].function.name + message.tool_calls[0].function.arguments | tojson }}
  {%- elif message.role in ['developer', 'system'] -%}
    {{ '!' + message.role + message.content }}
  {%- else -%}
    {{ '|' + message.content }}
  {%- endif -%}
{%- endfor -%}
"""

# Thoughts are a part of the content.
PARTS = """\
{%- for message in messages -%}
  {%- if message.content is string -%}
    {{ '[' + message.content + ']' }}
  {%- else -%}
    {%- for part in message.content -%}
      {{ part.text if part.type == 'text' else '[THINK]' + part.thinking + '[/THINK]' }}
    {%- endfor -%}
  {%- endif -%}
{%- endfor -%}
"""

# Results belong to the message that called.
RESPONSES = """\
{%- for message in messages -%}
  {%- for call in message.tool_calls or [] -%}call:{{ call.function.name }};{%- endfor -%}
  {%- for result in message.tool_responses or [] -%}
    {{ result.name }}={{ result.response.sky }};
  {%- endfor -%}
  {%- if message.role != 'tool' -%}{{ message.content }}.{%- endif -%}
{%- endfor -%}
"""


def traits(source: str) -> Any:
    return Prompts(FakeVocabulary(), source).renderer(pb.ChatInput()).traits


# -------------------------------------------------------------------------------- what is found out


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (BUILTIN["hermes"], {"tools": True, "tool_calls": True, "object_arguments": True}),
        (BUILTIN["chatml"], {"tools": False, "tool_calls": False, "system": True}),
        (BUILTIN["mistral"], {"tools": False, "system": False}),
        (LLAMA3_TOOLS, {"tools": True, "parallel_calls": False, "object_arguments": True}),
        (STRINGS, {"tools": True, "object_arguments": False, "tool_call_ids": False}),
        (CHANNELS, {"developer": True, "calls_with_both": False, "thoughts": ("thinking",)}),
        (PARTS, {"thinking_parts": True, "tool_calls": False}),
        (RESPONSES, {"tool_role": False, "object_arguments": True}),
        (THINKING, {"developer": False, "thinking_parts": False}),
    ],
)
def test_traits(source, expected):
    found = traits(source)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("source", "content"),
    [
        (BUILTIN["chatml"], Content(text=True, parts=False)),
        (TYPED, Content(text=False, parts=True)),
        (PARTS, Content(text=True, parts=True)),
    ],
)
def test_content(source, content):
    assert traits(source).content["user"] == content


def test_a_template_that_cannot_be_asked_gets_what_most_take():
    found = traits("{{ needed | tojson }}{{ messages[0].content }}")
    assert found.system
    assert found.tools


# --------------------------------------------------------------------------------------- renderings


def test_hermes():
    made = render(
        BUILTIN["hermes"],
        system("Be brief."),
        user("Weather?"),
        assistant(tool_calls=[OSLO, ROME]),
        result("a", "sun"),
        result("b", "rain"),
        tools=[WEATHER],
    )
    head, _, rest = made.partition("<|im_end|>\n")
    assert head.startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert f"<tools>\n{SHOWN}\n</tools>" in head
    assert rest == (
        "<|im_start|>user\nWeather?<|im_end|>\n"
        "<|im_start|>assistant\n"
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsun\n</tool_response>\n"
        "<tool_response>\nrain\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_llama3_with_tools_and_several_calls_one_after_the_other():
    made = render(
        LLAMA3_TOOLS,
        user("Weather?"),
        assistant(tool_calls=[OSLO, ROME]),
        result("b", "rain"),
        result("a", "sun"),
        tools=[WEATHER],
    )
    assert made == (
        f"<s><|system|><|eot|><|user|>Functions: {SHOWN} Weather?<|eot|>"
        '<|assistant|>{"name": "weather", "parameters": {"city": "Oslo"}}<|eot|>'
        '<|ipython|>"sun"<|eot|>'
        '<|assistant|>{"name": "weather", "parameters": {"city": "Rome"}}<|eot|>'
        '<|ipython|>"rain"<|eot|><|assistant|>'
    )


def test_strict_alternation():
    made = render(
        BUILTIN["mistral"], system("Be brief."), user("Hi"), assistant("Yes?"), user("Bye")
    )
    assert made == "<s>[INST] Be brief.\n\nHi [/INST] Yes?</s>[INST] Bye [/INST]"
    with pytest.raises(TemplateFailed, match="must alternate"):
        render(BUILTIN["mistral"], user("Hi"), user("Hi again"))


def test_content_as_the_template_takes_it():
    assert render(TYPED, system("a"), user("b", "c")) == "[system]<a>[user]<b><c>"
    assert render(BUILTIN["llama3"], user("b", "c"), add_generation_prompt=False) == (
        "<s><|start_header_id|>user<|end_header_id|>\n\nb\nc<|eot_id|>"
    )


def test_arguments_as_a_text_stay_as_they_were_written():
    call = pb.ToolCall(id="a", name="weather", arguments_json='{"city":"Ø"}')
    assert render(STRINGS, user("q"), assistant("Well.", tool_calls=[call]), tools=[WEATHER]) == (
        '>>>user\nq>>>weather\n{"city":"Ø"}>>>assistant\nWell.weather;'
    )


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({}, "<a>"),
        ({"enable_thinking": True}, "<a>"),
        ({"enable_thinking": False}, "<a><think></think>"),
        ({"reasoning_effort": "none"}, "<a><think></think>"),
        ({"reasoning_effort": "none", "enable_thinking": True}, "<a>"),
        ({"reasoning_effort": "high"}, "<a>"),
    ],
)
def test_thinking_is_switched(more, end):
    assert render(THINKING, user("q"), **more) == "<u>q</u>" + end


@pytest.mark.parametrize(
    ("variable", "on", "off"),
    [("thinking", "True", "False"), ("thinking_mode", "", "disabled")],
)
def test_thinking_is_switched_by_other_names_too(variable, on, off):
    source = "{{ messages[0].content }}{{ " + variable + " }}"
    assert render(source, user("q"), enable_thinking=True) == "q" + on
    assert render(source, user("q"), enable_thinking=False) == "q" + off
    assert render(source, user("q")) == "q"
    knows = source + "{{ enable_thinking }}"
    assert render(knows, user("q"), enable_thinking=True) == "qTrue"


def test_effort_by_either_name_and_dates():
    source = "{{ messages[0].content }}{{ reasoning_effort }}{{ reasoning_strength }}{{ date_string | length }}"
    assert render(source, user("q"), reasoning_effort="low") == "qlowlow11"
    given = {"template_args_json": '{"date_string": "1 May"}'}
    assert render(source, user("q"), **given) == "q5"


def test_past_thoughts():
    turns = (user("q"), assistant("Answer", reasoning="hm"))
    assert render(THINKING, *turns, add_generation_prompt=False) == (
        "<u>q</u><a><think>hm</think>Answer</a>"
    )
    assert render(THINKING, *turns, user("r")) == "<u>q</u><a>Answer</a><u>r</u><a>"


def test_thoughts_beside_calls():
    made = render(
        CHANNELS,
        said(pb.ROLE_DEVELOPER, "Be kind."),
        user("q"),
        assistant("Let me see", tool_calls=[OSLO], reasoning="hm"),
        result("a", "sun"),
        tools=[WEATHER],
    )
    # This template shows no tools: they come in the instruction, and calls as plain JSON.
    assert made.endswith(
        '|q|Let me see\n\n{"name": "weather", "arguments": {"city": "Oslo"}}|Result of weather:\nsun'
    )
    made = render(CHANNELS, user("q"), assistant("So", tool_calls=[OSLO], reasoning="hm"))
    assert made == '|q(hm)weather{"city": "Oslo"}'


def test_thoughts_as_parts_of_the_content():
    turns = (user("q"), assistant("Answer", reasoning="hm"), user("r"))
    assert render(PARTS, *turns) == "[q][THINK]hm[/THINK]Answer[r]"
    assert render(PARTS, user("q"), assistant("Answer"), user("r")) == "[q][Answer][r]"


def test_results_in_the_message_that_called():
    made = render(
        RESPONSES,
        user("q"),
        assistant(tool_calls=[OSLO, ROME]),
        result("b", '{"sky": "grey"}'),
        result("a", '{"sky": "blue"}'),
        assistant("Both fine"),
    )
    assert made == "q.call:weather;call:weather;weather=blue;weather=grey;Both fine."


def test_developer_is_system_unless_the_template_knows_it():
    developer = said(pb.ROLE_DEVELOPER, "x")
    assert render(BUILTIN["chatml"], developer, user("q"), add_generation_prompt=False) == (
        "<|im_start|>system\nx<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
    )
    assert render(CHANNELS, developer, user("q")) == "!developerx|q"
    # One that takes it for the user's is not what callers mean by it.
    source = (
        "{% for m in messages %}{{ '|U' if m.role in ['user', 'developer'] else '|S' }}"
        "{{ m.content }}{% endfor %}"
    )
    assert render(source, developer, user("q")) == "|Sx|Uq"


def test_earlier_thoughts_by_all_names():
    source = "{{ messages[0].content }}{{ clear_thinking }}{{ preserve_thinking }}"
    kept = {"template_args_json": '{"preserve_reasoning": true}'}
    assert render(source, user("q"), **kept) == "qFalseTrue"
    own = {"template_args_json": '{"preserve_reasoning": true, "clear_thinking": "mine"}'}
    assert render(source, user("q"), **own) == "qmineTrue"
