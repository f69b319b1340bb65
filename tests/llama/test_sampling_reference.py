"""The sampler against plain_sampling, which reads as the definitions do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.llama.interface import Logits
from services.llama.sampling import Dry, Mirostat, Sampler, SamplingParams, Xtc
from tests.llama import plain_sampling as plain

GRID = 50
PIECES = [b"a", b"b", b"ab", b"\n", b"a\nb", b"", b"ba", b"\xe2\x82", b"\xac"]
BREAKERS = ["\n", "ab", "ba", "aab", "€", "bab\na", ""]


def piece(token: int) -> bytes:
    return PIECES[token % len(PIECES)]


def logits_of(seed: int, size: int, scale: float = 2.0) -> Logits:
    values: Logits = (np.random.default_rng(seed).normal(size=size) * scale).astype(np.float32)
    return values


def bitmask(tokens: Sequence[int], words: int) -> Any:
    mask = np.zeros(words, np.uint32)
    for token in tokens:
        mask[token // 32] |= np.uint32(1 << (token % 32))
    return mask


def shares(monkeypatch: pytest.MonkeyPatch, make: Any, arguments: Any) -> plain.Distribution:
    """The distribution that `choose` draws from, by asking it for numbers all over [0, 1).

    A token has one interval of them, or two where XTC left a gap; each is met to 1 / GRID.
    """
    logits = arguments[0]
    before = logits.tobytes()
    counts = np.zeros(len(logits))
    for step in range(GRID):
        number = (step + 0.5) / GRID
        with monkeypatch.context() as patch:
            patch.setattr(
                "services.llama.sampling.sampler.uniform", lambda *_, number=number: number
            )
            counts[make().choose(*arguments)] += 1
    assert logits.tobytes() == before
    return counts / GRID


def assert_alike(seen: plain.Distribution, expected: plain.Distribution) -> None:
    assert not seen[expected == 0].any()
    assert np.abs(seen - expected).max() < 1.02 / GRID


def some_params(rng: random.Random) -> SamplingParams:
    def maybe(value: Any, otherwise: Any) -> Any:
        return value if rng.random() < 0.4 else otherwise

    dry = Dry(
        multiplier=rng.uniform(0.1, 2),
        base=rng.uniform(1, 2.5),
        allowed_length=rng.randrange(4),
        window=maybe(rng.randrange(1, 20), 0),
        sequence_breakers=tuple(rng.sample(BREAKERS, rng.randrange(3))),
    )
    return SamplingParams(
        temperature=maybe(rng.uniform(0.2, 2), maybe(0.0, 1.0)),
        top_p=maybe(rng.random(), 1.0),
        top_k=maybe(rng.randrange(2, 40), 0),
        min_p=maybe(rng.uniform(0, 0.3), 0.0),
        typical_p=maybe(rng.random(), 1.0),
        repetition_penalty=maybe(rng.uniform(0.5, 2), 1.0),
        presence_penalty=maybe(rng.uniform(-2, 2), 0.0),
        frequency_penalty=maybe(rng.uniform(-2, 2), 0.0),
        penalty_window=maybe(rng.randrange(1, 20), 0),
        logit_bias=maybe({rng.randrange(2): rng.uniform(-5, 5)}, {}),
        dry=maybe(dry, None),
        xtc=maybe(Xtc(maybe(1.0, 0.0), rng.choice([0.0, 0.51, rng.uniform(0, 0.5)])), None),
        mirostat=maybe(Mirostat(rng.choice([1, 2]), rng.uniform(0.5, 6), rng.random()), None),
    )


@given(st.integers(0, 2**32), st.integers(2, 80), st.data())
def test_any_combination_draws_from_the_distribution_of_the_definitions(seed, size, data):
    rng = random.Random(seed)
    params = some_params(rng)
    logits = logits_of(seed, size)
    history = [rng.randrange(min(size, 4)) for _ in range(rng.randrange(40))]
    allowed = data.draw(st.none() | st.sets(st.integers(0, size - 1), min_size=2))
    suppressed = [rng.randrange(size)] if rng.random() < 0.3 and size > 3 else []
    never = frozenset([rng.randrange(size)] if rng.random() < 0.3 and size > 3 else [])
    gone = {*suppressed, *never}
    if allowed is not None:
        gone |= set(range(size)) - allowed
    if len(gone) == size:
        return
    values = plain.adjusted(logits, params, history, piece, sorted(gone))
    struck = params.xtc is not None and params.xtc.probability == 1
    mu = 2 * params.mirostat.tau if params.mirostat else 0.0
    expected = plain.distribution(values, params, mu, struck=struck)
    mask = (
        None if allowed is None else bitmask(sorted(allowed), rng.choice([0, 2]) + size // 32 + 1)
    )
    arguments = (logits, 0, np.array(suppressed) if suppressed else None, mask)
    with pytest.MonkeyPatch.context() as patch:
        make = lambda: Sampler(params, history, never=never, piece=piece)  # noqa: E731
        assert_alike(shares(patch, make, arguments), expected)


BIG = 40_000


@pytest.mark.parametrize("scale", [0.02, 2])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"top_k": 40, "top_p": 0.95, "min_p": 0.05},
        {"top_k": 3000},
        {"top_p": 0.3},
        {"top_p": 0.97},
        {"min_p": 0.05},
        {"min_p": 0.9},
        {"typical_p": 0.2},
        {"typical_p": 0.95},
        {"typical_p": 0.9, "top_p": 0.9, "min_p": 0.01},
        {"xtc": Xtc(1, 0.00003)},
        {"top_k": 100, "xtc": Xtc(1, 0.02)},
        {"mirostat": Mirostat(1, 3)},
        {"mirostat": Mirostat(1, 9)},
        {"mirostat": Mirostat(2, 3)},
        {"mirostat": Mirostat(2, 7)},
    ],
)
@pytest.mark.parametrize("masked", [None, 20, 30_000])
def test_the_ways_through_a_large_vocabulary_draw_as_the_definitions_say(params, scale, masked):
    made = SamplingParams(temperature=1.3, **params)
    logits = logits_of(5, BIG, scale)
    allowed = None if masked is None else random.Random(masked).sample(range(BIG), masked)
    gone = [] if allowed is None else sorted(set(range(BIG)) - set(allowed))
    values = plain.adjusted(logits, made, [], piece, gone)
    mu = 2 * made.mirostat.tau if made.mirostat else 0.0
    expected = plain.distribution(values, made, mu, struck=True)
    mask = None if allowed is None else bitmask(allowed, BIG // 32)
    with pytest.MonkeyPatch.context() as patch:
        seen = shares(patch, lambda: Sampler(made, [], piece=piece), (logits, 0, None, mask))
    # Where thousands are kept, single precision may keep a few more or fewer at the edge.
    stray = seen[expected == 0].sum()
    assert stray == 0 or (expected > 0).sum() > 1000
    assert stray <= 1 / GRID
    if (expected > 0).sum() < 200:
        assert np.abs(seen - expected).max() < 1.02 / GRID
    else:  # a distribution is its running sums, in whatever order: here the tokens'
        order = np.argsort(-values, kind="stable")
        assert np.abs(np.cumsum(seen[order]) - np.cumsum(expected[order])).max() < 0.25


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("xtc", [None, Xtc(1, 0.1)])
@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_mirostat_learns_as_its_definition_says(version, xtc, seed):
    rng = random.Random(seed)
    params = SamplingParams(
        temperature=rng.uniform(0.5, 1.5),
        seed=seed,
        xtc=xtc,
        presence_penalty=rng.choice([0, 0.7]),
        mirostat=Mirostat(version, rng.uniform(1, 5), rng.uniform(0.05, 0.8)),
    )
    assert params.mirostat is not None
    sampler = Sampler(params, [])
    mu = 2 * params.mirostat.tau
    history: list[int] = []
    steps = rng.randrange(12)
    for position in range(steps + 1):
        logits = logits_of(seed + position, 60)
        values = plain.adjusted(logits, params, history, piece)
        p = plain.distribution(values, params, mu, struck=xtc is not None)

        if position == steps:
            with pytest.MonkeyPatch.context() as patch:
                seen = shares(patch, lambda: deepcopy(sampler), (logits, position))
            assert_alike(seen, p)
        token = sampler.choose(logits, position)
        sampler.accept(token)
        mu = plain.learnt(p, token, params, mu)
        history.append(token)


def test_temperature_is_not_part_of_the_truncation():
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    hot = SamplingParams(temperature=100, top_p=0.79)
    with pytest.MonkeyPatch.context() as patch:
        seen = shares(patch, lambda: Sampler(hot, []), (logits, 0))
    assert seen[0] == pytest.approx(0.5, abs=0.02)
    assert seen[2] == 0
