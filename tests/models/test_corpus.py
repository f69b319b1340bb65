"""The corpus: the same for a seed, free of what the evaluation holds back, and true to its own format."""

from __future__ import annotations

import pytest

from models.demo.cases import cases, held_texts
from models.demo.corpus import documents
from models.demo.facts import COUNTRIES, rows
from models.demo.questions import held_sum
from models.demo.tools import Toolbox
from models.demo.words import held_out

SAMPLE = 3000


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return ["".join(text for text, _ in pieces) for pieces in documents(seed=7, count=SAMPLE)]


def test_same_seed_same_documents(texts: list[str]) -> None:
    again = ["".join(text for text, _ in pieces) for pieces in documents(seed=7, count=200)]
    other = ["".join(text for text, _ in pieces) for pieces in documents(seed=8, count=200)]
    assert again == texts[:200]
    assert other != texts[:200]


def test_held_out_phrasings_are_not_in_the_corpus(texts: list[str]) -> None:
    import re

    patterns = {
        form: re.compile(
            r"<\|im_start\|>user\n"
            + re.sub(r"\\\{\d?\\\}", r"[^\\n]{1,40}?", re.escape(form))
            + r"<\|im_end\|>"
        )
        for form in held_texts()
    }
    joined = "\n".join(texts)
    assert not [form for form, pattern in patterns.items() if pattern.search(joined)]


def test_held_out_questions_are_not_in_the_corpus(texts: list[str]) -> None:
    joined = "\n".join(texts)
    found = [
        case
        for case in cases(seed=1, count=60)
        if "facts" not in case.category
        and "user" in case.chat.messages[-1]["role"]
        and f"user\n{case.chat.messages[-1]['content']}<|im_end|>\n<|im_start|>assistant" in joined
        and not case.chat.tools
        and case.category not in ("follow-ups", "system: name", "memory")
    ]
    assert not [(case.category, case.chat.messages[-1]["content"]) for case in found]


def test_made_up_values_keep_to_their_side() -> None:
    import random

    from models.demo.words import Values

    train, held = Values(random.Random(1)), Values(random.Random(1), held=True)
    assert not any(held_out(train.made_up()) for _ in range(500))
    assert all(held_out(held.made_up()) for _ in range(500))


def test_sums_kept_back_are_not_taught(texts: list[str]) -> None:
    import re

    taught = {
        tuple(map(int, pair))
        for text in texts
        for pair in re.findall(r"assistant\n(\d+) \+ (\d+) = ", text)
    }
    assert taught
    assert not [pair for pair in taught if held_sum(*pair)]


def test_answers_are_learnt_and_questions_are_not() -> None:
    for pieces in documents(seed=3, count=300):
        learnt = "".join(text for text, flag in pieces if flag)
        given = "".join(text for text, flag in pieces if not flag)
        assert learnt.endswith(("<|im_end|>", "<|endoftext|>", ".\n"))
        assert "<|im_start|>" not in learnt
        assert "<|im_end|>\n<|im_start|>assistant\n" in given or "<|im_start|>" not in given


def test_capitals_enough() -> None:
    assert len(rows(COUNTRIES)) >= 60


def test_tool_arguments_come_from_the_question() -> None:
    import random

    box = Toolbox(random.Random(5))
    for _ in range(500):
        task = box.task()
        properties = task.tool["function"]["parameters"]["properties"]
        for name, value in task.arguments.items():
            assert name in properties
            assert str(value).lower() in task.ask.lower()
