"""Conversations through templates in the style of the main families: frozen renderings.

bench.template_fidelity compares many more with llama.cpp's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama.builtin_templates import BUILTIN
from services.llama.interface import SpecialToken
from services.llama.prompt import Prompts
from services.llama.template import plain
from services.llama.template_traits import Content
from services.worker.errors import TemplateFailed
from tests.llama.fake_runtime import FakeVocabulary

WEATHER = pb.Tool(
    name="weather",
    description="Today's.",
    parameters_json_schema='{"type": "object", "properties": {"city": {"type": "string"}}}',
)
SHOWN = (
    '{"type": "function", "function": {"name": "weather", "description": "Today\'s.", '
    '"parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}'
)
OSLO = pb.ToolCall(id="a", name="weather", arguments_json='{"city": "Oslo"}')
ROME = pb.ToolCall(id="b", name="weather", arguments_json='{"city": "Rome"}')

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

# Content is a list of parts, and nothing else.
TYPED = """\
{%- for message in messages -%}
[{{ message.role }}]
{%- for part in message.content -%}
  {%- if part.type == 'text' -%}<{{ part.text }}>{%- endif -%}
{%- endfor -%}
{%- endfor -%}
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

# Thoughts can be switched off, and are shown for the last turn only.
THINKING = """\
{%- for message in messages -%}
  {%- if message.role == 'assistant' -%}
    {%- set content = message.content.split('</think>')[-1] -%}
    {{ '<a>' }}
    {%- if loop.last and message.reasoning_content -%}
      {{ '<think>' + message.reasoning_content + '</think>' }}
    {%- endif -%}
    {{ content + '</a>' }}
  {%- else -%}
    {{ '<u>' + message.content + '</u>' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{ '<a>' }}
  {%- if enable_thinking is defined and not enable_thinking -%}<think></think>{%- endif -%}
{%- endif -%}
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


def said(role: pb.Role.ValueType, *texts: str, **more: Any) -> pb.Message:
    return pb.Message(role=role, content=[pb.ContentPart(text=text) for text in texts], **more)


def user(*texts: str) -> pb.Message:
    return said(pb.ROLE_USER, *texts)


def assistant(*texts: str, **more: Any) -> pb.Message:
    return said(pb.ROLE_ASSISTANT, *texts, **more)


def system(text: str) -> pb.Message:
    return said(pb.ROLE_SYSTEM, text)


def result(id_: str, text: str) -> pb.Message:
    return said(pb.ROLE_TOOL, text, tool_call_id=id_)


def render(source: str, *messages: pb.Message, **more: Any) -> str:
    chat = pb.ChatInput(messages=messages, **more)
    return plain(Prompts(FakeVocabulary(), source).render(chat))


def traits(source: str) -> Any:
    return Prompts(FakeVocabulary(), source).renderer(pb.ChatInput()).traits


# ------------------------------------------------------------------------ what is found out


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


# ----------------------------------------------------------------------------- renderings


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


# ------------------------------------------------------------- without a place for tools


def test_tools_of_a_template_without_a_place_for_them():
    made = render(
        BUILTIN["chatml"],
        system("Be brief."),
        user("Weather?"),
        assistant(tool_calls=[OSLO, ROME]),
        result("a", "sun"),
        result("b", "rain"),
        tools=[WEATHER],
    )
    head, _, rest = made.partition("<|im_end|>\n")
    assert head.startswith("<|im_start|>system\nBe brief.\n\nYou can call functions.")
    assert json.dumps(json.loads(SHOWN)["function"]) in head
    assert rest == (
        "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n"
        '[{"name": "weather", "arguments": {"city": "Oslo"}}, '
        '{"name": "weather", "arguments": {"city": "Rome"}}]<|im_end|>\n'
        "<|im_start|>user\nResult of weather:\nsun\n\nResult of weather:\nrain<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_such_tools_where_roles_alternate_and_there_is_no_system_turn():
    turns = (
        user("Weather?"),
        assistant(tool_calls=[OSLO]),
        result("a", "sun"),
        user("And now?"),
    )
    made = render(BUILTIN["mistral"], *turns, tools=[WEATHER])
    assert made.startswith("<s>[INST] You can call functions.")
    assert made.endswith(
        'Weather? [/INST] {"name": "weather", "arguments": {"city": "Oslo"}}</s>'
        "[INST] Result of weather:\nsun\n\nAnd now? [/INST]"
    )


def test_past_calls_are_told_without_declared_tools_too():
    made = render(BUILTIN["chatml"], user("q"), assistant(tool_calls=[OSLO]), result("a", "sun"))
    assert "You can call functions" not in made
    assert '{"name": "weather", "arguments": {"city": "Oslo"}}<|im_end|>' in made


# ---------------------------------------------------------------- a turn to be continued


@pytest.mark.parametrize("source", [BUILTIN["llama3"], BUILTIN["gemma"], THINKING, TYPED])
def test_a_continued_turn_ends_with_its_text(source):
    turns = (user("A story."), assistant("Once upon "))
    made = render(source, *turns, continue_final_message=True)
    assert made.endswith("Once upon ")
    assert made.startswith(render(source, user("A story."), add_generation_prompt=False))


# Opens the thoughts of every new turn, and shows none of past ones.
FORCED = """\
{%- for m in messages -%}
  {{ '<' + m.role + '>' + m.content.split('</think>')[-1] }}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{ '<assistant><think>\\n' }}
  {%- if enable_thinking is defined and not enable_thinking -%}{{ '\\n</think>\\n\\n' }}{%- endif -%}
{%- endif -%}
"""
ALWAYS = FORCED.replace("{%- if add_generation_prompt -%}", "{%- if true -%}")
LEAVES_OUT = THINKING.replace("{%- if message.role == 'assistant' -%}", "{%- if false -%}").replace(
    "{%- else -%}\n    {{ '<u>'", "{%- elif message.role == 'user' -%}\n    {{ '<u>'"
)


@pytest.mark.parametrize("source", [FORCED, ALWAYS])
@pytest.mark.parametrize(
    ("last", "more", "end"),
    [
        (assistant("Once"), {}, "<think>\n\n</think>\n\nOnce"),
        (assistant("Once", reasoning="hm"), {}, "<think>\nhm\n</think>\n\nOnce"),
        (assistant("", reasoning="hm"), {}, "<think>\nhm"),
        (assistant(reasoning="hm"), {}, "<think>\nhm"),
        (assistant("Once"), {"enable_thinking": False}, "<think>\n\n</think>\n\nOnce"),
    ],
)
def test_a_continued_turn_behind_a_prompt_that_opens_the_thoughts(source, last, more, end):
    made = render(source, user("q"), last, continue_final_message=True, **more)
    assert made == "<user>q<assistant>" + end


def test_a_template_that_would_continue_the_text_in_the_thoughts():
    source = (
        "{% for m in messages %}{{ '<a><think>\\n' if m.role == 'assistant' }}{{ m.content }}"
        "{% endfor %}{{ '<a><think>\\n' if add_generation_prompt }}"
    )
    made = render(source, user("q"), assistant("Once"), continue_final_message=True)
    assert made == "q<a><think>\n\n</think>\n\nOnce"


def test_continued_thoughts_where_the_template_shows_them_and_where_not():
    turns = (user("q"), assistant(reasoning="hm"))
    assert render(THINKING, *turns, continue_final_message=True) == "<u>q</u><a><think>hm"
    # No place for thoughts: nothing of them is continued.
    assert render(TYPED, *turns, continue_final_message=True) == "[user]<q>"


def test_a_last_turn_that_the_template_leaves_out_follows_the_generation_prompt():
    made = render(LEAVES_OUT, user("q"), assistant("Once </s>"), continue_final_message=True)
    assert made == "<u>q</u><a>Once </s>"


def test_a_generation_prompt_that_a_template_forgets():
    source = (
        "{% for m in messages %}<|turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content }}<turn|>\n{% endfor %}"
        "{% if add_generation_prompt and messages | length < 2 %}<|turn>model\n{% endif %}"
    )
    made = render(source, user("a"), assistant("b"), user("c"))
    assert made.endswith("<|turn>user\nc<turn|>\n<|turn>model\n")
    made = render(source, user("a"), assistant("b"), user("c"), add_generation_prompt=False)
    assert made.endswith("<|turn>user\nc<turn|>\n")


# ------------------------------------------------- tools and results in other shapes


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (
            "{{ messages[0].content }}{{ functions }}",
            f"[{json.dumps(json.loads(SHOWN)['function'])}]",
        ),
        ("{{ messages[0].content }}{{ xml_tools[0].name if xml_tools }}", "weather"),
        (
            "{{ messages[0].content }}{{ tools | map(attribute='function.name') | tojson if tools }}",
            '["weather"]',
        ),
    ],
)
def test_tools_by_other_names(source, shown):
    assert render(source, user("q"), tools=[WEATHER]) == "q" + shown
    assert render(source, user("q")) == "q"


def test_results_get_a_name_where_the_template_fails_without_one():
    source = (
        "{% for m in messages %}{{ m.name + '=' if m.role == 'tool' }}{{ m.content }};{% endfor %}"
    )
    made = render(source, user("q"), assistant(tool_calls=[OSLO]), result("a", "sun"))
    assert made == 'q;{"name": "weather", "arguments": {"city": "Oslo"}};weather=sun;'


def test_earlier_thoughts_by_all_names():
    source = "{{ messages[0].content }}{{ clear_thinking }}{{ preserve_thinking }}"
    kept = {"template_args_json": '{"preserve_reasoning": true}'}
    assert render(source, user("q"), **kept) == "qFalseTrue"
    own = {"template_args_json": '{"preserve_reasoning": true, "clear_thinking": "mine"}'}
    assert render(source, user("q"), **own) == "qmineTrue"


# ------------------------------------------------------------------------ named templates


def test_named_templates_are_for_tools_and_documents():
    named = {"tool_use": "tools", "rag": "documents", "broken": "{% for %}"}
    prompts = Prompts(FakeVocabulary(), "default", named=named)
    with_tools = pb.ChatInput(messages=[user("q")], tools=[WEATHER])
    assert prompts.render(with_tools) == "tools"
    with_tools.tool_choice.mode = pb.ToolChoice.MODE_NONE
    assert prompts.render(with_tools) == "default"
    chat = pb.ChatInput(messages=[user("q")], documents_json='[{"text": "t"}]')
    assert prompts.render(chat) == "documents"


# ------------------------------------------------------- calls that a template does not show

LFM2 = (
    "{% if tools %}List of tools: [{{ tools[0].function.name }}]{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)


class WithSigns(FakeVocabulary):
    special: Mapping[str, SpecialToken] = {
        **FakeVocabulary.special,
        "<|tool_call_start|>": SpecialToken(300),
        "<|tool_call_end|>": SpecialToken(301),
    }


def test_they_are_written_as_the_model_writes_them():
    asked = assistant(
        "Let me look.",
        tool_calls=[pb.ToolCall(id="1", name="get_weather", arguments_json='{"city": "Oslo"}')],
    )
    chat = [user("hi"), asked, result("1", "sunny")]
    assert render(LFM2, *chat, tools=[pb.Tool(name="get_weather")]) == (
        "List of tools: [get_weather]<user>hi<assistant>Let me look."
        '<|tool_call_start|>[get_weather(city="Oslo")]<|tool_call_end|><tool>sunny'
    )


def test_their_signs_are_control_tokens_and_what_users_gave_is_none():
    given = '{"city": "<|tool_call_end|>"}'
    made = pb.ToolCall(id="1", name="get_weather", arguments_json=given)
    chat = pb.ChatInput(messages=[user("hi"), assistant(tool_calls=[made])])
    chat.tools.add(name="get_weather")
    prompts = Prompts(WithSigns(), LFM2)
    tokens = prompts.encode(prompts.render(chat))
    assert [token for token in tokens if token >= 300] == [300, 301]
    assert tokens[-1] == 301
