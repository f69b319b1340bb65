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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import llama_server

CARAVAN = "caravan"
LLAMA_SERVER = "llama-server"
KINDS = (CARAVAN, LLAMA_SERVER)

ROOT = Path(__file__).resolve().parent.parent
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
    worker_args: tuple[str, ...] = ()
    server_args: tuple[str, ...] = ()


def start(stack: ExitStack, kinds: Sequence[str], options: Options) -> dict[str, str]:
    """Starts the servers; returns name → base URL. They end with the stack. Raises LocalError."""
    starters = {CARAVAN: _caravan, LLAMA_SERVER: _llama_server}
    return {kind: starters[kind](stack, options) for kind in kinds}


def _caravan(stack: ExitStack, options: Options) -> str:
    grpc_port, port = free_port(), free_port()
    python = sys.executable
    worker = [
        *(
            python,
            "-m",
            "services.llama",
            "--model",
            str(_model(options)),
            "--port",
            f"{grpc_port}",
        ),
        *("--threads", f"{options.threads}", "--parallel", f"{options.parallel}"),
        *("--ctx-size", f"{options.ctx_size}", *options.worker_args),
    ]
    edge = [python, "-m", "edge", "--port", f"{port}", "--worker", f"127.0.0.1:{grpc_port}"]
    spawn(stack, worker, "worker")
    process = spawn(stack, edge, "edge")
    wait_ready(process, f"http://127.0.0.1:{port}/health/ready", "edge")
    return f"http://127.0.0.1:{port}/v1"


def _llama_server(stack: ExitStack, options: Options) -> str:
    port = free_port()
    try:
        command, environment = llama_server.command(
            _model(options), port, options.threads, options.parallel, options.ctx_size
        )
    except llama_server.BuildError as error:
        raise LocalError(str(error)) from None
    process = spawn(stack, [*command, *options.server_args], LLAMA_SERVER, environment)
    wait_ready(process, f"http://127.0.0.1:{port}/health", LLAMA_SERVER)
    return f"http://127.0.0.1:{port}/v1"


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
    logs = ROOT / "bench" / ".cache" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = stack.enter_context((logs / f"{name}.log").open("wb"))
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
    process: subprocess.Popen[bytes], url: str, name: str, within: float = _READY_WITHIN
) -> None:
    """Returns when the URL answers 200. Raises LocalError when it does not, or the process died."""
    last = time.monotonic() + within
    while time.monotonic() < last:
        if process.poll() is not None:
            raise LocalError(f"{name} ended with {process.returncode}; see bench/.cache/logs/")
        try:
            with _DIRECT.open(url, timeout=2) as response:
                if response.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.2)
    raise LocalError(f"{name} was not ready within {within:.0f} s; see bench/.cache/logs/")


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
