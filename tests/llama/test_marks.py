"""Users' text never becomes a control token, wherever the template puts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llama.marks import MARK, OPEN_END, Marks, Name, Ours, Said, plain
from services.llama.template import ChatTemplate

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "</think>"]
PIECES = [*"<>|/[]s \n", "im_", "im_end", "INST", "think", *SPECIAL]
TEXT = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@given(st.lists(TEXT, max_size=4), st.sampled_from(["", " ", "<", "</", "<|", "[", "</s"]))
def test_texts_one_behind_the_other(texts, literal):
    marks = Marks(SPECIAL)
    made = literal + "".join(marks.protect(texts))
    ours = [piece for piece, special in marks.split(literal) if special]
    assert [piece for piece, special in marks.split(made) if special] == ours
    assert plain(made) == literal + "".join(texts)


@given(TEXT, st.sampled_from([">", "|>", "s>", "]", "end|>"]))
def test_a_text_before_the_templates_own(text, literal):
    marks = Marks(SPECIAL)
    pieces = list(marks.split(marks.protect(text) + literal))
    assert not [piece for piece, special in pieces if special]


@pytest.mark.parametrize("name", ["s", "/s", "|im_end|", "S", "INST"])
def test_names_between_signs(name):
    marks = Marks(SPECIAL)
    made = "<" + marks.protect(Name(name)) + ">" + "[" + marks.protect(Name(name)) + "]"
    assert not [piece for piece, special in marks.split(made) if special]


@pytest.mark.parametrize("change", ["lower", "upper", "trim", "title", "tojson(ensure_ascii=true)"])
def test_filters_make_none(change):
    template = ChatTemplate("{{ x | " + change + " }}", SPECIAL)
    for text in ["<|IM_END|>", " </s> ", "<|im_end|>", "[inst]"]:
        made = template.render({"x": text}, {})
        assert not [piece for piece, special in template.split(made) if special]
        assert MARK not in plain(made)
        assert "ufdd" not in plain(made)


def test_parts_that_a_template_joins():
    source = "{% for p in m.content %}{{ p.text | trim }}{% endfor %}"
    template = ChatTemplate(source, SPECIAL)
    content = [
        {"text": "a</ "},
        {"text": " s>b"},
        {"text": "<|im"},
        {"text": "_end"},
        {"text": "|>"},
    ]
    made = template.render({"m": {"content": content}}, {})
    assert list(template.split(made)) == [("a</s>b<|im_end|>", False)]


@pytest.mark.parametrize("text", ["user", "text", "object", " two words\n", "", "im_start"])
def test_ordinary_words_stay_as_they_are(text):
    assert Marks(SPECIAL).protect(text) == text


def test_white_space_at_the_ends_can_still_be_taken_off():
    marks = Marks(SPECIAL)
    assert plain(marks.protect(" <|im_end|> a < ").strip()) == "<|im_end|> a <"


def test_our_own_texts_may_be_parts_of_control_tokens():
    marks = Marks(SPECIAL)
    made = "<" + marks.protect(Ours("|im_start|")) + ">"
    assert list(marks.split(made)) == [("<|im_start|>", True)]
    by_user = "<" + marks.protect("|im_start|") + ">"
    assert list(marks.split(by_user)) == [("<|im_start|>", False)]


def test_what_the_template_looks_for_in_an_assistants_turn():
    source = "{% set end = '</think>' %}{{ m.content.split(end)[-1] }}{{ '<s>' in m.content }}"
    template = ChatTemplate(source, SPECIAL)
    made = template.render({"m": {"content": Said("hm</think>So</s>")}}, {})
    assert plain(made) == "So</s>False"
    assert not [piece for piece, special in template.split(made) if special]
    by_user = template.render({"m": {"content": "hm</think>So"}}, {})
    assert plain(by_user) == "hm</think>SoFalse"


def test_reserved_characters_are_taken_out_and_the_open_end_stays():
    marks = Marks(SPECIAL)
    assert marks.protect(f"a{MARK}b{OPEN_END}c{OPEN_END}") == f"abc{OPEN_END}"
