from typing import Any

import pytest

from bench.stats import Figures, Sample, Tokens, errors, figures, medians, percentile, ratio, spread


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
