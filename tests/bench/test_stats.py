from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import (
    Figures,
    Sample,
    Tokens,
    copied,
    errors,
    figures,
    longest_gap,
    mean_copied,
    medians,
    percentile,
    ratio,
    share,
    spread,
)


def sample(started: float, ended: float, **more: Any) -> Sample:
    return Sample(started, ended, **more)


def test_percentiles_are_interpolated_and_nothing_has_none():
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 50) is None


def test_throughput_is_tokens_over_the_wall_time_of_all_requests():
    run = figures(
        [
            sample(10.0, 12.0, tokens=Tokens(completion=30)),
            sample(11.0, 14.0, tokens=Tokens(completion=50)),
        ]
    )
    assert run.output_tokens_per_s == pytest.approx(80 / 4)
    assert run.requests_per_s == pytest.approx(2 / 4)


def test_time_per_token_does_not_depend_on_how_tokens_are_grouped_into_events():
    single = sample(0, 2, ttft=1.0, gaps=(0.1,) * 8, tokens=Tokens(completion=9))
    merged = sample(0, 2, ttft=1.0, gaps=(0.4, 0.4), tokens=Tokens(completion=9))
    assert figures([single]).tpot_p50_ms == pytest.approx(100)
    assert figures([merged]).tpot_p50_ms == pytest.approx(100)
    assert figures([merged]).itl_p50_ms == pytest.approx(400)


def test_failed_requests_are_counted_and_in_no_other_figure():
    good = sample(0, 1, ttft=0.5, tokens=Tokens(10, 2, 20))
    bad = sample(0, 4, error="http 503")
    run = figures([good, bad, bad])
    assert (run.requests, run.errors, run.output_tokens) == (3, 2, 20)
    assert run.ttft_p99_ms == pytest.approx(500)
    assert run.output_tokens_per_s == pytest.approx(20 / 4)
    assert errors([good, bad, bad]) == {"http 503": 2}


def test_a_run_without_a_single_answer_has_no_latency_and_does_not_fail():
    run = figures([sample(0, 1, error="timeout")])
    assert run.ttft_p50_ms is None
    assert run.output_tokens_per_s == 0
    assert figures([]).requests == 0


def one(rate: int) -> Figures:
    return figures([sample(0, 1, tokens=Tokens(completion=rate))])


def test_medians_and_spread_over_runs():
    runs = [one(10), one(30), one(20)]
    assert medians(runs)["output_tokens_per_s"] == pytest.approx(20)
    assert medians(runs)["ttft_p50_ms"] is None
    assert spread(runs, "output_tokens_per_s") == pytest.approx((10, 30))


def test_the_ratio_pairs_servers_within_a_run():
    # The machine was half as fast in the second run: the ratio is 2 all the same.
    assert ratio([one(40), one(20)], [one(20), one(10)], "output_tokens_per_s") == pytest.approx(2)
    assert ratio([one(40)], [figures([])], "output_tokens_per_s") is None


def test_a_gap_is_whole_though_it_begins_before_or_ends_after():
    streams = [(1.0, 2.0, 6.0, 7.0)]
    assert longest_gap(streams, 3.0, 5.0) == 4.0
    assert longest_gap(streams, 0.0, 1.5) == 1.0
    assert longest_gap(streams, 6.5, 9.0) == 1.0
    assert longest_gap(streams, 7.0, 9.0) is None
    assert longest_gap([(), (1.0,)], 0.0, 9.0) is None


ARRIVALS = st.lists(st.lists(st.integers(0, 100), max_size=8).map(sorted), max_size=4)


@given(ARRIVALS, st.integers(0, 100), st.integers(0, 100))
def test_the_longest_gap_is_one_of_those_that_touch_the_window(streams, since, until):
    found = longest_gap(streams, since, until)
    gaps = [
        times[n + 1] - times[n]
        for times in streams
        for n in range(len(times) - 1)
        if not (times[n + 1] <= since or times[n] >= until)
    ]
    assert found == (max(gaps) if gaps else None)


def test_shares_of_nothing_are_none():
    assert share([]) is None
    assert mean_copied([]) is None
    assert share([True, False, True, True]) == 0.75


def test_what_was_copied_is_counted_in_words():
    assert copied("a b c d", " a b c d") == 1
    assert copied("a b c d", "a b x d") == 0.75
    assert copied("a b c d", "") == 0
    assert mean_copied([("a", "a"), ("a", "b")]) == 0.5
