"""Logits to a token: pure arithmetic, numpy only.

Randomness is a function of (seed, choice, position) and nothing else, so a sequence can be
continued anywhere from its tokens alone. The order is llama.cpp's: bias, penalties, then
top_k, typical_p, top_p and min_p on the untempered distribution, temperature last.

Cost matters: this runs once per token, on the engine's thread, with vocabularies of 150,000.
Greedy is one argmax. Otherwise a few hundred candidates are cut out first (`_at_least`), and
only a truncation that provably needs more of the tail sorts the whole vocabulary.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.llama.interface import Logits

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

_MASK = 2**64 - 1
# Candidates that a truncation looks at, as far as it needs; then the whole vocabulary.
_CANDIDATES = (1024, 16384)
# Values up to which equal ones are kept in order: sorting so takes several times as long.
_STABLE = 4096
# Below it only the likeliest token has any weight, and 1 / temperature may overflow.
_LEAST_TEMPERATURE = 1e-6
# Weights of one partial sum.
_BLOCK = 512
# Columns of the strided maximum that bounds the k-th largest logit from below.
_ROWS = 32


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen; the defaults are OpenAI's. Fields as in the contract."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    # Tokens back that the penalties look; 0 is the whole sequence, prompt included.
    penalty_window: int = 0
    seed: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def penalises(self) -> bool:
        """Whether any penalty is on."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
        )

    @property
    def truncates(self) -> bool:
        """Whether anything cuts the tail of the distribution off."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0 or self.typical_p < 1


@dataclass(frozen=True, slots=True)
class Logprobs:
    """A token's natural-log probability in the raw logits, and the likeliest there, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Sampler:
    """Chooses the tokens of one choice. Holds nothing that its tokens do not determine."""

    def __init__(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        *,
        choice: int = 0,
        never: frozenset[int] = frozenset(),
        piece: Any = None,
    ) -> None:
        self._params = params
        self._choice = choice
        self._counts = _Counts(params.penalty_window, prompt) if params.penalises else None
        bias = {**params.logit_bias, **dict.fromkeys(never, -math.inf)}
        self._bias_ids, self._bias = _arrays(bias)

    def accept(self, token: int) -> None:
        """Counts a generated token for the penalties; those of the prompt are counted already."""
        if self._counts is not None:
            self._counts.add(token)

    needs_replay = False

    def replay(self, logits: Logits, position: int, token: int) -> None: ...

    def choose(
        self, logits: Logits, position: int, suppressed: Ids | None = None, allowed: Any = None
    ) -> int:
        """The token at this position of the completion (from 0). Leaves `logits` unchanged."""
        logits = self._adjusted(logits, suppressed)
        params = self._params
        if params.temperature < _LEAST_TEMPERATURE or params.top_k == 1:
            return int(logits.argmax())
        draw = uniform(params.seed, self._choice, position)
        if not params.truncates:
            return _draw_untruncated(logits, params.temperature, draw)
        ids, kept = _truncate(logits, params)
        return int(ids[_draw(kept, params.temperature, draw)])

    def _adjusted(self, logits: Logits, suppressed: Ids | None) -> Logits:
        if self._counts is None and not len(self._bias_ids) and suppressed is None:
            return logits
        logits = logits.copy()
        if len(self._bias_ids):
            logits[self._bias_ids] += self._bias
        if self._counts is not None:
            _penalise(logits, self._counts, self._params)
        if suppressed is not None:
            logits[suppressed] = -np.inf
        return logits


def uniform(seed: int, choice: int, position: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments: SplitMix64, chained."""
    mixed = _mix(seed & _MASK)
    mixed = _mix(mixed ^ choice)
    mixed = _mix(mixed ^ position)
    return (mixed >> 11) * 2.0**-53


def logprobs(logits: Logits, token: int, top: int) -> Logprobs:
    """Log-softmax of the raw logits at `token`, and its `top` likeliest."""
    best = float(logits.max())
    normaliser = best + math.log(float(np.exp(logits - best).sum()))
    likeliest: tuple[tuple[int, float], ...] = ()
    if top:
        ids, values = _largest(logits, top)
        likeliest = tuple((int(i), float(v) - normaliser) for i, v in zip(ids, values, strict=True))
    return Logprobs(token, min(0.0, float(logits[token]) - normaliser), likeliest)


class _Counts:
    """How often each token came, within the window, in arrays ready for numpy."""

    def __init__(self, window: int, tokens: Sequence[int]) -> None:
        # At once, not one by one: a long prompt would hold every other sequence up.
        recent = tokens[-window:] if window else tokens
        self._window = deque(recent) if window else None
        self._size = window
        ids, counts = np.unique(np.array(recent, np.int64), return_counts=True)
        self._rows = {token: row for row, token in enumerate(ids.tolist())}
        self._ids = np.concatenate([ids, np.zeros(64, np.int64)])
        self._counts = np.concatenate([counts, np.zeros(64)]).astype(np.float32)

    def add(self, token: int) -> None:
        self._bump(token, 1)
        if self._window is not None:
            self._window.append(token)
            if len(self._window) > self._size:
                self._bump(self._window.popleft(), -1)

    def seen(self) -> tuple[Ids, Floats]:
        """Distinct tokens and their counts, which are positive."""
        used = len(self._rows)
        ids, counts = self._ids[:used], self._counts[:used]
        if self._window is None:
            return ids, counts
        present = counts > 0
        return ids[present], counts[present]

    def _bump(self, token: int, by: int) -> None:
        row = self._rows.get(token)
        if row is None:
            row = self._rows[token] = len(self._rows)
            if row == len(self._ids):
                self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[row] = token
        self._counts[row] += by


def _penalise(logits: Logits, counts: _Counts, params: SamplingParams) -> None:
    ids, times = counts.seen()
    values = logits[ids]
    penalty = params.repetition_penalty
    values = np.where(values > 0, values / penalty, values * penalty).astype(np.float32)
    values -= times * params.frequency_penalty + params.presence_penalty
    logits[ids] = values


def _truncate(logits: Logits, params: SamplingParams) -> tuple[Ids, Floats]:
    """Tokens that survive, and their logits, best first. At least one survives."""
    size = len(logits)
    total: float | None = None
    if params.top_k:  # comes first: the others see a distribution of its own
        ids, values = _largest(logits, min(params.top_k, size))
    else:
        total = float(np.exp(logits - logits.max()).sum())
        for wanted in (*_CANDIDATES, size):
            ids, values = _largest(logits, min(wanted, size))
            if _enough(values, total, params, size):
                break
    for cut in (_typical, _nucleus, _minimum):
        ids, values, total = cut(ids, values, total, params)
    return ids, values


def _enough(values: Floats, total: float, params: SamplingParams, size: int) -> bool:
    """Whether the truncations cannot want a token beyond these, the likeliest."""
    if len(values) == size:
        return True
    if params.typical_p < 1:
        return False  # it may prefer the tail to the head
    last = float(values[-1] - values[0])
    if params.min_p > 0 and last < math.log(params.min_p):
        return True
    if params.top_p < 1:
        return float(np.exp(values - values[0]).sum(dtype=np.float64)) / total >= params.top_p
    return False


_Cut = tuple[Ids, Floats, float | None]


def _probabilities(values: Floats, total: float | None) -> NDArray[np.float64]:
    """Of all that is left, best first; `total` is the mass relative to the best, if not theirs."""
    weights: NDArray[np.float64] = np.exp((values - values.max()).astype(np.float64))
    return weights / (float(weights.sum()) if total is None else total)


def _typical(ids: Ids, values: Floats, total: float | None, params: SamplingParams) -> _Cut:
    if params.typical_p >= 1:
        return ids, values, total
    p = _probabilities(values, total)
    information = -np.log(np.maximum(p, 1e-300))
    order = np.argsort(np.abs(information - float((p * information).sum())), kind="stable")
    count = int(np.searchsorted(np.cumsum(p[order]), params.typical_p)) + 1
    kept = np.sort(order[:count])
    return ids[kept], values[kept], None


def _nucleus(ids: Ids, values: Floats, total: float | None, params: SamplingParams) -> _Cut:
    if params.top_p >= 1:
        return ids, values, total
    p = _probabilities(values, total)
    count = int(np.searchsorted(np.cumsum(p), params.top_p)) + 1
    return ids[:count], values[:count], None


def _minimum(ids: Ids, values: Floats, total: float | None, params: SamplingParams) -> _Cut:
    if params.min_p <= 0:
        return ids, values, total
    kept = values >= values[0] + np.float32(math.log(params.min_p))
    return ids[kept], values[kept], None


def _largest(logits: Logits, count: int) -> tuple[Ids, Floats]:
    """The `count` largest logits, best first, ties by the lower token."""
    ids = _at_least(logits, count)
    order = np.argsort(-logits[ids], kind="stable" if len(ids) <= _STABLE else None)[:count]
    ids = ids[order]
    return ids, logits[ids]


def _at_least(logits: Logits, count: int) -> Ids:
    """Indices, ascending, of a superset of the `count` largest, mostly not many more.

    The maxima of disjoint groups are elements too: `count` of them are at least as large as the
    count-th largest maximum, so everything below that is out.
    """
    columns = len(logits) // _ROWS
    if count >= len(logits):
        return np.arange(len(logits))
    if columns <= count:
        bound = np.partition(logits, len(logits) - count)[len(logits) - count]
        return np.flatnonzero(logits >= bound)
    maxima = logits[: _ROWS * columns].reshape(_ROWS, columns).max(axis=0)
    bound = np.partition(maxima, columns - count)[columns - count]
    found: Ids = np.flatnonzero(logits >= bound)
    return found


def _draw(values: Floats, temperature: float, draw: float) -> int:
    """Index of a value, with probability softmax(values / temperature)."""
    scaled = (values.astype(np.float64) - float(values.max())) / temperature
    return _pick(np.exp(scaled), draw)


def _draw_untruncated(logits: Logits, temperature: float, draw: float) -> int:
    best = float(logits.max())
    weights = np.exp((logits - np.float32(best)) * np.float32(1 / temperature))
    # Two levels, because a running sum over the whole vocabulary costs more than the rest.
    # Single precision suffices within a block: it errs by less than the weights themselves.
    whole = len(weights) // _BLOCK * _BLOCK
    sums = weights[:whole].reshape(-1, _BLOCK).sum(axis=1)
    sums = np.append(sums, weights[whole:].sum()).astype(np.float64)
    cumulative = np.cumsum(sums)
    target = draw * cumulative[-1]
    index = _pick(sums, draw)
    within = (target - (cumulative[index] - sums[index])) / sums[index]
    inner = weights[index * _BLOCK : (index + 1) * _BLOCK].astype(np.float64)
    return index * _BLOCK + _pick(inner, min(1.0, max(0.0, within)))


def _pick(weights: NDArray[np.float64], draw: float) -> int:
    """Index i with probability weights[i] / sum; never one of weight 0."""
    cumulative = np.cumsum(weights)
    index = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
    if index < len(weights):
        return index
    return int(np.flatnonzero(weights)[-1])


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _arrays(bias: Mapping[int, float]) -> tuple[Ids, Floats]:
    ids = np.fromiter(bias.keys(), np.int64, len(bias))
    return ids, np.fromiter(bias.values(), np.float32, len(bias))
