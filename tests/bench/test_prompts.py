import hashlib
from typing import Any

import orjson

from bench.prompts import SCENARIOS, Shape, bodies, text


def users(requests: list[dict[str, Any]]) -> list[str]:
    return [r["messages"][-1]["content"] for r in requests]


def systems(requests: list[dict[str, Any]]) -> set[str]:
    return {r["messages"][0]["content"] for r in requests if r["messages"][0]["role"] == "system"}


def test_the_same_arguments_give_the_same_requests_on_every_machine():
    made = orjson.dumps(bodies(Shape(), "shared-prefix", 8, 1, 24))
    assert made == orjson.dumps(bodies(Shape(), "shared-prefix", 8, 1, 24))
    assert hashlib.sha256(text(50, 1, "a").encode()).hexdigest().startswith("600b7631")


def test_no_user_message_comes_twice():
    seen = [
        content
        for scenario in SCENARIOS
        for concurrency in (1, 8)
        for run in range(3)
        for content in users(bodies(Shape(), scenario, concurrency, run, 24))
    ]
    assert len(set(seen)) == len(seen)


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
