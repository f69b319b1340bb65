"""Sampling as its definitions read, on the whole vocabulary: slow, and sharing no code with ours.

A distribution is an array of probabilities, one per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from services.llama.interface import Logits
from services.llama.sampling import Dry, SamplingParams, Xtc

Distribution = np.ndarray[Any, np.dtype[np.float64]]


def softmax(values: Distribution) -> Distribution:
    weights: Distribution = np.exp(values - values.max())
    return weights / float(weights.sum())


def adjusted(
    logits: Logits,
    params: SamplingParams,
    history: Sequence[int],
    pieces: Callable[[int], bytes],
    forbidden: Sequence[int] = (),
) -> Distribution:
    values = [float(x) for x in logits]
    for token, bias in params.logit_bias.items():
        values[token] += bias
    seen = history[-params.penalty_window :] if params.penalty_window else history
    for token in set(seen):
        value = values[token]
        factor = params.repetition_penalty
        value = value / factor if value > 0 else value * factor
        value -= params.presence_penalty + seen.count(token) * params.frequency_penalty
        values[token] = value
    if params.dry is not None:
        for token, length in repeats(params.dry, history, pieces).items():
            excess = length - params.dry.allowed_length
            values[token] -= params.dry.multiplier * params.dry.base**excess
    for token in forbidden:
        values[token] = -math.inf
    return np.array(values)


def repeats(dry: Dry, history: Sequence[int], pieces: Callable[[int], bytes]) -> dict[int, int]:
    """Per token that would prolong a repeat, how long the longest one is."""
    recent = history[-dry.window :] if dry.window else history
    # The most that a repeat may have: tokens after the one in which the last breaker ends.
    since = len(history)
    text, ends = b"", []
    for token in history:
        text += pieces(token)
        ends.append(len(text))
    for breaker in (b.encode() for b in dry.sequence_breakers if b):
        for at in range(len(text)):
            if text.startswith(breaker, at):
                end = at + len(breaker)
                since = min(since, sum(1 for reached in ends if reached >= end) - 1)
    found: dict[int, int] = {}
    for place in range(len(recent) - 1):
        length = 0
        while length <= place and recent[place - length] == recent[-1 - length]:
            length += 1
        length = min(length, since)
        follower = recent[place + 1]
        breaks = any(b and b.encode() in pieces(follower) for b in dry.sequence_breakers)
        if length >= max(1, dry.allowed_length) and not breaks:
            found[follower] = max(length, found.get(follower, 0))
    return found


def truncated(values: Distribution, params: SamplingParams) -> Distribution:
    """Values with -inf for what top_k, typical_p, top_p and min_p take away, in this order."""
    kept = np.argsort(-values, kind="stable")
    if params.top_k:
        kept = kept[: params.top_k]
    if params.typical_p < 1:
        p = softmax(values[kept])
        entropy = float(-(p[p > 0] * np.log(p[p > 0])).sum())
        with np.errstate(divide="ignore"):
            order = np.argsort(np.abs(-np.log(p) - entropy), kind="stable")
        kept = kept[np.sort(order[: _reaching(p[order], params.typical_p)])]
    if params.top_p < 1:
        kept = kept[: _reaching(softmax(values[kept]), params.top_p)]
    if params.min_p > 0:
        p = softmax(values[kept])
        kept = kept[p >= params.min_p * p[0]]
    return _only(values, kept)


def excluded(values: Distribution, xtc: Xtc) -> Distribution:
    p = softmax(values)
    order = [t for t in np.argsort(-values, kind="stable") if values[t] > -math.inf]
    above = [t for t in order if p[t] >= xtc.threshold]
    if xtc.threshold > 0.5 or len(above) < 2:
        return values
    return _only(values, order[len(above) - 1 :])


def within_mirostat(values: Distribution, version: int, mu: float) -> Distribution:
    """What is kept of the tempered values."""
    p = softmax(values)
    order = [t for t in np.argsort(-values, kind="stable") if p[t] > 0]
    if version == 2:
        kept = [t for t in order if -math.log2(p[t]) <= mu]
        return _only(values, kept or order[:1])
    if len(order) < 2:
        return _only(values, order)
    above = below = 0.0
    for i in range(min(99, len(order) - 1)):
        t = math.log((i + 2) / (i + 1))
        above += t * math.log(p[order[i]] / p[order[i + 1]])
        below += t * t
    s = above / below
    e = s - 1
    k = ((e * 2**mu) / (1 - len(values) ** -e)) ** (1 / s)
    return _only(values, order[: max(1, int(min(k, len(order))))])


def distribution(
    values: Distribution, params: SamplingParams, mu: float, *, struck: bool
) -> Distribution:
    """Probabilities by the adjusted values; `struck`: XTC happens."""
    if params.temperature == 0:
        return softmax(_only(values, [int(values.argmax())]))
    mirostat = params.mirostat
    if mirostat is None:
        values = truncated(values, params)
    if struck and params.xtc is not None:
        values = excluded(values, params.xtc)
    values = values / params.temperature
    if mirostat is not None:
        values = within_mirostat(values, mirostat.version, mu)
    return softmax(values)


def learnt(p: Distribution, token: int, params: SamplingParams, mu: float) -> float:
    """The next mu."""
    assert params.mirostat is not None
    return mu - params.mirostat.eta * (-math.log2(p[token]) - params.mirostat.tau)


def _reaching(p: Distribution, mass: float) -> int:
    total = 0.0
    for count, share in enumerate(p, 1):
        total += share
        if total >= mass:
            return count
    return len(p)


def _only(values: Distribution, kept: Sequence[int] | np.ndarray[Any, Any]) -> Distribution:
    result = np.full(len(values), -math.inf)
    result[kept] = values[kept]
    return result
