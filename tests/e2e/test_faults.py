"""What clients see when processes die, hang or are stopped: real processes, real signals."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.stack import MODEL_NAME, ROOT, Stack, free_port, get, running_stack, wait_until

# Long enough to be cut anywhere: the model counts, and may not end by itself.
LONG: dict[str, Any] = {
    "model": MODEL_NAME,
    "messages": [{"role": "user", "content": "Count from 1 to 100"}],
    "max_tokens": 900,
    "stream": True,
    "ignore_eos": True,
}


def events(response: httpx.Response) -> Iterator[str]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


def in_flight(stack: Stack) -> int:
    """In-flight requests by the edge's own account."""
    workers = json.loads(get(f"{stack.url}/health/ready")[1])["workers"]
    return sum(int(worker["in_flight"]) for worker in workers)


def worker_states(stack: Stack) -> list[str]:
    workers = json.loads(get(f"{stack.url}/health/ready")[1])["workers"]
    return [str(worker["state"]) for worker in workers]


def test_killed_worker_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        worker = stack.processes[0]
        with httpx.stream(
            "POST", f"{stack.base_url}/chat/completions", json=LONG, timeout=20
        ) as answer:
            seen = []
            for event in events(answer):
                seen.append(event)
                if len(seen) == 4:
                    worker.popen.kill()
        assert "[DONE]" not in seen
        assert json.loads(seen[-1])["error"]["message"]
        # Nobody is left to answer: 503, quickly, with a hint when to come back.
        wait_until(lambda: get(f"{stack.url}/health/ready")[0] == 503, "not ready")
        refused = httpx.post(
            f"{stack.base_url}/chat/completions", json={**LONG, "stream": False}, timeout=20
        )
        assert refused.status_code == 503
        assert "retry-after" in refused.headers


def test_second_worker_takes_over(tmp_path: Path) -> None:
    with running_stack(tmp_path, 2) as stack:
        wait_until(lambda: worker_states(stack) == ["ready", "ready"], "two workers are ready")
        stack.processes[0].popen.kill()
        client = openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0, timeout=30)
        for _ in range(6):
            answer = client.chat.completions.create(
                model=MODEL_NAME,
                messages=[{"role": "user", "content": "What is the capital of France?"}],
                temperature=0,
            )
            assert "Paris" in (answer.choices[0].message.content or "")


def test_client_gone_frees_the_worker(stack: Stack) -> None:
    with httpx.stream(
        "POST", f"{stack.base_url}/chat/completions", json=LONG, timeout=20
    ) as answer:
        reader = events(answer)
        for _ in range(3):
            next(reader)
        assert in_flight(stack) == 1
    wait_until(lambda: in_flight(stack) == 0, "nothing in flight", 60)


def test_worker_drains_on_sigterm(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        body = {**LONG, "max_tokens": 400}
        with httpx.stream(
            "POST", f"{stack.base_url}/chat/completions", json=body, timeout=30
        ) as answer:
            seen = []
            for event in events(answer):
                seen.append(event)
                if len(seen) == 3:
                    stack.processes[0].popen.terminate()
        assert seen[-1] == "[DONE]"
        assert stack.processes[0].stop() == 0


def test_up_serves_and_ctrl_c_ends_it_during_generation(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    port = free_port()
    try:
        up = stack.spawn("up", "-m", "deploy.up", env={"PORT": str(port)})
        wait_until(lambda: "curl" in up.output() or up.popen.poll() is not None, "up is ready")
        assert up.popen.poll() is None, up.output()
        assert MODEL_NAME in up.output()
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        with httpx.stream("POST", url, json=LONG, timeout=30) as answer:
            reader = events(answer)
            seen = [next(reader)]
            up.popen.send_signal(signal.SIGINT)
            seen += reader
        # Either it was done within the grace, or it was told that it is cut off.
        assert seen[-1] == "[DONE]" or "error" in json.loads(seen[-1])
        assert up.popen.wait(60) in (0, 130)
        assert get(f"http://127.0.0.1:{port}/health")[0] == 0
    finally:
        stack.stop()


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"MODEL": "nowhere/nothing.gguf"}, r"nothing\.gguf"),
        ({"MODEL": str(ROOT / "pyproject.toml")}, r"(?i)gguf"),
        ({"MODEL": "BROKEN"}, r"(?i)gguf|model"),
        ({"PORT": "TAKEN"}, r"(?i)port"),
        ({"PORT": "eighty"}, r"(?i)port"),
        ({"WORKERS": "0"}, r"(?i)workers"),
    ],
)
def test_up_says_what_is_wrong_in_one_line(
    tmp_path: Path, stack: Stack, env: dict[str, str], says: str
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes((ROOT / "models" / f"{MODEL_NAME}.gguf").read_bytes()[:200_000])
    values = {"BROKEN": str(broken), "TAKEN": str(stack.port)}
    own = Stack(tmp_path)
    try:
        port = {"PORT": str(free_port())}
        up = own.spawn(
            "up", "-m", "deploy.up", env={**port, **{k: values.get(v, v) for k, v in env.items()}}
        )
        assert up.popen.wait(60) not in (0, None)
        lines = [line for line in up.output().splitlines() if line.strip()]
        assert re.search(says, lines[-1]), lines
        assert "Traceback" not in up.output()
    finally:
        own.stop()
