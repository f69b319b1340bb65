import hashlib
from typing import Any

import orjson
import pytest

from bench.prompts import (
    FIXED_STREAMS,
    SCENARIOS,
    WORDS,
    Shape,
    bodies,
    cells_needed,
    next_turn,
    quoted,
    requests_of,
    running_bodies,
    text,
)


def users(requests: list[dict[str, Any]]) -> list[str]:
    return [r["messages"][-1]["content"] for r in requests]


def systems(requests: list[dict[str, Any]]) -> set[str]:
    return {r["messages"][0]["content"] for r in requests if r["messages"][0]["role"] == "system"}


def test_the_same_arguments_give_the_same_requests_on_every_machine():
    made = orjson.dumps(bodies(Shape(), "shared-prefix", 8, 1, 24))
    assert made == orjson.dumps(bodies(Shape(), "shared-prefix", 8, 1, 24))
    assert hashlib.sha256(text(50, 1, "a").encode()).hexdigest().startswith("600b7631")


def test_no_user_message_comes_twice():
    shape = Shape()
    seen = []
    for scenario in SCENARIOS:
        for concurrency in (1, 8):
            for run in range(3):
                made = bodies(shape, scenario, concurrency, run, 24)
                seen += users(made)
                if scenario == "second-turn":
                    turns = (next_turn(shape, b, "same", at) for at, b in enumerate(made))
                    seen += users(list(turns))
                if scenario == "long-prompt" and concurrency == 1:
                    seen += users(running_bodies(shape, run, 0, 4))
                    seen += users(running_bodies(shape, run, 1, 4))
    assert len(set(seen)) == len(seen)


def test_no_two_prompts_of_a_scenario_begin_alike():
    for scenario in ("plain", "second-turn", "long-prompt", "kv-pressure", "memory"):
        begun = {
            tuple(content.split()[:4])
            for run in range(6)
            for content in users(bodies(Shape(), scenario, 8, run, 24))
        }
        assert len(begun) == 6 * 24


def test_another_seed_gives_other_prompts():
    first, second = (bodies(Shape(seed=s), "plain", 1, 1, 4) for s in (1, 2))
    assert not set(users(first)) & set(users(second))


def test_a_shared_prefix_is_fresh_in_every_run_and_a_warm_one_is_not():
    runs = [bodies(Shape(), "shared-prefix", 8, run, 4) for run in (1, 2)]
    assert [len(systems(r)) for r in runs] == [1, 1]
    assert not systems(runs[0]) & systems(runs[1])
    warm = [bodies(Shape(), "warm-prefix", 8, run, 4) for run in (1, 2)]
    assert systems(warm[0]) == systems(warm[1])
    assert not systems(bodies(Shape(), "plain", 8, 1, 4))


def test_sampling_is_said_and_usage_is_asked_for():
    (body,) = bodies(Shape(max_tokens=7), "plain", 1, 1, 1)
    assert body["max_tokens"] == 7
    assert body["ignore_eos"] is True
    assert {"temperature", "top_k", "top_p", "min_p", "seed"} <= body.keys()
    assert body["stream_options"] == {"include_usage": True}
    (body,) = bodies(Shape(), "nonstream", 1, 1, 1)
    assert body["stream"] is False
    assert "stream_options" not in body


def test_words_are_counted():
    assert len(text(110, 1).split()) == 110


def test_a_second_turn_goes_on_where_the_first_one_stopped():
    shape = Shape()
    (first,) = bodies(shape, "second-turn", 1, 1, 1)
    second = next_turn(shape, first, "An answer.", 0)
    assert len(first["messages"][0]["content"].split()) == 400
    assert second["messages"][:1] == first["messages"]
    assert [m["role"] for m in second["messages"]] == ["user", "assistant", "user"]
    assert second == next_turn(shape, first, "An answer.", 0)


def test_running_streams_outlast_the_prompt_beside_them():
    assert {body["max_tokens"] for body in running_bodies(Shape(), 1, 0, 4)} == {400}


@pytest.mark.parametrize("scenario", ["json-schema", "quote"])
def test_answers_that_must_end_by_themselves_may(scenario):
    (body,) = bodies(Shape(), scenario, 8, 1, 1)
    assert body["ignore_eos"] is False


def test_a_text_to_be_given_back_differs_in_places_from_what_will_be_said():
    (body,) = bodies(Shape(), "forced-copy", 1, 1, 1)
    asked = quoted(body).split()
    assert len(asked) == body["max_tokens"] == 200
    edits = sum(a != b for a, b in zip(asked, WORDS, strict=False))
    assert 6 <= edits <= 8
    assert body["temperature"] == 0
    (body,) = bodies(Shape(), "quote", 1, 1, 1)
    assert len(quoted(body).split()) == 24


def test_the_cells_that_requests_under_pressure_need():
    # 100 words, 9 full stops, 22 of the template, 128 of the answer
    assert cells_needed(Shape()) == 16 * 259
    assert {b["max_tokens"] for b in bodies(Shape(), "kv-pressure", 16, 1, 16)} == {128}


def test_scenarios_with_their_own_streams_have_requests_for_all_of_them():
    for scenario, streams in FIXED_STREAMS.items():
        assert scenario == "long-prompt" or requests_of(scenario, streams) >= streams
    assert (requests_of("plain", 1), requests_of("plain", 8)) == (4, 24)
