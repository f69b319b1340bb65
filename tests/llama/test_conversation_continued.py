"""Turns to be continued, and the prompt for a new one, through templates of all kinds."""

from __future__ import annotations

import pytest

from services.llama.builtin_templates import BUILTIN
from tests.llama.conversation_kit import THINKING, TYPED, assistant, render, user


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
