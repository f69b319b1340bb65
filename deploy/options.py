"""What `make up` is told by its variables, checked before anything is started."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import listening, settings_file

ROOT = Path(__file__).resolve().parent.parent
DEMO_MODEL = Path("models/caravan-demo.gguf")
EMBED_MODEL = Path("models/caravan-demo-embed.gguf")
GPUS = ("cuda", "vulkan", "metal")
MAX_WORKERS = 64
VARIABLES = ("PORT", "HOST", "MODEL", "WORKERS", "THREADS", "GPU", "EMBED")
# Names in what make hands down of its command line; in values it puts a backslash before blanks.
_GIVEN = re.compile(r"(?:^|(?<!\\) )(\w+)=")
_HUB = re.compile(r"hf:[\w.-]+/[\w.-]+(:.+)?")


class OptionError(Exception):
    """A variable is wrong; the message is one line for the person who set it."""


@dataclass(frozen=True, slots=True)
class Options:
    """A checked set of variables."""

    host: str = "127.0.0.1"
    port: int = 8000
    # One entry a worker: a GGUF file's path or `hf:…`.
    models: tuple[str, ...] = (str(DEMO_MODEL),)
    # CPU threads of each worker; None: the worker's own default.
    threads: int | None = None
    gpu: bool = False

    @property
    def url(self) -> str:
        """Where this machine reaches the edge."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 -- to not connect to it
        return f"http://{listening.joined(host, self.port)}"


def read(env: Mapping[str, str], root: Path = ROOT) -> Options:
    """Reads the variables; empty ones are absent. Raises OptionError."""
    check_names(env.get("MAKEFLAGS", ""))
    model = env.get("MODEL") or str(root / DEMO_MODEL)
    models = [check_model("MODEL", model)] * _number(env, "WORKERS", 1, MAX_WORKERS, default=1)
    if _switch(env, "EMBED"):
        models.append(check_model("EMBED", str(root / EMBED_MODEL)))
    threads = _number(env, "THREADS", 1, 1024) if env.get("THREADS") else None
    if threads is None and len(models) > 1:
        threads = max(1, _cores() // len(models))
    gpu = env.get("GPU", "")
    if gpu and gpu not in GPUS:
        raise OptionError(f"GPU={gpu}: not one of {', '.join(GPUS)}")
    host = env.get("HOST") or "127.0.0.1"
    port = _number(env, "PORT", 1, 65535, default=8000)
    check_port(host, port)
    return Options(host, port, tuple(models), threads, bool(gpu))


def check_names(makeflags: str) -> None:
    """Raises OptionError for a variable given to make whose name is nearly one of these.

    Others may be anything: make hands the settings of edge and worker down, too.
    """
    _, _, given = makeflags.partition("-- ")
    for name in _GIVEN.findall(given):
        meant = settings_file.near(name.upper(), VARIABLES)
        if meant and name not in VARIABLES:
            raise OptionError(f"{name}: there is no such variable; did you mean {meant}?")


def check_model(variable: str, model: str) -> str:
    """The model as a worker is told of it. Raises OptionError, which names the variable."""
    if model.startswith("hf:"):
        if not _HUB.fullmatch(model):
            raise OptionError(f"{variable}: {model}: not of the form hf:owner/repo:file-or-quant")
        return model
    path = Path(model).expanduser()
    try:
        if path.is_dir():
            raise OptionError(f"{variable}: {model}: a directory, not a GGUF file")
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise OptionError(f"{variable}: {model}: no such file") from None
    except OSError as error:
        raise OptionError(f"{variable}: {model}: {error.strerror}") from None
    if magic != b"GGUF":
        raise OptionError(f"{variable}: {model}: not a GGUF file")
    return str(path.resolve())


def check_port(host: str, port: int) -> None:
    """Raises OptionError when the edge could not listen there."""
    try:
        listening.probe(host, port)
    except OSError as error:
        why = error.strerror or str(error)
        wrong = f"HOST={host}" if listening.is_wrong_host(error) else f"PORT={port}"
        raise OptionError(f"{wrong}: cannot listen on {host}: {why}") from None


def free_ports(count: int) -> Sequence[int]:
    """Different loopback ports that nothing listens on now.

    Below those that the kernel hands out to connections: a worker is started again on the port
    that it had, which no connection may have taken in the meantime.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10_240, 32_000)  # noqa: S311 -- no secret
        if port in ports:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def _number(
    env: Mapping[str, str], name: str, low: int, high: int, default: int | None = None
) -> int:
    text = env.get(name) or (None if default is None else str(default))
    try:
        value = int(text or "")
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise OptionError(f"{name}={text}: not a number from {low} to {high}")
    return value


def _switch(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "")
    if value not in {"", "0", "1"}:
        raise OptionError(f"{name}={value}: 1 or nothing")
    return value == "1"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
