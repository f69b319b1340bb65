from dataclasses import replace

import pytest

from bench.report import Cell
from bench.stages import STAGES, cases
from bench.stats import Figures, Sample, Tokens, figures
from bench.verdicts import BARS, as_json, judge


def run(rate: int, **more) -> Figures:
    made = figures([Sample(0, 1, ttft=0.5, tokens=Tokens(completion=rate))])
    return replace(made, **more)


def pair(scenario, streams, ours, base, **more):
    return [
        Cell(scenario, streams, "llama-server", [run(rate) for rate in base]),
        Cell(scenario, streams, "caravan", [run(rate, **more) for rate in ours]),
    ]


@pytest.mark.parametrize(
    ("rate", "result"), [(940, "short"), (950, "bar"), (999, "bar"), (1000, "aim"), (1200, "aim")]
)
def test_a_rate_is_held_against_bar_and_aim(rate, result):
    (verdict,) = judge(pair("plain", 8, [rate], [1000]), every=False)
    assert verdict.result == result
    assert verdict.value == pytest.approx(rate / 1000)
    assert {"short": "SHORT", "bar": "reaches the bar", "aim": "the aim"}[result] in verdict.line()


@pytest.mark.parametrize(
    ("gap", "result"), [(310.0, "short"), (300.0, "bar"), (151.0, "bar"), (150.0, "aim")]
)
def test_of_times_less_is_better(gap, result):
    cells = pair("long-prompt", 4, [1], [1])
    cells[0].runs = [replace(cells[0].runs[0], longest_gap_ms=1000.0)]
    cells[1].runs = [replace(cells[1].runs[0], longest_gap_ms=gap)]
    verdicts = {v.bar.figure: v for v in judge(cells, every=False)}
    assert verdicts["longest_gap_ms"].result == result
    assert verdicts["ttft_p50_ms"].result == "aim"


def test_the_ratio_is_the_median_over_runs():
    (verdict,) = judge(pair("plain", 1, [90, 100, 20], [100, 100, 10]), every=False)
    assert verdict.value == pytest.approx(1.0)


def test_a_share_needs_no_other_server():
    cells = [Cell("plain", 16, "caravan", [run(1, outside_decode_share=s) for s in (0.05, 0.07)])]
    (verdict,) = judge(cells, every=False)
    assert verdict.result == "bar"
    assert verdict.value == pytest.approx(0.06)
    assert "llama-server" not in verdict.line()


@pytest.mark.parametrize(("side", "result"), [(0, "not measured"), (1, "short")])
def test_requests_that_failed_spoil_a_good_figure(side, result):
    cells = pair("plain", 8, [1000], [1000])
    cells[side].errors["http 500"] = 2
    (verdict,) = judge(cells, every=False)
    assert verdict.result == result
    assert "2 http 500" in verdict.line()


def test_output_that_is_not_valid_reaches_nothing():
    valid = pair("json-schema", 8, [300], [100], valid_share=1.0)
    assert judge(valid, every=False)[0].result == "aim"
    wrong = pair("json-schema", 8, [300, 300], [100, 100], valid_share=0.9)
    assert judge(wrong, every=False)[0].result == "short"
    unknown = pair("json-schema", 8, [300], [100])
    assert judge(unknown, every=False)[0].result == "short"


def test_what_was_not_measured_is_said_only_where_all_is_wanted():
    cells = pair("plain", 8, [1000], [1000])
    assert len(judge(cells, every=False)) == 1
    assert judge(cells[1:], every=False) == []
    whole = judge(cells, every=True)
    assert [v.bar for v in whole] == list(BARS)
    assert sum(v.result == "not measured" for v in whole) == len(BARS) - 1
    assert all("not measured" in v.line() for v in whole if v.value is None)


def test_servers_that_answered_nothing_have_no_figure_and_the_reason_is_said():
    cells = pair("plain", 8, [], [])
    cells[1].errors["timeout"] = 3
    (verdict,) = judge(cells, every=False)
    assert verdict.result == "not measured"
    assert "3 timeout" in verdict.line()


def test_every_bar_has_its_cells_in_one_stage():
    for bar in BARS:
        homes = [
            stage
            for stage in STAGES
            if (bar.scenario, bar.streams) in stage.cases and bar.ours in stage.servers
        ]
        assert homes, bar
        if bar.base:
            assert all(stage.servers[0] == bar.base for stage in homes), bar


def test_scenarios_with_their_own_number_of_streams_keep_it():
    assert cases(["plain", "long-prompt", "kv-pressure"], [1, 8]) == [
        ("plain", 1),
        ("plain", 8),
        ("long-prompt", 4),
        ("kv-pressure", 16),
    ]


def test_verdicts_as_json():
    (row,) = as_json(judge(pair("plain", 8, [1000], [1000]), every=False))
    assert row["result"] == "aim"
    assert {"bar", "aim", "value", "server", "base", "scenario"} <= row.keys()
