"""A worker as a process: signals, exit codes, and what it says to the person who started it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from common.transport import channel_options, read_failure
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc
from services.worker import healthcheck
from tests.fakes.process import WorkerProcess, worker_process

ROOT = Path(__file__).parents[2]
REQUEST = pb.GenerateRequest(text=pb.TextInput(text="x"))


def run(*args: str, module: str = "tests.fakes.scripted_worker") -> tuple[int, str]:
    """Exit code and stderr of a process that ends by itself."""
    done = subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with worker_process() as running:
        yield running


def test_a_start_that_fails_is_one_line():
    assert run("--port", "0", "--start-fails", "m.gguf: no model") == (
        1,
        "scripted-worker: m.gguf: no model\n",
    )


def test_a_setting_that_the_model_shows_to_be_wrong_is_not_tried_again():
    assert run("--port", "0", "--setting-wrong", "--lora a: not for this model") == (
        2,
        "scripted-worker: --lora a: not for this model\n",
    )


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = run("--port", str(port))

    expected = f"scripted-worker: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert (code, said) == (1, expected)


@pytest.mark.parametrize(
    "args",
    [("--port", "x"), ("--no-such-flag",), ("--tokens", "-1"), ("--host", "256.0.0.1")],
)
def test_a_wrong_setting_is_one_line(args: tuple[str, ...]):
    code, said = run(*args)

    assert code == 2
    assert said.count("\n") == 1
    assert said.startswith("scripted-worker: ")


def test_a_lost_backend_ends_the_process():
    code, said = run("--port", "0", "--lost", "the engine thread died", "--log-format", "json")

    assert code == 1
    assert "the engine thread died" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_an_idle_worker(number: signal.Signals):
    with worker_process(["--drain-delay", "0"]) as worker:
        worker.signal(number)

        assert worker.wait() == 0
        assert "Traceback" not in worker.log


def test_a_signal_stops_a_worker_that_loads():
    worker = WorkerProcess("tests.fakes.scripted_worker", ["--start-hangs", "--log-level", "debug"])
    try:
        worker.wait_event("loading")

        worker.signal(signal.SIGTERM)

        assert worker.wait() == 0
        assert "Traceback" not in worker.log
    finally:
        worker.close()


def test_a_second_signal_ends_running_calls():
    args = ["--hang-at", "2", "--drain-delay", "60", "--drain-grace", "60"]
    with (
        worker_process(args) as worker,
        grpc.insecure_channel(worker.address, options=channel_options()) as channel,
    ):
        call = pb_grpc.InferenceServiceStub(channel).Generate(REQUEST)
        assert next(call).HasField("started")
        worker.signal(signal.SIGTERM)
        worker.wait_event("draining")

        worker.signal(signal.SIGTERM)

        with pytest.raises(grpc.RpcError):
            list(call)
        got = read_failure(call.code(), call.details(), call.trailing_metadata())
        assert got.reason == pb.ERROR_REASON_DRAINING
        assert worker.wait() == 0


def test_healthcheck_of_a_worker_that_serves(worker: WorkerProcess):
    assert run(worker.address, module="services.worker.healthcheck") == (0, "")


def test_healthcheck_of_nobody():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    code, said = run(address, module="services.worker.healthcheck")

    assert code == 1
    assert said.startswith(f"{address}: UNAVAILABLE: ")
    assert said.count("\n") == 1


def test_healthcheck_without_an_address():
    code, said = run(module="services.worker.healthcheck")

    assert code == 2
    assert said.startswith("usage: ")


def test_healthcheck_of_a_worker_that_is_frozen(worker: WorkerProcess):
    worker.signal(signal.SIGSTOP)
    try:
        why = healthcheck.check(worker.address, seconds=0.3)
    finally:
        worker.signal(signal.SIGCONT)

    assert why is not None
    assert "DEADLINE_EXCEEDED" in why
    assert healthcheck.check(worker.address) is None


def test_healthcheck_of_a_worker_that_drains():
    with worker_process(["--drain-delay", "60"]) as worker:
        worker.signal(signal.SIGTERM)
        worker.wait_event("draining")

        assert healthcheck.check(worker.address) == f"{worker.address}: NOT_SERVING"
