"""From single requests to the figures of a run, and from runs to medians and ratios. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from itertools import pairwise
from statistics import median

import numpy as np


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of one request, as the server's `usage` says: events are not tokens."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times are seconds on one clock."""

    started: float
    ended: float
    # Until the first event that carries text; None: not streamed, or no text came.
    ttft: float | None = None
    # Between events that carry text. One event may carry several tokens.
    gaps: tuple[float, ...] = ()
    tokens: Tokens = Tokens()
    # The answer's text, and why it ended ("stop", "length"); streamed answers only.
    text: str = ""
    finish: str | None = None
    # Which of the requests of its run.
    index: int = 0
    # A short label ("http 503", "cut off"); None: complete. Failed requests count in no figure.
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """One run of one cell. Milliseconds and seconds as named; None: nothing to measure."""

    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    itl_p50_ms: float | None
    itl_p99_ms: float | None
    # Time per output token after the first, each request's mean: does not depend on how
    # a server groups tokens into events.
    tpot_p50_ms: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    output_tokens_per_s: float
    requests_per_s: float
    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    # The longest between two events of streams that ran while a long prompt was evaluated.
    longest_gap_ms: float | None = None
    # Answers that ended by themselves, of all; and of those, how many the schema allows.
    ended_share: float | None = None
    valid_share: float | None = None
    # How much of a text came back that was to be given back.
    copied_share: float | None = None
    # Of the worker's steps, the time outside the model's decode.
    outside_decode_share: float | None = None
    # What the server holds in memory beyond the weights and the KV cache.
    memory_above_mib: float | None = None


def percentile(values: Sequence[float], q: float) -> float | None:
    """The q-th percentile (0..100), interpolated; None of nothing."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), q)) if len(values) else None


def figures(samples: Sequence[Sample]) -> Figures:
    """The figures of one run; its wall time goes from the first start to the last end."""
    good = [s for s in samples if s.error is None]
    ttft = [s.ttft * 1e3 for s in good if s.ttft is not None]
    gaps = [g * 1e3 for s in good for g in s.gaps]
    tpot = [
        sum(s.gaps) * 1e3 / (s.tokens.completion - 1)
        for s in good
        if s.gaps and s.tokens.completion > 1
    ]
    latency = [(s.ended - s.started) * 1e3 for s in good]
    wall = max(s.ended for s in samples) - min(s.started for s in samples) if samples else 0.0
    output = sum(s.tokens.completion for s in good)
    return Figures(
        ttft_p50_ms=percentile(ttft, 50),
        ttft_p99_ms=percentile(ttft, 99),
        itl_p50_ms=percentile(gaps, 50),
        itl_p99_ms=percentile(gaps, 99),
        tpot_p50_ms=percentile(tpot, 50),
        latency_p50_ms=percentile(latency, 50),
        latency_p99_ms=percentile(latency, 99),
        output_tokens_per_s=output / wall if wall > 0 else 0.0,
        requests_per_s=len(good) / wall if wall > 0 else 0.0,
        requests=len(samples),
        errors=len(samples) - len(good),
        prompt_tokens=sum(s.tokens.prompt for s in good),
        cached_tokens=sum(s.tokens.cached for s in good),
        output_tokens=output,
    )


def longest_gap(streams: Iterable[Sequence[float]], since: float, until: float) -> float | None:
    """The longest between two successive arrivals of one stream that touches the time between.

    Whole, though it may have begun before `since` or ended after `until`. In the arrivals' unit;
    None where no stream has such a gap.
    """
    gaps = [
        after - before
        for arrivals in streams
        for before, after in pairwise(arrivals)
        if after > since and before < until
    ]
    return max(gaps, default=None)


def share(found: Iterable[bool]) -> float | None:
    """Of nothing: None."""
    return _mean([float(value) for value in found])


def copied(wanted: str, answer: str) -> float:
    """How alike two texts are by their words, 0 to 1."""
    return SequenceMatcher(None, wanted.split(), answer.split(), autojunk=False).ratio()


def mean_copied(pairs: Iterable[tuple[str, str]]) -> float | None:
    """Of texts wanted and answers; None of nothing."""
    return _mean([copied(wanted, answer) for wanted, answer in pairs])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def errors(samples: Sequence[Sample]) -> dict[str, int]:
    """How often each error happened, the most frequent first."""
    return dict(Counter(s.error for s in samples if s.error is not None).most_common())


NAMES: tuple[str, ...] = tuple(f.name for f in fields(Figures))


def medians(runs: Sequence[Figures]) -> dict[str, float | None]:
    """Each figure's median over the runs that have it."""
    return {name: _over(runs, name, median) for name in NAMES}


def spread(runs: Sequence[Figures], name: str) -> tuple[float | None, float | None]:
    """Least and greatest of one figure over the runs."""
    return _over(runs, name, min), _over(runs, name, max)


def ratio(runs: Sequence[Figures], base: Sequence[Figures], name: str) -> float | None:
    """Median over runs of this server's figure divided by the base's in the same run.

    Servers take turns within a run, so what slows the machine for a while slows both.
    """
    pairs = [
        (getattr(ours, name), getattr(theirs, name))
        for ours, theirs in zip(runs, base, strict=True)
    ]
    quotients = [a / b for a, b in pairs if a is not None and b]
    return median(quotients) if quotients else None


def _over(runs: Sequence[Figures], name: str, what: Callable[[list[float]], float]) -> float | None:
    values = [float(v) for v in (getattr(r, name) for r in runs) if v is not None]
    return what(values) if values else None
