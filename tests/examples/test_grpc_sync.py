"""The synchronous example, against grpcio-testing's channel and against a real worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc_testing
import pytest

from common.transport import channel_options, failure_status
from examples.grpc_sync import ChatError, chat, explain
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import InvalidField, QueueFull, WorkerError
from tests.fakes.process import WorkerProcess, worker_process

ROOT = Path(__file__).parents[2]
SERVICE = pb.DESCRIPTOR.services_by_name["InferenceService"]
GENERATE = SERVICE.methods_by_name["Generate"]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def fake() -> Any:
    return grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())


def ask(threads: ThreadPoolExecutor, channel: Any, **options: Any) -> Future[list[str]]:
    return threads.submit(lambda: [delta.text for delta in chat(channel, "Hello?", **options)])


def test_the_request_carries_the_question_and_the_id(threads: ThreadPoolExecutor, fake: Any):
    texts = ask(threads, fake, request_id="mine")
    metadata, request, rpc = fake.take_unary_stream(GENERATE)
    rpc.send_initial_metadata(())
    rpc.send_response(pb.GenerateResponse(started=pb.Started(prompt_tokens=3)))
    rpc.send_response(pb.GenerateResponse(delta=pb.Delta(text="He")))
    rpc.send_response(pb.GenerateResponse())
    rpc.send_response(pb.GenerateResponse(delta=pb.Delta(text="y")))
    rpc.send_response(pb.GenerateResponse(finished=pb.Finished()))
    rpc.terminate((), grpc.StatusCode.OK, "")

    assert texts.result(10) == ["He", "y"]
    assert ("x-request-id", "mine") in metadata
    [message] = request.chat.messages
    assert message.role == pb.ROLE_USER
    assert message.content[0].text == "Hello?"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (QueueFull("full", retry_after=2), "RESOURCE_EXHAUSTED QUEUE_FULL retry after 2 s: full"),
        (InvalidField("n", "is odd"), "INVALID_ARGUMENT INVALID_FIELD field=n: is odd"),
    ],
)
def test_a_failure_is_read_with_its_details(
    threads: ThreadPoolExecutor, fake: Any, error: WorkerError, line: str
):
    texts = ask(threads, fake)
    _, _, rpc = fake.take_unary_stream(GENERATE)
    status = failure_status(error.failure())
    rpc.send_initial_metadata(())
    rpc.terminate(status.trailing_metadata, status.code, status.details)

    with pytest.raises(ChatError) as caught:
        texts.result(10)
    assert caught.value.failure == error.failure()
    assert explain(caught.value.failure) == line


def test_a_reader_that_stops_cancels_the_call(threads: ThreadPoolExecutor, fake: Any):
    def read_one() -> str:
        deltas = chat(fake, "Hello?")
        text = next(deltas).text
        deltas.close()
        return text

    first = threads.submit(read_one)
    _, _, rpc = fake.take_unary_stream(GENERATE)
    rpc.send_initial_metadata(())
    rpc.send_response(pb.GenerateResponse(delta=pb.Delta(text="He")))

    assert first.result(10) == "He"
    rpc.cancelled()


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with worker_process(["--tokens", "0"]) as running:
        yield running


def run(name: str, *args: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, f"examples/{name}", *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_real_worker_answers(worker: WorkerProcess):
    with grpc.insecure_channel(worker.address, options=channel_options()) as channel:
        assert "".join(delta.text for delta in chat(channel, "to be echoed")) == "to be echoed"


def test_the_synchronous_command(worker: WorkerProcess):
    assert run("grpc_sync.py", worker.address, "Is it on?") == (0, "Is it on?\n", "")


def test_the_asynchronous_command(worker: WorkerProcess):
    assert run("grpc_async.py", worker.address, "One?", "And two?") == (0, "One?\nAnd two?\n", "")


def test_a_worker_that_is_not_there_is_one_line():
    code, said, complained = run("grpc_sync.py", "127.0.0.1:1", "Hello?")

    assert (code, said.strip()) == (1, "")
    assert complained.startswith("UNAVAILABLE: ")
