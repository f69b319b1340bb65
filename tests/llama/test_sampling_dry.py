from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.llama.sampling import Dry, Sampler, SamplingParams
from services.llama.sampling.dry import Repeats
from tests.llama import plain_sampling as plain

PIECES = [b"a", b"b", b"ab", b"\n", b"a\nb", b"", b"ba", b"\xe2\x82", b"\xac!"]
BREAKERS = ["\n", "ab", "ba", "aab", "€", "bab\na", "a" * 30, ""]


def penalties(repeats: Repeats, size: int = len(PIECES)) -> list[float]:
    logits = np.zeros(size, np.float32)
    ids, values = repeats.penalised(logits)
    assert len(set(ids.tolist())) == len(ids)
    logits[ids] = values
    return [-value for value in logits.tolist()]


def expected(dry: Dry, history: list[int]) -> list[float]:
    found = plain.repeats(dry, history, PIECES.__getitem__)
    result = [0.0] * len(PIECES)
    for token, length in found.items():
        result[token] = dry.multiplier * dry.base ** (length - dry.allowed_length)
    return result


@settings(max_examples=300)
@given(
    history=st.lists(st.integers(0, 8), max_size=60) | st.lists(st.integers(0, 2), max_size=60),
    breakers=st.lists(st.sampled_from(BREAKERS), max_size=3),
    window=st.just(0) | st.integers(1, 30),
    allowed_length=st.integers(0, 4),
    split=st.integers(0, 60),
)
def test_penalties_are_those_of_the_definition_however_the_text_came(
    history, breakers, window, allowed_length, split
):
    dry = Dry(0.7, 1.3, allowed_length, window, tuple(breakers))
    repeats = Repeats(dry, history[:split], PIECES.__getitem__)
    assert penalties(repeats) == pytest.approx(expected(dry, history[:split]), rel=1e-5)
    for end in range(split, len(history)):
        repeats.add(history[end])
        assert penalties(repeats) == pytest.approx(expected(dry, history[: end + 1]), rel=1e-5)


def test_the_example_of_its_description():
    # a b c c b c y a b c: after "a b c" came c; after "b c", y; after "c", b.
    a, b, c, y = range(4)
    dry = Dry(1, 2, allowed_length=1, sequence_breakers=())
    repeats = Repeats(dry, [a, b, c, c, b, c, y, a, b, c], None)
    assert penalties(repeats, 4) == [0, 1, 4, 2]


def test_it_keeps_a_greedy_text_from_going_round_in_circles():
    logits = np.array([1.0, 0.9, 0.8], np.float32)
    plainly = Sampler(SamplingParams(temperature=0), [0, 1, 2, 0, 1])
    assert plainly.choose(np.array([0, 0.1, 1], np.float32), 0) == 2
    punished = Sampler(
        SamplingParams(temperature=0, dry=Dry(0.8, sequence_breakers=())), [0, 1, 2, 0, 1]
    )
    assert punished.choose(np.array([0, 0.1, 0.8], np.float32), 0) == 1
    assert punished.choose(logits, 0) == 0


def test_breakers_are_found_far_back_in_a_long_prompt():
    a, newline = 0, 3
    dry = Dry(1, 2, allowed_length=5, sequence_breakers=("\n",))
    for since in (6, 100, 1000):
        prompt = [a] * 3000 + [newline] + [a] * since
        repeats = Repeats(dry, prompt, PIECES.__getitem__)
        # As many as there are since the break, but for the one that would follow it.
        most = min(since, 100 + 5)
        assert penalties(repeats)[a] == pytest.approx(min(2.0 ** (most - 5), 1e30), rel=1e-4)


def test_a_breaker_may_span_the_edge_of_what_is_looked_at_first():
    # The short one is found there, but the long one around it ends later.
    dry = Dry(1, 1.1, allowed_length=1, sequence_breakers=("\n", "aaaa\nb"))
    for since in range(55, 75):
        history = [1] * 100 + [0, 0, 0, 0, 3, 1] + [1] * since
        fresh = Repeats(dry, history, PIECES.__getitem__)
        assert penalties(fresh)[1] == pytest.approx(1.1 ** (since - 1), rel=1e-4)


def test_cutting_the_text_cuts_no_breaker():
    dry = Dry(1, 1, allowed_length=1, sequence_breakers=("ab",))
    for count in range(4098, 4104):
        repeats = Repeats(dry, [0, 1], PIECES.__getitem__)
        for token in [0] * (count - 2) + [1]:
            repeats.add(token)
        assert not any(penalties(repeats))


def test_penalties_stay_numbers():
    repeats = Repeats(Dry(3e38, 3e38, sequence_breakers=()), [0] * 2000, None)
    assert penalties(repeats)[0] == pytest.approx(1e30)


def test_breakers_need_the_text_of_tokens():
    with pytest.raises(ValueError, match="text"):
        Sampler(SamplingParams(dry=Dry(1)), [1])
    Sampler(SamplingParams(dry=Dry(0)), [1])


@pytest.mark.timeout(60)  # quadratic work would take hours
@pytest.mark.parametrize("period", [1, 2, 100])
def test_the_most_repetitive_prompt_takes_linear_time(period):
    dry = Dry(1, 1.0000001, sequence_breakers=("x",))
    history = list(range(period)) * (300_000 // period)
    repeats = Repeats(dry, history, lambda _: b"a")
    for position in range(50):
        repeats.add(position % period)
        assert penalties(repeats, 200)[(position + 1) % period] > 0
