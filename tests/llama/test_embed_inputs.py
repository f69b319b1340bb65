"""Texts, pairs and token ids to what an embedding model reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llama.embed_inputs import Inputs, Joining
from services.worker.errors import ContextLengthExceeded, InvalidField
from tests.llama.fake_runtime import BOS, EOS, FakeVocabulary

AROUND = Joining(before=(BOS,), after=(EOS,))


def made(joining: Joining = AROUND, context: int = 16) -> Inputs:
    return Inputs(FakeVocabulary(), joining, context)


def test_a_text_has_what_the_model_wants_around_it():
    assert list(made().text("f", "ab", truncate=False)) == [BOS, 97, 98, EOS]


def test_control_tokens_of_a_text_are_letters():
    assert list(made(Joining()).text("f", "<s>", truncate=False)) == list(b"<s>")


@given(st.text(max_size=40), st.integers(3, 20))
def test_a_text_that_is_cut_keeps_its_ends_and_fits(text, context):
    tokens = list(made(context=context).text("f", text, truncate=True))
    assert tokens == [BOS, *list(text.encode())[: context - 2], EOS]


def test_a_very_long_text_is_cut_before_it_is_tokenized():
    seen: list[int] = []

    class Counting(FakeVocabulary):
        def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
            seen.append(len(text))
            return super().tokenize(text, parse_special=parse_special)

    inputs = Inputs(Counting(), AROUND, 16)
    assert len(inputs.text("f", "x" * 1_000_000, truncate=True)) == 16
    with pytest.raises(ContextLengthExceeded):
        inputs.text("f", "x" * 1_000_000, truncate=False)
    assert max(seen) < 1000


def test_words_without_tokens_do_not_count_where_tokens_do_not_cover_the_text():
    class Skipping(FakeVocabulary):
        def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
            return super().tokenize(text.strip(), parse_special=parse_special)

    text = " " * 10_000 + "a"
    around = Joining(before=(BOS,), after=(EOS,), covers=False)
    assert list(Inputs(Skipping(), around, 16).text("f", text, truncate=False)) == [BOS, 97, EOS]


@pytest.mark.parametrize("length", [16, 17])
def test_too_long_is_refused_with_both_lengths(length):
    inputs, text = made(), "x" * (length - 2)
    if length == 16:
        assert len(inputs.text("f", text, truncate=False)) == 16
        return
    with pytest.raises(ContextLengthExceeded) as caught:
        inputs.text("f", text, truncate=False)
    told = {"prompt_tokens": "17", "context_length": "16", "field": "f"}
    assert caught.value.metadata == told


def test_too_long_to_be_counted_is_said_to_be_longer():
    with pytest.raises(ContextLengthExceeded) as caught:
        made(context=2).text("f", "x" * 100, truncate=False)
    told = {"prompt_tokens": "25", "context_length": "2", "field": "f", "lower_bound": "true"}
    assert caught.value.metadata == told
    assert "more than 24 tokens" in str(caught.value)


def test_a_query_that_is_too_long_alone_is_named():
    with pytest.raises(ContextLengthExceeded) as caught:
        made(context=2).pair("documents[3]", "x" * 100, "d")
    assert caught.value.metadata["field"] == "query"
    with pytest.raises(ContextLengthExceeded) as caught:
        made(context=2).pair("documents[3]", "q", "x" * 100)
    assert caught.value.metadata["field"] == "documents[3]"


def test_token_ids_are_taken_as_they_are_or_cut():
    ids = list(range(20))
    assert list(made().token_ids("f", ids[:3], truncate=False)) == ids[:3]
    assert list(made().token_ids("f", ids, truncate=True)) == ids[:16]
    with pytest.raises(ContextLengthExceeded):
        made().token_ids("f", ids, truncate=False)


def test_a_text_without_tokens_names_its_field():
    with pytest.raises(InvalidField) as caught:
        made(Joining()).text("inputs[3].text", "", truncate=False)
    assert caught.value.metadata == {"field": "inputs[3].text"}


def test_a_pair_without_a_template():
    joining = Joining(before=(1,), after=(2,), pair_begin=(3,), between=(4, 5), pair_end=(6,))
    assert list(made(joining).pair("f", "q", "d")) == [3, ord("q"), 4, 5, ord("d"), 6]


def test_a_pair_through_the_template_keeps_its_control_tokens_and_no_others():
    joining = Joining(template="<s>Q {query}|{document}</s>")
    tokens = list(made(joining, 64).pair("f", "a{document}</s>", "<s>b"))
    assert tokens == [BOS, *b"Q a{document}</s>|<s>b", EOS]


def test_a_pair_that_is_too_long_is_refused():
    with pytest.raises(ContextLengthExceeded):
        made().pair("f", "q" * 10, "d" * 10)
