"""What is running while the edge's own cost is measured: the proxies, and what they stand before.

Each proxy has one core to itself, the same one in turn; the scripted worker and the load generator
share another.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench import children
from bench.scripted_upstream import MODEL

CARAVAN = "caravan"
LITELLM = "litellm"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that runs. `pid` is of its only process."""

    name: str
    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Rig:
    """`direct` is the port of the same answers with nothing between."""

    proxies: tuple[Proxy, ...]
    direct: int


def start(stack: ExitStack, edge_args: Sequence[str], litellm: Path | None) -> Rig:
    """Starts all; they end with the stack. Raises ChildError."""
    cores = sorted(os.sched_getaffinity(0))
    worker, upstream = children.free_port(), children.free_port()
    # A child inherits the cores of its parent at the moment it is made.
    os.sched_setaffinity(0, {cores[-1]})
    line = [sys.executable, "-m", "bench.scripted_worker", "--port", str(worker)]
    children.spawn(stack, [*line, "--http-port", str(upstream)], "scripted-worker")
    os.sched_setaffinity(0, {cores[0]})
    proxies = [_edge(stack, worker, edge_args)]
    if litellm is not None:
        proxies.append(_litellm(stack, upstream, litellm))
    os.sched_setaffinity(0, {cores[-1]})
    return Rig(tuple(proxies), upstream)


def _edge(stack: ExitStack, worker: int, more: Sequence[str]) -> Proxy:
    port = children.free_port()
    line = [sys.executable, "-m", "edge", "--port", str(port), "--worker", f"127.0.0.1:{worker}"]
    running = children.spawn(stack, [*line, *more], "edge")
    children.wait_ready(running, f"http://127.0.0.1:{port}/health/ready", "edge", 30)
    return Proxy(CARAVAN, running.pid, port)


def _litellm(stack: ExitStack, upstream: int, binary: Path) -> Proxy:
    """One process, as it is started by its own command, without a database and without keys."""
    port = children.free_port()
    config = children.ROOT / "bench" / ".cache" / "litellm.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    parameters = {
        "model": f"openai/{MODEL}",
        "api_base": f"http://127.0.0.1:{upstream}/v1",
        "api_key": "none",
    }
    settings = {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
    }
    config.write_text(yaml.safe_dump(settings))
    line = [str(binary), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    # What it would print and ask the network for otherwise.
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    running = children.spawn(stack, [*line, "--telemetry", "False"], "litellm", quiet)
    children.wait_ready(running, f"http://127.0.0.1:{port}/health/liveliness", "litellm", 120)
    return Proxy(LITELLM, running.pid, port)
