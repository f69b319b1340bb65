"""The edge as a process: how it starts, how it refuses to, how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from common.settings import EXIT_CONFIG, ConfigError
from edge.config import EdgeSettings
from tests.edge.command import run
from tests.edge.running import CHAT, EventReader, chat_body, text_of
from tests.fakes.script import Script
from tests.fakes.worker import scripted_worker

ROOT = Path(__file__).parents[2]
SECONDS = 20.0


class EdgeProcess:
    """`python -m edge` with its log lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""

    async def event(self, name: str) -> dict[str, str]:
        """The next log line with this event."""
        assert self.process.stderr is not None
        async with asyncio.timeout(SECONDS):
            while line := await self.process.stderr.readline():
                fields: dict[str, str] = json.loads(line)
                if fields["event"] == name:
                    return fields
        raise AssertionError(f"ended without {name}")

    async def end(self) -> int:
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def edge_process(*args: str) -> AsyncGenerator[EdgeProcess, None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge", "--port", "0", "--log-format", "json", *args,
        cwd=ROOT, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    edge = EdgeProcess(process)
    try:
        edge.url = (await edge.event("listening"))["url"]
        # Its state is logged after what it serves, and then it can be asked.
        await edge.event("worker serves")
        await edge.event("worker")
        yield edge
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def streaming(edge: EdgeProcess) -> AsyncGenerator[EventReader, None]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(edge.url + CHAT, json=chat_body(stream=True)) as answer,
    ):
        assert answer.status == 200
        yield EventReader(answer)


async def test_live_streams_finish_within_the_grace() -> None:
    async with (
        scripted_worker(Script(paced=True)) as worker,
        edge_process("--worker", worker.address, "--drain-grace", "20") as edge,
    ):
        async with streaming(edge) as stream:
            await stream.next()
            edge.process.send_signal(signal.SIGTERM)
            await edge.event("draining")
            with pytest.raises(aiohttp.ClientConnectorError):
                async with streaming(edge):
                    pass
            worker.backend.step(10)
            events = await stream.rest()
        assert text_of(events) == "Hello, world!"
        assert events[-1] == "[DONE]"
        assert await edge.end() == 0


async def test_after_the_grace_streams_end_with_an_error_event() -> None:
    async with scripted_worker(Script(paced=True)) as worker:
        async with edge_process("--worker", worker.address, "--drain-grace", "0.1") as edge:
            async with streaming(edge) as stream:
                await stream.next()
                edge.process.send_signal(signal.SIGTERM)
                events = await stream.rest()
            assert events[-1]["error"]["code"] == "service_unavailable"
            assert await edge.end() == 0
        await worker.backend.until(lambda: worker.backend.running == 0)


async def test_a_second_signal_ends_the_grace() -> None:
    async with (
        scripted_worker(Script(paced=True)) as worker,
        edge_process("--worker", worker.address, "--drain-grace", "600") as edge,
        streaming(edge) as stream,
    ):
        await stream.next()
        edge.process.send_signal(signal.SIGINT)
        await edge.event("draining")
        edge.process.send_signal(signal.SIGINT)
        assert await edge.end() == 0


async def test_one_log_line_a_request_and_no_prompt_in_it() -> None:
    canary = "canary-7b1f"
    async with scripted_worker() as worker, edge_process("--worker", worker.address) as edge:
        async with aiohttp.ClientSession() as http:
            body = chat_body(messages=[{"role": "user", "content": canary}], user=canary)
            headers = {"Authorization": f"Bearer {canary}", "x-request-id": "r1"}
            async with http.post(edge.url + CHAT, json=body, headers=headers) as answer:
                assert answer.status == 200
        line = await edge.event("request")
        assert canary not in json.dumps(line)
        assert line["request_id"] == "r1"
        assert line["worker"] == worker.address
        for key in ("model", "status", "prompt_tokens", "completion_tokens", "ttft_ms"):
            assert key in line


async def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = await run("--port", str(port), "--worker", "127.0.0.1:1")
    assert code == EXIT_CONFIG
    assert lines == [f"caravan-edge: port {port} is in use"]


@pytest.mark.parametrize("host", ["256.0.0.1", "a..b"])
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_host_that_is_none_is_one_line(host: str, processes: str) -> None:
    args = ("--port", "0", "--host", host, "--allow-anonymous", "--processes", processes)
    code, lines = await run(*args)
    assert code == EXIT_CONFIG
    assert len(lines) == 1
    assert lines[0].startswith(f"caravan-edge: cannot listen on {host}:0: n")


async def test_a_store_that_cannot_be_is_refused() -> None:
    code, lines = await run("--port", "0", "--store-url", "nosuch://me:secret@host/db")
    assert code == EXIT_CONFIG
    assert lines == ["caravan-edge: --store-url: no database or driver is called nosuch"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--worker", "nonsense"], "--worker: 'nonsense' is no worker address"),
        (["--worker", "a:1,b:2", "--port", "70000"], "--port"),
        (["--nonsense", "1"], "nonsense"),
        (["--stall-timeout", "0"], "--stall-timeout"),
        (["--request-timeout", "inf"], "--request-timeout"),
        (["--media-hosts", "http://a.example"], "--media-hosts: 'http://a.example' is no host"),
        (["--media-hosts", "a.example,b.example:80"], "'b.example:80' is no host"),
        (["--media-hosts", "a.*"], "is no host"),
    ],
)
def test_wrong_settings(args: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        EdgeSettings.read("caravan-edge", args)
    assert "\n" not in str(error.value)


def test_hosts_of_images() -> None:
    hosts = ("a.example", "*.b.example", "*", "10.0.0.1", "fd00::1", "nginx_1")
    args = ["--media-hosts", ",".join(hosts)]
    assert EdgeSettings.read("caravan-edge", args).media_hosts == hosts


def test_workers_are_repeated_flags_or_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ["--worker", "a:1", "--worker", "b:2"]
    assert EdgeSettings.read("caravan-edge", args).worker == ("a:1", "b:2")
    monkeypatch.setenv("EDGE_WORKER", "a:1, b:2")
    monkeypatch.setenv("EDGE_DRAIN_GRACE", "5")
    settings = EdgeSettings.read("caravan-edge", [])
    assert settings.worker == ("a:1", "b:2")
    assert settings.drain_grace == 5
