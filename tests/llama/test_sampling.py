from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.llama.interface import Logits
from services.llama.sampling import Mirostat, Sampler, SamplingParams, Xtc, logprobs, uniform
from services.llama.sampling.arrays import largest

RNG = np.random.default_rng(7)


def some_logits(size: int = 5000) -> Logits:
    logits: Logits = RNG.normal(size=size).astype(np.float32) * 3
    return logits


def softmax(logits: Logits, temperature: float = 1.0) -> NDArray[np.float64]:
    scaled = logits.astype(np.float64) / temperature
    weights: NDArray[np.float64] = np.exp(scaled - scaled.max())
    return weights / float(weights.sum())


def draws(logits: Logits, count: int = 1500, **params: Any) -> NDArray[np.int64]:
    """How often each token comes, over positions."""
    sampler = Sampler(SamplingParams(seed=11, **params), [])
    return np.bincount(
        [sampler.choose(logits, position) for position in range(count)], minlength=len(logits)
    )


def support(logits: Logits, **params: Any) -> set[int]:
    return set(np.flatnonzero(draws(logits, **params)))


@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1e-39, 1e-7])
@pytest.mark.parametrize("params", [{}, {"top_p": 0.9}])
@pytest.mark.filterwarnings("error")
def test_a_tiny_temperature_is_greedy(temperature: float, params: dict[str, float]):
    logits = some_logits()
    assert support(logits, temperature=temperature, **params) == {int(logits.argmax())}


def test_randomness_depends_on_seed_choice_and_position_only():
    logits = some_logits()
    tokens = {}
    for seed in (1, 2):
        for choice in (0, 1):
            sampler = Sampler(SamplingParams(seed=seed), [], choice=choice)
            for position in (5, 3, 4):
                tokens[seed, choice, position] = sampler.choose(logits, position)
    fresh = Sampler(SamplingParams(seed=2), [1, 2, 3], choice=1)
    assert fresh.choose(logits, 4) == tokens[2, 1, 4]
    assert len(set(tokens.values())) > 6


def test_uniform_is_uniform():
    values = np.array([uniform(s, c, p) for s in range(20) for c in range(5) for p in range(100)])
    assert 0 <= values.min() < 0.001
    assert 0.999 < values.max() < 1
    counts = np.histogram(values, 20, (0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 45  # chi-squared, 19 degrees: p = 0.0007


def test_seeds_may_have_64_bits():
    assert uniform(2**64 - 1, 0, 0) != uniform(2**63 - 1, 0, 0)


@pytest.mark.parametrize("params", [{"temperature": 0.0}, {"top_k": 1}])
def test_greedy(params):
    logits = some_logits()
    sampler = Sampler(SamplingParams(**params), [])
    assert sampler.choose(logits, 0) == logits.argmax()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("size", [10, 600])
def test_untruncated_distribution(size, temperature):
    logits = RNG.normal(size=size).astype(np.float32)
    count = 4000
    seen = draws(logits, count, temperature=temperature)
    expected = softmax(logits, temperature) * count
    deviation = ((seen - expected) ** 2 / expected).sum()
    assert deviation < size + 5 * math.sqrt(2 * size)


def test_truncated_distribution_is_renormalised_and_then_tempered():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    seen = draws(logits, 5000, top_p=0.75, temperature=0.5)
    expected = softmax(logits[:2], 0.5)
    assert seen[2:].sum() == 0
    assert abs(seen[0] / 5000 - expected[0]) < 0.03


@pytest.mark.parametrize("size", [40, 5000])
def test_top_k(size):
    logits = RNG.normal(size=size).astype(np.float32)
    best = set(np.argsort(-logits)[:7])
    assert support(logits, top_k=7, temperature=2.0) == best


def test_top_p_beyond_the_candidates_needs_the_whole_vocabulary():
    logits = RNG.normal(size=20000).astype(np.float32) * 0.01
    order = np.argsort(-logits)
    allowed = set(order[: int(20000 * 0.92)])
    seen = support(logits, top_p=0.9, count=300)
    assert seen <= allowed
    assert len(seen) > 250


def test_min_p():
    logits = some_logits()
    allowed = set(np.flatnonzero(softmax(logits) >= 0.2 * softmax(logits).max()))
    assert support(logits, min_p=0.2, temperature=2.0) == allowed


def test_typical_p_leaves_the_surprising_and_the_obvious_out():
    p = np.array([0.4] + [0.02] * 30, np.float64)
    logits = np.log(p).astype(np.float32)
    seen = support(logits, typical_p=0.5)
    assert 0 not in seen


@given(
    st.integers(1, 6000),
    st.integers(1, 60),
    st.integers(0, 2**32),
    # With many equal ones, few, and mostly impossible ones.
    st.sampled_from([50, 10**6, -1]),
)
def test_the_cheap_way_to_the_largest_finds_the_largest(size, count, seed, kinds):
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, abs(kinds) * 50, size).astype(np.float32)
    if kinds < 0:
        logits[rng.random(size) < 0.97] = -np.inf
    ids, values = largest(logits, min(count, size))
    expected = np.argsort(-logits, kind="stable")[: min(count, size)]
    if values.size < len(expected):
        expected = expected[logits[expected] > -np.inf]
    assert list(ids) == list(expected)
    assert list(values) == list(logits[ids])


def test_bias_forbids_and_forces():
    logits = some_logits(100)
    best = int(logits.argmax())
    forbidden = Sampler(SamplingParams(temperature=0, logit_bias={best: -100.0}), [])
    assert forbidden.choose(logits, 0) != best
    forced = Sampler(SamplingParams(temperature=1, logit_bias={3: 100.0}), [])
    assert all(forced.choose(logits, position) == 3 for position in range(50))


def test_what_may_never_come_never_comes():
    logits = np.zeros(4, np.float32)
    logits[2] = 80
    sampler = Sampler(SamplingParams(), [], never=frozenset((2,)))
    assert {sampler.choose(logits, position) for position in range(100)} == {0, 1, 3}


def test_suppressed_tokens_do_not_come_and_logits_stay():
    logits = np.zeros(4, np.float32)
    logits[2] = 80
    before = logits.copy()
    sampler = Sampler(SamplingParams(temperature=0), [])
    assert sampler.choose(logits, 0, np.array([2])) != 2
    assert (logits == before).all()


def penalised(
    logits: list[float], history: list[int], prompt: Sequence[int] = (), **params: Any
) -> int:
    sampler = Sampler(SamplingParams(temperature=0, **params), prompt)
    for token in history:
        sampler.accept(token)
    return sampler.choose(np.array(logits, np.float32), 0)


def test_frequency_penalty_counts():
    assert penalised([1.0, 0.5, 0], [0], frequency_penalty=0.4) == 0
    assert penalised([1.0, 0.5, 0], [0, 0], frequency_penalty=0.4) == 1


def test_presence_penalty_does_not_count():
    assert penalised([1.0, 0.5, 0], [0, 0, 0], presence_penalty=0.4) == 0
    assert penalised([1.0, 0.5, 0], [0], presence_penalty=0.6) == 1


def test_repetition_penalty_pushes_down_on_both_sides_of_zero():
    assert penalised([1.0, 0.8, 0], [0], repetition_penalty=1.5) == 1
    assert penalised([-0.5, -0.6, -9], [0], repetition_penalty=1.5) == 1


def test_bias_comes_before_the_penalties():
    # Token 0: (1 - 2) * 2 = -2, below token 1; in the other order 1 / 2 - 2 = -1.5, above it.
    logits = np.array([1, -1.75], np.float32)
    params = SamplingParams(temperature=0, repetition_penalty=2, logit_bias={0: -2})
    assert Sampler(params, [0]).choose(logits, 0) == 1


def test_penalties_see_the_prompt():
    assert penalised([1.0, 0.5, 0], [], prompt=[0], presence_penalty=0.6) == 1


@pytest.mark.parametrize("window", [0, 3])
def test_a_long_prompt_is_not_counted_token_by_token(monkeypatch, window):
    monkeypatch.setattr("services.llama.sampling.penalties.Counts.add", None)
    logits = np.zeros(9, np.float32)
    params = SamplingParams(temperature=0, presence_penalty=2, penalty_window=window)
    sampler = Sampler(params, [0, 1, 2, 3, 4] * 1000 + [1, 0, 2])
    assert sampler.choose(logits, 0) == (3 if window else 5)


def test_penalties_forget_beyond_their_window():
    logits = [1.0, 0.5, 0]
    params: dict[str, Any] = {"presence_penalty": 0.6, "penalty_window": 2}
    assert penalised(logits, [0, 2], **params) == 1
    assert penalised(logits, [0, 2, 2], **params) == 0


@given(
    st.lists(st.integers(0, 300), max_size=300),
    st.integers(0, 20),
    st.integers(0, 300),
)
def test_a_sampler_is_determined_by_its_tokens(history, window, split):
    params = SamplingParams(
        seed=3,
        repetition_penalty=1.3,
        presence_penalty=0.5,
        frequency_penalty=0.3,
        penalty_window=window,
        top_p=0.9,
    )
    logits = np.random.default_rng(5).normal(size=301).astype(np.float32)
    whole = Sampler(params, history)
    continued = Sampler(params, history[:split])
    for token in history[split:]:
        continued.accept(token)
    assert whole.choose(logits, len(history)) == continued.choose(logits, len(history))


def test_logprobs_are_the_log_softmax_of_the_raw_logits():
    logits = some_logits(3000)
    expected = np.log(softmax(logits))
    entry = logprobs(logits, 17, 3)
    assert entry.logprob == pytest.approx(expected[17], abs=1e-5)
    assert [token for token, _ in entry.top] == list(np.argsort(-logits)[:3])
    assert [value for _, value in entry.top] == pytest.approx(sorted(expected)[:-4:-1], abs=1e-5)


def test_xtc_strikes_with_its_probability_and_spares_the_least_likely_above_the_threshold():
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    count = 4000
    seen = draws(logits, count, xtc=Xtc(0.5, 0.15)) / count
    # Struck: 0.2 and 0.1 are left, as 2/3 and 1/3.
    expected = np.array([0.4, 0.3, 0.2 + 2 / 3, 0.1 + 1 / 3]) / 2
    expected[:2] = [0.2, 0.15]
    assert np.abs(seen - expected).max() < 0.03


def test_xtc_leaves_a_single_top_choice_and_is_off_above_a_half():
    logits = np.log(np.array([0.6, 0.1, 0.1, 0.1, 0.1], np.float32))
    assert draws(logits, 1000, xtc=Xtc(1, 0.2))[0] > 500
    assert draws(logits, 1000, xtc=Xtc(1, 0.51))[0] > 500


def test_greedy_is_greedy_whatever_xtc_says():
    logits = some_logits(100)
    assert support(logits, temperature=0.0, xtc=Xtc(1, 0.0)) == {int(logits.argmax())}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [2.0, 4.0])
def test_mirostat_keeps_the_surprise_near_its_target(version, tau):
    ranks = np.arange(1, 5001)
    logits = (-1.2 * np.log(ranks)).astype(np.float32)
    sampler = Sampler(SamplingParams(seed=5, mirostat=Mirostat(version, tau, 0.1)), [])
    tokens = [sampler.choose(logits, position) for position in range(600)][100:]
    # Surprise among those kept, as it is learnt from, cannot be seen; the text's own is near it.
    entropy = -np.log2(softmax(logits))[tokens].mean()
    plainly = -np.log2(softmax(logits))
    assert entropy < float((softmax(logits) * plainly).sum()) - 0.5
    assert tau - 0.5 < entropy < tau + 2.5


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_replaces_the_truncations(version):
    logits = some_logits(500)
    mirostat = Mirostat(version, 6)
    cut: dict[str, Any] = {"top_k": 1, "top_p": 0.01, "min_p": 1.0, "typical_p": 0.01}
    for sampler in (
        Sampler(SamplingParams(mirostat=mirostat, **cut), []),
        Sampler(SamplingParams(mirostat=mirostat), []),
    ):
        tokens = [sampler.choose(logits, position) for position in range(50)]
        assert len(set(tokens)) > 5
