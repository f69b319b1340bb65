"""Starts the servers to measure on free ports, and ends them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import llama_server
from bench.children import ROOT, ChildError, free_port, spawn, wait_ready
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
    """Starts the servers, by name; they end with the stack. Raises ChildError."""
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
        raise ChildError(str(error)) from None
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
        raise ChildError(str(error)) from None


def _model(options: Options) -> Path:
    if options.gguf is not None:
        if not options.gguf.is_file():
            raise ChildError(f"--gguf {options.gguf}: no such file")
        return options.gguf.resolve()
    found = sorted(p for p in (ROOT / "models").glob("**/*.gguf") if "embed" not in p.name)
    if not found:
        raise ChildError("no demo model in models/; give --gguf FILE or --url NAME=URL")
    return found[0]
