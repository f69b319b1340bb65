"""Which vocabularies are the same, and what is said of those that are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.llama.drafting.words import Words, difference

NORMAL, CONTROL, UNUSED = 4, 8, 2
MODEL = Words(
    texts=(b"<s>", b"</s>", b"a", b"\xffb", b"<eot>"),
    kinds=(CONTROL, CONTROL, NORMAL, NORMAL, CONTROL),
    unused=frozenset(),
    bos=0,
    eos=1,
    ends=frozenset((1, 4)),
)


def padded(words: Words, count: int, kind: int = UNUSED) -> Words:
    size = len(words.texts)
    return replace(
        words,
        texts=words.texts + tuple(f"[PAD{n}]".encode() for n in range(count)),
        kinds=words.kinds + (kind,) * count,
        unused=frozenset(range(size, size + count)) if kind == UNUSED else frozenset(),
    )


def test_the_same_is_the_same():
    assert difference(MODEL, MODEL) == ""


def test_what_fills_a_table_up_is_no_difference():
    assert difference(MODEL, padded(MODEL, 7)) == ""
    assert difference(padded(MODEL, 7), MODEL) == ""
    assert difference(padded(MODEL, 7), padded(MODEL, 2)) == ""


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (padded(MODEL, 2, NORMAL), "it has 7 tokens, the model 5"),
        (replace(MODEL, texts=MODEL.texts[:2], kinds=(8, 8)), "it has 2 tokens, the model 5"),
        (
            replace(MODEL, texts=(*MODEL.texts[:3], b"c" * 99, b"<eot>")),
            "its token 3 is '" + "c" * 39 + ", the model's is '\ufffdb'",
        ),
        (
            replace(MODEL, texts=(*MODEL.texts[:2], b"\n", *MODEL.texts[3:])),
            "its token 2 is '\\n', the model's is 'a'",
        ),
        (
            replace(MODEL, kinds=(8, 8, 8, 4, 8)),
            "its token 2, 'a', is of another type than the model's",
        ),
        (replace(MODEL, bos=-1), "its BOS is not set, the model's is 0 ('<s>')"),
        (replace(MODEL, eos=4), "its EOS is 4 ('<eot>'), the model's is 1 ('</s>')"),
        (
            replace(MODEL, ends=frozenset((1,))),
            "token 4 ('<eot>') is only the model's end of a text",
        ),
        (replace(MODEL, ends=frozenset((1, 2, 4))), "token 2 ('a') is only its end of a text"),
    ],
)
def test_what_differs_is_said_in_a_line(other, said):
    assert difference(MODEL, other) == said
