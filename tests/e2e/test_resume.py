"""A worker killed in the middle of an answer: the OpenAI SDK reads on as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.stack import MODEL_NAME, Process, Stack, get, running_stack, wait_until

TOKENS = 600
COUNTING: dict[str, Any] = {
    "model": MODEL_NAME,
    "messages": [{"role": "user", "content": "Count from 1 to 100"}],
    "temperature": 0,
    "max_tokens": TOKENS,
    # The model's own end may come before anybody can be killed.
    "extra_body": {"ignore_eos": True},
}


@pytest.fixture
def client(stack_of_two: Stack) -> Iterator[openai.OpenAI]:
    with sdk(stack_of_two) as made:
        yield made


@pytest.fixture
def stack_of_two(tmp_path: Path) -> Iterator[Stack]:
    with two_workers(tmp_path) as stack:
        yield stack


@contextlib.contextmanager
def two_workers(directory: Path, *flags: str) -> Iterator[Stack]:
    with running_stack(directory, 2, *flags) as stack:
        wait_until(lambda: [w["state"] for w in workers(stack)] == ["ready"] * 2, "two are ready")
        yield stack


def sdk(stack: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0, timeout=60)


def workers(stack: Stack) -> list[dict[str, Any]]:
    """By the edge's own account."""
    found: list[dict[str, Any]] = json.loads(get(f"{stack.url}/health/ready")[1])["workers"]
    return found


def end_busy(stack: Stack, sig: signal.Signals) -> Process:
    """Signals the worker that has the one request."""
    (address,) = [worker["address"] for worker in workers(stack) if worker["in_flight"]]
    name = "worker-" + address.rpartition(":")[2]
    process = next(one for one in stack.processes if one.name == name)
    process.popen.send_signal(sig)
    return process


def metric(stack: Stack, name: str) -> int:
    lines = get(f"{stack.url}/metrics")[1].splitlines()
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(name))


def resumed(stack: Stack) -> int:
    return metric(stack, 'caravan_edge_resumed_total{outcome="resumed"}')


def check(text: str | None) -> None:
    """Nothing is missing and nothing comes twice.

    As far as the model can count it is sure of each next token, and the text is exactly that of
    an uncut answer. What it says after that, made to go on, may turn at a near tie.
    """
    counting = ", ".join(str(number) for number in range(1, 101))
    assert (text or "")[: len(counting)] == counting


def test_a_stream_goes_on_when_its_worker_is_killed(
    stack_of_two: Stack, client: openai.OpenAI
) -> None:
    check(client.chat.completions.create(**COUNTING).choices[0].message.content)
    chunks = []
    for chunk in client.chat.completions.create(
        **COUNTING, stream=True, stream_options={"include_usage": True}
    ):
        chunks.append(chunk)
        if len(chunks) == 6:
            end_busy(stack_of_two, signal.SIGKILL).popen.wait(10)
    assert resumed(stack_of_two) == 1
    assert len({chunk.id for chunk in chunks}) == 1
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert [choice.delta.role for choice in choices if choice.delta.role] == ["assistant"]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == TOKENS
    check("".join(choice.delta.content or "" for choice in choices))


def test_an_answer_that_is_not_streamed_goes_on_as_well(
    stack_of_two: Stack, client: openai.OpenAI
) -> None:
    stack = stack_of_two
    first_tokens = "caravan_edge_time_to_first_token_seconds_count"
    with ThreadPoolExecutor(1) as pool:
        asked = metric(stack, first_tokens)
        asking = pool.submit(lambda: client.chat.completions.create(**COUNTING))
        wait_until(lambda: metric(stack, first_tokens) > asked, "the first token is there")
        end_busy(stack, signal.SIGKILL)
        answer = asking.result(60)
    assert resumed(stack) == 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens == TOKENS
    assert answer.choices[0].finish_reason == "length"
    check(answer.choices[0].message.content)


def test_a_stopped_worker_hands_over_what_its_grace_is_too_short_for(tmp_path: Path) -> None:
    with two_workers(tmp_path, "--drain-grace", "0", "--drain-delay", "0") as stack:
        seen = []
        with sdk(stack) as client:
            for chunk in client.chat.completions.create(**COUNTING, stream=True):
                seen.append(chunk.choices[0])
                if len(seen) == 6:
                    stopped = end_busy(stack, signal.SIGTERM)
        assert resumed(stack) == 1
        assert seen[-1].finish_reason == "length"
        check("".join(choice.delta.content or "" for choice in seen))
        assert stopped.stop() == 0
