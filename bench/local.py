"""Starts the servers to measure on free ports, and ends them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import llama_server
from bench.probes import Process, process
from services.worker.backend import StartupError

CARAVAN = "caravan"
CARAVAN_LEAN = "caravan-lean"
CARAVAN_NO_SPECULATION = "caravan-nospec"
CARAVAN_TIGHT = "caravan-tight"
LLAMA_SERVER = "llama-server"
LLAMA_SERVER_LEAN = "llama-server-lean"
# The worker's flag.
NO_SPECULATION = ("--no-speculation",)
# Both servers': without the copies of old KV caches that are kept in memory beside the one at work.
LEAN = ("--cache-ram", "0")

ROOT = Path(__file__).resolve().parent.parent
_LOGS = ROOT / "bench" / ".cache" / "logs"
_READY_WITHIN = 180.0
_END_WITHIN = 20.0
# A proxy of the environment cannot reach this machine's own servers.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class LocalError(Exception):
    """A server could not be started; the message is one line."""


@dataclass(frozen=True, slots=True)
class Options:
    """How all servers of a measurement are started."""

    gguf: Path | None = None
    threads: int = 2
    parallel: int = 8
    ctx_size: int = 8192
    # KV cells of `caravan-tight` instead.
    tight_ctx_size: int = 2048
    worker_args: tuple[str, ...] = ()
    server_args: tuple[str, ...] = ()
    # Of our worker, beside what it has from here.
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """A server that runs. `url` ends in /v1."""

    url: str
    process: Process


def start(stack: ExitStack, kinds: Sequence[str], options: Options) -> dict[str, Started]:
    """Starts the servers, by name; they end with the stack. Raises LocalError."""
    return {kind: _STARTERS[kind](stack, kind, options) for kind in kinds}


def _caravan(stack: ExitStack, name: str, options: Options) -> Started:
    grpc_port, metrics_port, port = free_port(), free_port(), free_port()
    model = _model(options)
    python = sys.executable
    line = [
        *(python, "-m", "services.llama", "--model", str(model)),
        *("--port", f"{grpc_port}", "--metrics-port", f"{metrics_port}"),
        *("--threads", f"{options.threads}", "--parallel", f"{options.parallel}"),
        *("--ctx-size", f"{options.ctx_size}", *options.worker_args),
    ]
    edge = [python, "-m", "edge", "--port", f"{port}", "--worker", f"127.0.0.1:{grpc_port}"]
    worker = spawn(stack, line, f"{name}-worker", options.environment)
    front = spawn(stack, edge, f"{name}-edge")
    url = f"http://127.0.0.1:{port}"
    wait_ready(front, f"{url}/health/ready", f"{name}-edge", needs=(f"{name}-worker", worker))
    metrics = f"http://127.0.0.1:{metrics_port}/metrics"
    return Started(f"{url}/v1", _process(worker, model, options, metrics))


def _lean_caravan(stack: ExitStack, name: str, options: Options) -> Started:
    return _caravan(stack, name, replace(options, worker_args=(*options.worker_args, *LEAN)))


def _without_speculation(stack: ExitStack, name: str, options: Options) -> Started:
    wanted = replace(options, worker_args=(*options.worker_args, *NO_SPECULATION))
    return _caravan(stack, name, wanted)


def _tight(stack: ExitStack, name: str, options: Options) -> Started:
    return _caravan(stack, name, replace(options, ctx_size=options.tight_ctx_size))


def _llama_server(stack: ExitStack, name: str, options: Options) -> Started:
    port = free_port()
    model = _model(options)
    try:
        command, environment = llama_server.command(
            model, port, options.threads, options.parallel, options.ctx_size
        )
    except llama_server.BuildError as error:
        raise LocalError(str(error)) from None
    running = spawn(stack, [*command, *options.server_args], name, environment)
    wait_ready(running, f"http://127.0.0.1:{port}/health", name)
    return Started(f"http://127.0.0.1:{port}/v1", _process(running, model, options, None))


def _lean(stack: ExitStack, name: str, options: Options) -> Started:
    return _llama_server(stack, name, replace(options, server_args=(*options.server_args, *LEAN)))


_STARTERS: Mapping[str, Callable[[ExitStack, str, Options], Started]] = {
    CARAVAN: _caravan,
    CARAVAN_LEAN: _lean_caravan,
    CARAVAN_NO_SPECULATION: _without_speculation,
    CARAVAN_TIGHT: _tight,
    LLAMA_SERVER: _llama_server,
    LLAMA_SERVER_LEAN: _lean,
}
KINDS = tuple(_STARTERS)


def _process(
    running: subprocess.Popen[bytes], model: Path, options: Options, metrics: str | None
) -> Process:
    try:
        return process(running.pid, model, options.ctx_size, metrics)
    except StartupError as error:
        raise LocalError(str(error)) from None


def _model(options: Options) -> Path:
    if options.gguf is not None:
        if not options.gguf.is_file():
            raise LocalError(f"--gguf {options.gguf}: no such file")
        return options.gguf.resolve()
    found = sorted(p for p in (ROOT / "models").glob("**/*.gguf") if "embed" not in p.name)
    if not found:
        raise LocalError("no demo model in models/; give --gguf FILE or --url NAME=URL")
    return found[0]


def spawn(
    stack: ExitStack,
    command: Sequence[str],
    name: str,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own; its output goes to bench/.cache/logs/."""
    _LOGS.mkdir(parents=True, exist_ok=True)
    log = stack.enter_context((_LOGS / f"{name}.log").open("wb"))
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    stack.callback(_end, process)
    return process


def wait_ready(
    process: subprocess.Popen[bytes],
    url: str,
    name: str,
    within: float = _READY_WITHIN,
    needs: tuple[str, subprocess.Popen[bytes]] | None = None,
) -> None:
    """Returns when the URL answers 200. Raises LocalError when it does not, or the process died.

    `needs`: another process, with its name, without which it never will.
    """
    watched = [(name, process), *([needs] if needs else [])]
    last = time.monotonic() + within
    while time.monotonic() < last:
        for label, running in watched:
            if running.poll() is not None:
                code, said = running.returncode, _last_line(label)
                raise LocalError(f"{label} ended with {code}: {said}; see bench/.cache/logs/")
        try:
            with _DIRECT.open(url, timeout=2) as response:
                if response.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.2)
    raise LocalError(f"{name} was not ready within {within:.0f} s; see bench/.cache/logs/")


def _last_line(name: str) -> str:
    lines = (_LOGS / f"{name}.log").read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """A TCP port that was free a moment ago, below those that the kernel gives to connections."""
    while True:
        port = random.randrange(10_240, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
