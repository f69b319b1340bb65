"""Filling in the middle: which models can, in what order they are asked, and what ends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.inference.v1 import inference_pb2 as pb
from services.llama import answers, infill
from services.llama.infill import Infill
from services.llama.interface import SpecialToken
from services.llama.prompt import Prompts
from services.worker.errors import ContextLengthExceeded, InvalidField
from tests.llama.fake_runtime import BOS, FakeVocabulary
from tests.llama.real_kit import MODEL, call, collect

PREFIX, SUFFIX, MIDDLE = 300, 301, 302
KNOWN = (PREFIX, SUFFIX, MIDDLE)
USUAL = Infill(*KNOWN, ends=frozenset(KNOWN))


class Vocabulary(FakeVocabulary):
    adds_bos = True
    special: Mapping[str, SpecialToken] = {**FakeVocabulary.special, "<PRE>": SpecialToken(PREFIX)}


def prompts(how: Infill | None = USUAL, context: int = 100) -> Prompts:
    return Prompts(Vocabulary(), None, context, infill=how)


def special(*texts: str) -> dict[str, SpecialToken]:
    return {text: SpecialToken(400 + at) for at, text in enumerate(texts)}


def asked(text: str, suffix: str, **fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(text=pb.TextInput(text=text, suffix=suffix, **fields))


# ---------------------------------------------------------------------------- which models can


def test_by_the_tokens_that_llama_cpp_knows():
    found = infill.find(KNOWN, special("<EOT>", "<|eot_id|>", "x"), {"general.name": "Qwen"})
    assert found == Infill(*KNOWN, ends=frozenset((*KNOWN, 400)))


def test_not_without_tokens():
    assert infill.find(None, special("[PREFIX]", "<|eot_id|>"), {}) is None


@pytest.mark.parametrize(
    ("texts", "prompt"),
    [
        (("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>"), [401, 2, 3, 400, 1, 402]),
        (("[PREFIX]", "[SUFFIX]"), [401, 2, 3, 400, 1]),
    ],
)
def test_by_the_tokens_of_families_that_it_does_not_know(texts, prompt):
    found = infill.find(None, special(*texts), {})
    assert found is not None
    assert found.prompt([1], [2, 3]) == prompt
    assert found.ends == {400 + at for at in range(len(texts))}


@pytest.mark.parametrize("key", ["general.name", "general.basename"])
def test_some_are_known_by_name(key):
    found = infill.find(KNOWN, {}, {key: "Mellum-4b-base"})
    assert found is not None
    assert found.prompt([1], [2]) == [SUFFIX, 2, PREFIX, 1, MIDDLE]


# ----------------------------------------------------------------------------------- the prompt


def test_before_after_and_then_what_is_missing():
    made = prompts().made(asked("ab", "c"))
    assert made.tokens == [BOS, PREFIX, *b"ab", SUFFIX, *b"c", MIDDLE]
    assert made.ends == frozenset(KNOWN)


def test_nothing_before_the_gap():
    assert prompts().tokens(asked("", "c", add_bos=False)) == [PREFIX, SUFFIX, *b"c", MIDDLE]


def test_without_a_suffix_it_is_a_text_like_any_other():
    made = prompts().made(asked("ab", ""))
    assert made.tokens == [BOS, *b"ab"]
    assert not made.ends


def test_tokenize_says_the_same():
    text = pb.TextInput(text="ab", suffix="c")
    assert prompts().tokenize(text) == prompts().tokens(pb.GenerateRequest(text=text))


@given(st.text(alphabet="<PRE>/s", max_size=12), st.text(alphabet="<PRE>/s", max_size=12))
def test_control_tokens_in_the_texts_are_text(before, after):
    made = prompts().tokens(asked(before, after or "x"))
    assert made == [BOS, PREFIX, *before.encode(), SUFFIX, *(after or "x").encode(), MIDDLE]


def test_unless_they_are_asked_for():
    made = prompts().tokens(asked("<s>", "a</s>", parse_special=True, add_bos=False))
    assert made == [PREFIX, BOS, SUFFIX, ord("a"), BOS + 1, MIDDLE]


@pytest.mark.parametrize("length", [(500, 1), (1, 500), (250, 250)])
def test_neither_side_is_cut(length):
    before, after = length
    request = asked("a" * before, "b" * after)
    with pytest.raises(ContextLengthExceeded):
        prompts().made(request)
    with pytest.raises(InvalidField):
        prompts().tokenize(request.text)


def test_its_tokens_end_the_answer():
    request = asked("ab", "c")
    _, _, ends = answers.expected(request, prompts().made(request), None, Vocabulary())
    assert ends == frozenset(KNOWN)


# ------------------------------------------------------------------------------ the demo model


@pytest.mark.real
async def test_the_demo_model_fills_gaps(serve):
    backend = await serve(ctx_size=256)
    assert pb.CAPABILITY_INFILL in backend.model().capabilities
    made = asked("The capital of France", " Paris.")
    made.sampling.temperature = 0
    made.stop.max_tokens = 24
    responses = await collect(backend, made)

    text = "".join(response.delta.text for response in responses)
    assert "fim" not in text
    assert text.strip() == "is"
    assert responses[-2].delta.finish.reason == pb.FINISH_REASON_STOP
    pieces = pb.TokenizeRequest(text=made.text, with_pieces=True)
    told = await backend.tokenize(pieces, call())
    assert len(told.token_ids) == responses[-1].finished.usage.prompt_tokens
    assert b"".join(told.pieces).decode() == (
        "<|fim_prefix|>The capital of France<|fim_suffix|> Paris.<|fim_middle|>"
    )
    made.text.text = "word " * 150
    made.text.suffix = "word " * 150
    with pytest.raises(ContextLengthExceeded) as caught:
        await collect(backend, made)
    assert caught.value.metadata["context_length"] == "256"


@pytest.mark.real
async def test_a_model_that_only_embeds_fills_none(serve):
    backend = await serve(model=str(MODEL.with_name("caravan-demo-embed.gguf")))
    assert pb.CAPABILITY_INFILL not in backend.model().capabilities
