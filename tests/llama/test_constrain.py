"""What constraints let through, and what they refuse."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.inference.v1 import inference_pb2 as pb
from services.llama.constrain import ConstraintError, Constraints, matcher
from services.worker.errors import ConstraintFailed, InvalidField
from tests.llama.constrained import (
    allowed,
    answer,
    choice,
    compiled,
    constraints,
    schema,
    takes,
)
from tests.llama.fake_runtime import BOS, EOS, FakeVocabulary

SEEDS = st.integers(0, 2**32)
# A random answer takes up to a second where the cores are busy.
answers = settings(max_examples=40)
POINT = schema(
    {
        "type": "object",
        "properties": {"name": {"enum": ["a", "bc"]}, "x": {"type": "integer"}},
        "required": ["name", "x"],
        "additionalProperties": False,
    }
)


@answers
@given(SEEDS)
def test_json_object_is_any_object(seed):
    text = answer(compiled(pb.Constraint(json_object=True)), seed)
    assert text is not None
    assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("{}", True),
        ('{"a": [1, -2.5e3, null, {"b": "x"}], "c": true}', True),
        ('{\n  "a": 1,\n  "b": "é\\n"\n}', True),
        ('{"a":1}', True),
        ("[]", False),
        ("1", False),
        (" {}", False),
        ("{}\n", False),
        # White space has an end.
        ('{"a":  1}', False),
        ('{"a":\n\n1}', False),
        ('{"a": 1' + "\n" + " " * 20 + "}", True),
        ('{"a": 1' + "\n" + " " * 21 + "}", False),
    ],
)
def test_json_objects(text: str, taken: bool):
    assert takes(pb.Constraint(json_object=True), text) == taken


REGEXES = [
    r"[a-c]{2,4}",
    r"(?:ab|a|b)*c?",
    # Python 3.11 knows fewer digits and spaces than Unicode has by now.
    r"[0-9]{3}-[0-9]{4} ?",
    r"(a+)+",
    r"(a|aa)+b",
    r"[^\n]{0,5}é+",
    r"(?i)yes|no",
    r"x*",
    r"^abc$",
    r"[]a]+[^]]",
    r"[0-9a-c]+@[a-z]+\.(com|org)",
]


@answers
@given(st.sampled_from(REGEXES), SEEDS)
def test_an_answer_matches_its_regex_as_a_whole(pattern, seed):
    text = answer(compiled(pb.Constraint(regex=pattern)), seed, soft=10)
    assert text is not None
    assert re.fullmatch(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"), [("a|ab|abc", "ab"), ("x*", ""), ("a.c", "aéc"), ("a|^b", "b")]
)
def test_what_a_regex_matches_can_come(pattern: str, text: str):
    assert takes(pb.Constraint(regex=pattern), text)
    assert not takes(pb.Constraint(regex=pattern), text + "!")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@answers
@given(st.lists(TEXTS, min_size=1, max_size=8), SEEDS)
def test_every_choice_can_come_and_nothing_else(values, seed):
    constraint = choice(*values)
    assert all(takes(constraint, value) for value in values)
    assert answer(compiled(constraint), seed) in values


def test_a_thousand_long_choices():
    values = [f"{number:04}" * 1024 for number in range(1024)]
    matcher = compiled(choice(*values)).matcher()
    assert bytes(allowed(matcher)) == b"01"
    for byte in b"0999":
        matcher.accept(byte)
    assert matcher.forced()[:4] == list(b"0999")


@pytest.mark.parametrize("around", ["", "start: @content"])
def test_a_lark_grammar_whose_forced_text_has_no_end(around):
    def made(text: str) -> matcher.Grammar:
        constraint = pb.Constraint(lark=text)
        return constraints().compile_with(around, constraint) if around else compiled(constraint)

    # First, because the other would never return.
    assert not made('start: "abc" // all of it').matcher().forced()
    for text in ('start: /a+/ "a"', '%llguidance {}\nstart: A+ B\nA: "ab"+\nB: "ab"'):
        following = made(text).matcher()
        for token in b"abab" if "ab" in text else b"aaaa":
            assert allowed(following) == [token]
            assert not following.forced()
            following.accept(token)


def test_lark():
    constraint = pb.Constraint(
        lark='%import common.INT\n%ignore " "\nstart: sum // a sum\nsum: INT ("+" sum)?'
    )
    assert takes(constraint, "1 + 23")
    assert not takes(constraint, "1 +")


def test_the_text_may_end_exactly_where_the_mask_says():
    matcher = compiled(pb.Constraint(regex="ab?")).matcher()
    assert allowed(matcher) == [ord("a")]
    matcher.accept(ord("a"))
    assert allowed(matcher) == [ord("b"), EOS]
    assert not matcher.finished
    matcher.accept(ord("b"))
    assert allowed(matcher) == [EOS]
    assert matcher.finished


def test_control_tokens_never_come():
    matcher = compiled(pb.Constraint(regex=r"(?s).*")).matcher()
    for _ in range(5):
        tokens = allowed(matcher)
        assert EOS in tokens
        assert BOS not in tokens
        matcher.accept(ord("<"))
    # Their text may, as letters.
    assert takes(pb.Constraint(regex=r"(?s).*"), "</s><s>")


@pytest.mark.parametrize("pattern", ["a", "ab?"])
def test_nothing_comes_behind_an_end(pattern: str):
    matcher = compiled(pb.Constraint(regex=pattern)).matcher()
    matcher.accept(ord("a"))
    matcher.accept(EOS)
    assert matcher.finished
    for token in (EOS, ord("b")):
        with pytest.raises(ConstraintError):
            matcher.accept(token)


def test_an_end_is_allowed_only_where_the_text_may_end():
    matcher = compiled(choice("ab")).matcher()
    matcher.accept(ord("a"))
    with pytest.raises(ConstraintError):
        matcher.accept(EOS)


def test_forced_tokens_are_those_that_must_come():
    matcher = compiled(POINT).matcher()
    for byte in b"{":
        matcher.accept(byte)
    # White space may come before the name: nothing is forced.
    assert matcher.forced() == []
    matcher.accept(ord('"'))
    forced = matcher.forced()
    assert bytes(forced) == b'name"'
    for token in forced:
        assert allowed(matcher) == [token]
        matcher.accept(token)


def test_choices_of_one_grammar_do_not_see_each_other():
    grammar = compiled(POINT)
    one, other = grammar.matcher(), grammar.matcher()
    one.accept(ord("{"))
    assert allowed(other) == [ord("{")]
    assert allowed(grammar.matcher()) == [ord("{")]


def test_a_token_that_is_not_allowed_is_an_error_not_a_wrong_text():
    matcher = compiled(POINT).matcher()
    with pytest.raises(ConstraintError):
        matcher.accept(ord("x"))
    with pytest.raises(ConstraintError):
        matcher.mask()
    assert not matcher.finished


def test_where_nothing_can_come_is_an_error():
    # No value of "a" can be spelled, which shows only there.
    hopeless = {"type": "string", "pattern": "^[\u0001]$"}
    matcher = compiled(
        schema({"type": "object", "properties": {"a": hopeless}, "required": ["a"]})
    ).matcher()
    for byte in b'{"a": ':
        matcher.accept(byte)
    with pytest.raises(ConstraintFailed, match="nothing"):
        matcher.mask()


def test_an_ambiguous_grammar_gets_so_far_and_no_farther(monkeypatch):
    monkeypatch.setattr(matcher, "_SLOW", 0.0005)
    following = compiled(pb.Constraint(lark='start: a\na: a a | a a a | "x" | ""')).matcher()
    with pytest.raises(ConstraintFailed, match="too complex"):
        for _ in range(2000):
            following.mask()
            following.accept(ord("x"))
    monkeypatch.setattr(matcher, "_SLOW", 1000)
    with pytest.raises(ConstraintFailed, match="too complex"):
        following.mask()


DEEP = "(" * 60_000
HOSTILE = {
    "unbalanced": pb.Constraint(regex="a("),
    "look-around": pb.Constraint(regex="a(?=b)"),
    "back reference": pb.Constraint(regex=r"(a)\1"),
    "nothing matches": pb.Constraint(regex="[a&&b]"),
    "deep": pb.Constraint(regex=DEEP + ")" * 60_000),
    "large": pb.Constraint(regex="((a{1000}){1000}){1000}"),
    "large and open": pb.Constraint(regex="((a{1000,}){1000,}){1000,}"),
    "class that never ends": pb.Constraint(regex="[" * 60_000),
    "lark: deep": pb.Constraint(lark="start: " + DEEP + '"a"' + ")" * 60_000),
    "lark: no start": pb.Constraint(lark='a: "b"'),
    "lark: undefined": pb.Constraint(lark="start: a"),
    "lark: rules": pb.Constraint(
        lark="start: a0\n" + "".join(f"a{i}: a{i + 1}\n" for i in range(4000)) + 'a4000: "x"'
    ),
    "lark: terminals": pb.Constraint(
        lark="start: A0\n" + "".join(f"A{i}: A{i + 1} A{i + 1}\n" for i in range(30)) + 'A30: "x"'
    ),
    "lark: alternatives": pb.Constraint(lark="start: " + '"a"|' * 15_000 + '"a"'),
    "lark: regex": pb.Constraint(lark="start: /(a{1000}){1000}/"),
    "lark: numbers": pb.Constraint(lark='start: (("a"){1000}){100000}'),
    "lark: token": pb.Constraint(lark="start: <[257]>"),
    "lark: special": pb.Constraint(lark="start: <|end|>"),
    "lark: options": pb.Constraint(lark='%llguidance {"no_forcing": true}\nstart: "a"'),
    "lark: schema": pb.Constraint(lark='start: %json {"x-guidance": {"lenient": true}}'),
    "lark: attribute": pb.Constraint(lark='start: a\na[stop="x"]: /.*/'),
    "lark: other grammar": pb.Constraint(lark="start: @other"),
    "lark: file": pb.Constraint(lark="%import .secrets\nstart: X"),
    "lark: no text": pb.Constraint(lark="start: start"),
    "lark: not": pb.Constraint(lark="\x00\x01"),
    "lark: string": pb.Constraint(lark='start: "' + "a" * 60_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_used_is_refused_soon(name: str):
    constraint = HOSTILE[name]
    started = time.process_time()
    with pytest.raises(InvalidField) as error:
        compiled(constraint)
    assert time.process_time() - started < 2
    assert error.value.metadata["field"] == f"constraint.{constraint.WhichOneof('kind')}"
    assert 0 < len(str(error.value)) < 300


@pytest.mark.parametrize(
    "pattern",
    ["(.*a){50}.{100}", "(a|b|ab)*c{5000}", "((a|b)*a(a|b){14}x?)+", "[ab]*a[ab]{200}", "(x+x+)+y"],
)
def test_hard_regexes_cost_little_or_fail(pattern: str):
    following = compiled(pb.Constraint(regex=pattern)).matcher()
    try:
        for step in range(300):
            started = time.process_time()
            tokens = [token for token in allowed(following) if token in {*b"abx"}] or [EOS]
            following.accept(tokens[step % len(tokens)])
            assert time.process_time() - started < 1
            if EOS in tokens:
                break
    except ConstraintFailed:
        pass


def test_what_was_compiled_is_kept_for_a_while():
    small = Constraints(FakeVocabulary())
    first = small.compile(choice("a"))
    assert small.compile(choice("a")) is first
    for number in range(60):
        small.compile(choice(f"b{number}"))
        if number < 20:
            assert small.compile(choice("a")) is first
    assert small.compile(choice("a")) is not first


def test_what_has_learned_too_much_is_forgotten():
    small = Constraints(FakeVocabulary())
    grammar = small.compile(choice("a"))
    grammar.learned = 10
    assert small.compile(choice("a")) is not grammar


def test_errors_do_not_quote_the_text():
    following = compiled(pb.Constraint(regex="secret[0-9]")).matcher()
    for byte in b"secret":
        following.accept(byte)
    with pytest.raises(ConstraintError) as error:
        following.accept(ord("q"))
    assert "secret" not in str(error.value)
    assert "q" not in str(error.value)


def test_several_threads_compile_and_follow():
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for number in range(20):
                constraint = choice(f"a{number}", f"ab{number}")
                assert answer(compiled(constraint), seed) in set(constraint.choice.values)
                assert answer(compiled(POINT), seed + number)
        except BaseException as error:  # noqa: BLE001 -- told below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
