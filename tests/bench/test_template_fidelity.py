from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

from bench.conversations import CONVERSATIONS
from bench.differences import REASONS, reason
from bench.template_fidelity import Constants, ours
from bench.template_report import BEGIN, END, Rendering, difference, put, section, table
from services.llama.builtin_templates import BUILTIN
from services.llama.prompt import Prompts


def rendering(template: str, conversation: str, mine: str | None, other: str | None) -> Rendering:
    return Rendering(template, conversation, mine, other, "no" if mine is None else "")


@pytest.mark.parametrize("name", sorted(CONVERSATIONS))
def test_every_conversation_is_one_that_the_edge_takes(name):
    prompts = Prompts(Constants("<s>", "</s>"), BUILTIN["hermes"])
    text, why = ours(prompts, CONVERSATIONS[name])
    assert not why
    assert text is not None
    said = CONVERSATIONS[name]["messages"][0]["content"]
    assert (said if isinstance(said, str) else said[0]["text"]) in text


def test_what_the_template_refuses_has_a_reason():
    prompts = Prompts(Constants("<s>", "</s>"), "{{ raise_exception('never') }}")
    assert ours(prompts, CONVERSATIONS["plain"]) == (None, "never")


def test_the_table_counts_and_names_what_nobody_explained():
    found = [
        rendering("t1", "tools", "a", "a"),
        rendering("t1", "calls", None, None),
        rendering("openai-gpt-oss-120b", "calls", "a", "b"),
        rendering("fireworks-ai-llama-3-firefunction-v2", "tools", "Weather of a city", "b"),
        rendering("google-gemma-2-2b-it", "tools", "a", "b"),
        rendering("t2", "tools", "a", "b"),
        rendering("meta-llama-x", "calls", "a", None),
    ]
    text = table(found)
    assert "| calls one by one | 1 | openai-gpt-oss-120b |" in text
    assert "| UNEXPLAINED | 2 | google-gemma-2-2b-it, t2 |" in text
    assert "identical: 2 of 7 (28.6 %); of these 1 that neither renders" in text
    assert "where llama-server renders all that was said: 2 of 5 (40.0 %)" in text
    assert "conversations that everybody has: 1 of 4 (25.0 %)" in text
    assert "of these, where llama-server renders all that was said: 1 of 3 (33.3 %)" in text


def test_a_difference_can_be_read():
    shown = difference(rendering("t", "plain", "a\nb\n", "a\nc\n"))
    assert "-'c\\n'" in shown
    assert "+'b\\n'" in shown
    assert "ours: no" in difference(rendering("t", "plain", None, "x"))


def test_reasons_name_conversations_that_exist():
    for why in REASONS:
        for _, patterns in why.where:
            for pattern in patterns.split():
                assert any(fnmatch(name, pattern) for name in CONVERSATIONS), (why.name, pattern)
    assert reason("no such template", "tools") is None


def test_a_page_has_the_figures_and_the_reasons():
    found = [
        rendering("t1", "plain", "a", "a"),
        rendering("openai-gpt-oss-120b", "calls", "a", "b"),
        rendering("meta-llama-x", "calls", "a", None),
        rendering("t1", "continue", "a", "a"),
    ]
    page = f"before\n{BEGIN}\nold\n{END}\nafter"
    made = put(page, section(found))
    assert "| all 3, so also parts" in made
    assert "| **1 of 1 (100.0 %)** |" in made
    assert "| continued turns alone | 1 of 1 (100.0 %) |" in made
    assert f"| calls one by one | 1 |  | {REASONS[3].text} |" in made
    assert "old" not in made
    assert (made[:7], made[-6:]) == ("before\n", "\nafter")
    assert put(made, section(found)) == made
    with pytest.raises(ValueError, match="no marks"):
        put("before", "")


def test_the_page_that_tells_is_of_these_reasons():
    page = (Path(__file__).parents[2] / "docs" / "templates.md").read_text(encoding="utf-8")
    for why in REASONS:
        assert f"| {why.text} |" in page, why.name
