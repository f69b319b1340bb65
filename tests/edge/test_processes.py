"""Several processes on one port: they answer as one, are kept running, and end together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from common.backoff import Backoff
from common.settings import EXIT_CONFIG, ConfigError
from edge.config import EdgeSettings
from edge.processes import Parent, Place, reserve
from tests.edge.command import run
from tests.edge.running import CHAT, EventReader, chat_body, text_of
from tests.fakes.script import Script
from tests.fakes.worker import scripted_worker

ROOT = Path(__file__).parents[2]
SECONDS = 30.0
COUNT = 2


class Family:
    """`python -m edge --processes 2` with its log lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""
        self.lines: list[dict[str, Any]] = []

    async def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """All log lines with this event, once there are so many."""
        assert self.process.stderr is not None
        async with asyncio.timeout(SECONDS):
            while len(found := [one for one in self.lines if one["event"] == event]) < count:
                line = await self.process.stderr.readline()
                assert line, f"ended without {event}"
                self.lines.append(json.loads(line))
        return found

    async def end(self) -> int:
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()

    async def chat(self, count: int) -> None:
        """So many requests, each by a connection of its own."""
        for _ in range(count):
            async with (
                aiohttp.ClientSession() as http,
                http.post(self.url + CHAT, json=chat_body()) as answer,
            ):
                assert answer.status == 200, await answer.text()

    async def counted(self) -> set[str]:
        """What is told of answered chats, by several processes or several times by one."""
        found = set()
        for _ in range(6):
            async with aiohttp.ClientSession() as http, http.get(self.url + "/metrics") as answer:
                text = await answer.text()
            start = f'caravan_edge_requests_total{{route="{CHAT}",status="200"}} '
            found |= {
                line.removeprefix(start) for line in text.splitlines() if line.startswith(start)
            }
            assert 'caravan_edge_workers{state="ready"} 1.0' in text
            assert "caravan_edge_requests_in_flight 1.0" in text
        return found


@asynccontextmanager
async def family(*args: str) -> AsyncGenerator[Family, None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge", "--processes", str(COUNT), "--port", "0",
        "--log-format", "json", *args,
        cwd=ROOT, stderr=asyncio.subprocess.PIPE, limit=2**20,
    )  # fmt: skip
    found = Family(process)
    try:
        listening = await found.until("listening", COUNT)
        found.url = listening[0]["url"]
        assert {one["url"] for one in listening} == {found.url}
        assert {one["process"] for one in listening} == {1, 2}
        await found.until("worker", COUNT)
        yield found
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(SECONDS):
                await process.communicate()
        except TimeoutError:
            # Somebody still holds its stderr: children that should have ended.
            for one in found.lines:
                if one["event"] == "process started":
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one["pid"], signal.SIGKILL)
            raise


async def gone(pid: int) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.02)


async def test_they_answer_as_one_and_end_together() -> None:
    async with (
        scripted_worker(Script(paced=True)) as worker,
        family("--worker", worker.address) as edge,
    ):
        async with (
            aiohttp.ClientSession() as http,
            http.post(edge.url + CHAT, json=chat_body(stream=True)) as answer,
        ):
            stream = EventReader(answer)
            await stream.next()
            edge.process.send_signal(signal.SIGTERM)
            draining = await edge.until("draining", COUNT)
            assert {one["process"] for one in draining} == {1, 2}
            worker.backend.step(10)
            events = await stream.rest()
        assert text_of(events) == "Hello, world!"
        assert await edge.end() == 0


async def test_one_that_dies_is_started_again_and_nothing_counted_is_lost() -> None:
    async with scripted_worker() as worker, family("--worker", worker.address) as edge:
        await edge.chat(8)
        assert await edge.counted() == {"8.0"}
        pids = {one["process"]: one["pid"] for one in await edge.until("process started", COUNT)}
        os.kill(pids[1], signal.SIGKILL)
        await edge.until("process ended")
        # The others answer meanwhile; it joins them when it knows a worker.
        await edge.chat(2)
        (*_, again) = await edge.until("listening", COUNT + 1)
        assert again["process"] == 1
        await edge.chat(8)
        assert await edge.counted() == {"18.0"}


async def test_what_one_has_stored_all_of_them_know() -> None:
    async with scripted_worker() as worker, family("--worker", worker.address) as edge:
        asked = {"model": "scripted", "input": "hi"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(edge.url + "/v1/responses", json=asked) as answer,
        ):
            stored = await answer.json()
            assert answer.status == 200, stored
        for _ in range(8):
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{edge.url}/v1/responses/{stored['id']}") as answer,
            ):
                assert (answer.status, (await answer.json())["id"]) == (200, stored["id"])


async def test_children_end_when_their_parent_is_gone() -> None:
    async with scripted_worker() as worker, family("--worker", worker.address) as edge:
        started = await edge.until("process started", COUNT)
        edge.process.kill()
        await edge.process.wait()
        for one in started:
            await gone(one["pid"])


async def test_what_is_wrong_is_said_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = await run("--processes", "2", "--port", str(port))
    assert (code, lines) == (EXIT_CONFIG, [f"caravan-edge: port {port} is in use"])
    code, lines = await run("--processes", "2", "--api-keys-file", "/nowhere/keys")
    assert code == EXIT_CONFIG
    assert lines == ["caravan-edge: --api-keys-file /nowhere/keys: no such file or directory"]
    code, lines = await run("--processes", "2", "--port", "0", "--store-url", "nosuch://host/db")
    assert code == EXIT_CONFIG
    assert lines == ["caravan-edge: --store-url: no database or driver is called nosuch"]


def test_a_port_that_is_shared_by_somebody_else_is_in_use() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="in use"):
            reserve("127.0.0.1", other.getsockname()[1])
    with reserve("127.0.0.1", 0) as held:
        assert held.getsockname()[1]
        with socket.socket() as child:
            child.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            child.bind(held.getsockname())
    with pytest.raises(ConfigError, match="cannot listen on"):
        reserve("192.0.2.1", 0)


def test_a_place_is_told_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARAVAN_EDGE_PLACE", raising=False)
    assert Place.of_environment() is None
    for place in (Place(1, 8000), Place(3, 65535, 5.0)):
        monkeypatch.setenv("CARAVAN_EDGE_PLACE", str(place))
        assert Place.of_environment() == place


class TestParent:
    """Over children that are a line of Python."""

    def parent(self, script: str, *args: str) -> Parent:
        settings = EdgeSettings(port=0, processes=2)
        command = (sys.executable, "-c", textwrap.dedent(script), *args)
        return Parent(settings, command, Backoff(first=0.01, limit=0.01))

    async def test_the_first_that_is_configured_wrongly_ends_all(self) -> None:
        script = f"""
            import os, sys, time
            if os.environ["CARAVAN_EDGE_PLACE"].startswith("1:"):
                sys.exit({EXIT_CONFIG})
            time.sleep(60)
            """
        async with asyncio.timeout(SECONDS):
            assert await self.parent(script).run() == EXIT_CONFIG

    async def test_signals_are_passed_on_each_of_them(self, tmp_path: Path) -> None:
        script = """
            import os, pathlib, signal, sys
            number = os.environ["CARAVAN_EDGE_PLACE"].split(":")[0]
            signals = (signal.SIGTERM, signal.SIGINT)
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            pathlib.Path(sys.argv[1], number).touch()
            signal.sigwait(signals)
            pathlib.Path(sys.argv[1], number + "-told").touch()
            signal.sigwait(signals)
            """
        running = asyncio.create_task(self.parent(script, str(tmp_path)).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            end = "" if number is signal.SIGTERM else "-told"
            async with asyncio.timeout(SECONDS):
                while not all((tmp_path / f"{one}{end}").exists() for one in (1, 2)):
                    await asyncio.sleep(0.01)
            os.kill(os.getpid(), number)
        async with asyncio.timeout(SECONDS):
            assert await running == 0

    async def test_later_a_wrong_configuration_ends_only_itself(self, tmp_path: Path) -> None:
        """The others serve with what they read before."""
        script = f"""
            import os, pathlib, sys, time
            number, _, patience = os.environ["CARAVAN_EDGE_PLACE"].split(":")
            with pathlib.Path(sys.argv[1], number).open("a") as runs:
                runs.write("x")
            if number == "1":
                sys.exit({EXIT_CONFIG} if float(patience) else 1)
            time.sleep(60)
            """
        running = asyncio.create_task(self.parent(script, str(tmp_path)).run())
        async with asyncio.timeout(SECONDS):
            while not (tmp_path / "1").exists() or len((tmp_path / "1").read_text()) < 3:
                await asyncio.sleep(0.01)
            assert not running.done()
            os.kill(os.getpid(), signal.SIGTERM)
            assert await running == 0
        assert (tmp_path / "2").read_text() == "x"
