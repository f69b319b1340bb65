"""Conversations to be rendered, and templates that several tests render them with."""

from __future__ import annotations

from typing import Any

from protos.inference.v1 import inference_pb2 as pb
from services.llama.marks import plain
from services.llama.prompt import Prompts
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

# Content is a list of parts, and nothing else.
TYPED = """\
{%- for message in messages -%}
[{{ message.role }}]
{%- for part in message.content -%}
  {%- if part.type == 'text' -%}<{{ part.text }}>{%- endif -%}
{%- endfor -%}
{%- endfor -%}
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
