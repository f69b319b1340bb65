"""Constraint masks, and logits that are no numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.llama.interface import Logits
from services.llama.sampling import Mirostat, Sampler, SamplingParams, Xtc, logprobs

WAYS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"top_k": 1},
    {},
    {"top_k": 40, "top_p": 0.95, "min_p": 0.05},
    {"top_p": 0.9},
    {"min_p": 0.1},
    {"typical_p": 0.8},
    {"xtc": Xtc(1, 0.05)},
    {"top_p": 0.9, "xtc": Xtc(1, 0.0)},
    {"mirostat": Mirostat(1)},
    {"mirostat": Mirostat(2)},
    {"repetition_penalty": 1e30, "frequency_penalty": -2.0},
    {"repetition_penalty": 1e-30, "temperature": 1e-5},
]


def bitmask(tokens: list[int], words: int) -> Any:
    mask = np.zeros(words, np.uint32)
    for token in tokens:
        mask[token // 32] |= np.uint32(1 << (token % 32))
    mask.flags.writeable = False
    return mask


def chosen(logits: Logits, params: SamplingParams, *arguments: Any, count: int = 20) -> list[int]:
    before = logits.tobytes()
    sampler = Sampler(params, [0, 1, 1])
    try:
        return [sampler.choose(logits, position, *arguments) for position in range(count)]
    finally:
        assert logits.tobytes() == before


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40)
@given(
    size=st.integers(2, 300),
    words=st.integers(-2, 2),
    seed=st.integers(0, 2**32),
    density=st.sampled_from([0.01, 0.1, 0.5, 1.0]),
)
def test_only_allowed_tokens_come_and_as_if_there_were_no_others(way, size, words, seed, density):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=size).astype(np.float32)
    words = max(1, -(-size // 32) + words)
    # Bits beyond the vocabulary too: they mean nothing.
    bits = np.flatnonzero(rng.random(words * 32) < density)
    allowed = bits[bits < size]
    mask = bitmask(bits.tolist(), words)
    params = SamplingParams(seed=seed, **way)
    if not len(allowed):
        with pytest.raises(ValueError, match="allows no token"):
            chosen(logits, params, None, mask)
        return
    masked = np.full(size, -np.inf, np.float32)
    masked[allowed] = logits[allowed]
    tokens = chosen(logits, params, None, mask)
    assert set(tokens) <= set(allowed)
    if len(allowed) > 1:
        assert tokens == chosen(masked, params)


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_of_everything_changes_nothing(way):
    logits = np.random.default_rng(2).normal(size=5000).astype(np.float32)
    params = SamplingParams(**way)
    full = np.full(160, 2**32 - 1, np.uint32)
    assert chosen(logits, params, None, full) == chosen(logits, params)


@pytest.mark.parametrize("way", WAYS)
def test_a_forced_token_comes_whatever_the_logits(way):
    logits = np.full(100, np.nan, np.float32)
    params = SamplingParams(logit_bias={70: -100}, **way)
    assert chosen(logits, params, np.array([70]), bitmask([70, 101], 4)) == [70] * 20


@pytest.mark.parametrize("way", WAYS)
def test_the_mask_wins_over_suppression(way):
    logits = np.zeros(100, np.float32)
    tokens = chosen(logits, SamplingParams(**way), np.array([7, 8]), bitmask([7, 8], 4))
    assert set(tokens) == {7}
    tokens = chosen(logits, SamplingParams(**way), np.array([7, 8]), bitmask([7, 8, 9], 4))
    assert set(tokens) == {9}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [3, 6000])
@pytest.mark.parametrize("masked", [False, True])
def test_nan_never_comes(way, size, masked):
    logits = np.full(size, np.nan, np.float32)
    logits[1], logits[2] = 0.5, 1
    mask = bitmask(list(range(size)), -(-size // 32)) if masked else None
    assert set(chosen(logits, SamplingParams(**way), None, mask)) <= {1, 2}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [8, 6000])
def test_an_infinite_logit_is_certain_and_several_are_equally_likely(way, size):
    logits = np.random.default_rng(1).normal(size=size).astype(np.float32)
    logits[5] = np.inf
    assert set(chosen(logits.copy(), SamplingParams(**way))) == {5}
    logits[6], logits[7] = np.inf, np.nan
    tokens = set(chosen(logits, SamplingParams(**way)))
    assert tokens <= {5, 6}
    if not way:
        assert tokens == {5, 6}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("size", [8, 6000])
def test_without_any_possible_token_the_lowest_permitted_comes(way, value, size):
    logits = np.full(size, value, np.float32)
    params = SamplingParams(**way)
    assert set(chosen(logits, params)) == {0}
    assert set(chosen(logits, params, np.array([0, 2]), bitmask([0, 2, 4, 5], 1))) == {4}
    never = Sampler(params, [], never=frozenset((0, 1)))
    assert never.choose(logits, 0) == 2
    everything = np.arange(size)
    assert set(chosen(logits, params, everything)) == {0}


@pytest.mark.parametrize("way", WAYS)
def test_the_ends_of_single_precision(way):
    logits = np.array([3.4e38, -3.4e38, 3.3e38, 0, 1e-45], np.float32)
    assert set(chosen(logits, SamplingParams(logit_bias={0: 100}, **way))) <= {0, 2}


@pytest.mark.parametrize("way", WAYS)
@given(st.lists(st.floats(width=32), min_size=1, max_size=70))
def test_any_logits_give_a_token(way, values):
    logits = np.array(values, np.float32)
    tokens = chosen(logits, SamplingParams(**way), count=5) if len(values) > 2 else [0]
    assert all(0 <= token < len(values) for token in tokens)
    if np.isfinite(logits).all() and "repetition_penalty" not in way:
        assert all(math.isfinite(logits[token]) for token in tokens)


@given(st.lists(st.floats(width=32), min_size=1, max_size=70), st.integers(0, 20))
def test_logprobs_are_never_nan(values, top):
    logits = np.array(values, np.float32)
    entry = logprobs(logits, 0, top)
    told = [entry.logprob, *(value for _, value in entry.top)]
    assert all(value <= 0 for value in told)
    possible = np.flatnonzero(logits > -np.inf)
    assert len(entry.top) == min(top, len(possible)) or np.isinf(values).any()
    if np.isnan(logits[0]):
        assert entry.logprob == -math.inf
