"""A generation that is continued says what the unbroken one says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.llama.interface import Logits
from services.llama.sampling import Dry, Ids, Mirostat, Sampler, SamplingParams, Xtc, uniform
from services.llama.sampling.mirostat import Control

SIZE = 400
LENGTH = 40
PROMPT = [5, 6, 7, 5, 6, 8]

PARAMS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "plain": {},
    "truncated": {"top_k": 40, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.95},
    "penalties": {"repetition_penalty": 1.2, "frequency_penalty": 0.3, "penalty_window": 9},
    "dry": {"temperature": 0.7, "dry": Dry(0.8, allowed_length=1, window=30)},
    "greedy dry": {"temperature": 0.0, "dry": Dry(0.8, allowed_length=1)},
    "xtc": {"xtc": Xtc(0.5, 0.05)},
    "mirostat 1": {"mirostat": Mirostat(1, 3, 0.3)},
    "mirostat 2": {"mirostat": Mirostat(2, 3, 0.3)},
    "all": {
        "temperature": 0.9,
        "presence_penalty": 0.3,
        "dry": Dry(0.8, allowed_length=1),
        "xtc": Xtc(0.5, 0.05),
        "mirostat": Mirostat(2, 2, 0.3),
    },
}


def piece(token: int) -> bytes:
    return b"\n" if token % 7 == 0 else b"x%d" % token


def logits_after(tokens: list[int]) -> Logits:
    """What a model would say that has nothing but its tokens; few of them are likely."""
    rng = np.random.default_rng(tokens)
    logits: Logits = rng.normal(size=SIZE).astype(np.float32)
    logits[rng.integers(0, 12, 6)] += 5
    return logits


def limits(position: int) -> tuple[Ids | None, Any]:
    """Suppressed and allowed tokens at a position; now and then a forced one."""
    suppressed = np.array([3, 4]) if position < 10 else None
    if position % 3 != 1:
        return suppressed, None
    mask = np.zeros(-(-SIZE // 32), np.uint32)
    mask[0] = 1 << 9 if position % 2 else 0xF0F0F0F3
    return suppressed, mask


def go_on(sampler: Sampler, tokens: list[int], *, limited: bool) -> list[int]:
    tokens = list(tokens)
    for position in range(len(tokens) - len(PROMPT), LENGTH):
        given = limits(position) if limited else ()
        tokens.append(sampler.choose(logits_after(tokens), position, *given))
        sampler.accept(tokens[-1])
    return tokens


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("name", PARAMS)
def test_cut_anywhere(name, limited):
    params = SamplingParams(seed=4, **PARAMS[name])
    fresh = Sampler(params, PROMPT, choice=1, piece=piece)
    assert fresh.needs_replay == (params.mirostat is not None)
    whole = go_on(fresh, PROMPT, limited=limited)
    for cut in range(len(PROMPT), len(whole) + 1):
        resumed = Sampler(params, PROMPT, choice=1, piece=piece)
        for position, token in enumerate(whole[len(PROMPT) : cut]):
            given = limits(position) if limited else ()
            if resumed.needs_replay:
                logits = logits_after(whole[: len(PROMPT) + position])
                resumed.replay(logits, position, token, *given)
            resumed.accept(token)
        assert go_on(resumed, whole[:cut], limited=limited) == whole
        if not resumed.needs_replay:
            as_prompt = Sampler(params, whole[:cut], choice=1, piece=piece)
            assert go_on(as_prompt, whole[:cut], limited=limited) == whole


@pytest.mark.parametrize("version", [1, 2])
def test_without_replay_mirostat_would_go_elsewhere(version):
    params = SamplingParams(seed=4, mirostat=Mirostat(version, 2, 0.9))
    whole = go_on(Sampler(params, PROMPT), PROMPT, limited=False)
    cut = len(PROMPT) + 10
    assert go_on(Sampler(params, whole[:cut]), whole[:cut], limited=False) != whole


@pytest.mark.parametrize("version", [1, 2])
def test_replay_takes_tokens_that_choose_would_not_have_given(version):
    params = SamplingParams(seed=4, mirostat=Mirostat(version, 2, 0.9))
    sampler = Sampler(params, [])
    logits = np.random.default_rng(1).normal(size=SIZE).astype(np.float32) * 4
    beyond = np.array([0xFFF00000], np.uint32)
    for position in range(20):  # from another machine, whose kernels round differently
        logits[position] = (-30, -np.inf, np.nan)[position % 3]
        sampler.replay(logits, position, position)
        sampler.replay(logits, position, position, None, beyond)
    assert 0 <= sampler.choose(logits, 20) < SIZE


def test_greedy_needs_no_replay_even_with_mirostat():
    params = SamplingParams(temperature=0, mirostat=Mirostat(2))
    assert not Sampler(params, []).needs_replay


def test_streams_of_random_numbers_do_not_resemble_each_other():
    first = np.array([uniform(1, 0, position) for position in range(3000)])
    second = np.array([uniform(1, 0, position, 1) for position in range(3000)])
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert abs(np.corrcoef(first[1:], second[:-1])[0, 1]) < 0.05


def test_replay_takes_tokens_whose_probability_is_too_small_for_a_number():
    params = SamplingParams(mirostat=Mirostat(2, 5000))
    sampler = Sampler(params, [])
    logits = np.array([0, -5000], np.float32)
    sampler.replay(logits, 0, 1)
    assert sampler.choose(logits, 1) == 0


def test_a_replayed_token_that_is_not_kept_counts_as_the_least_likely_of_the_kept():
    learnt = []
    for token in (0, 1, 2, None):
        control = Control(Mirostat(2, 1.5), 1)
        control.observe(np.array([0, -1, -9], np.float32), 0.0, 3, token)
        learnt.append(control.mu)
    assert learnt[0] > learnt[1] == learnt[2] == learnt[3]
