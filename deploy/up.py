"""The supervisor behind `make up`: llama workers and an edge in front of them, kept running.

It checks what it was told, starts everything, waits until every worker can answer, says how to
use it, restarts what dies, and stops it all on Ctrl-C: the edge first, so that streams end well.
Whatever fails before all are ready, and whatever says that its settings are wrong, ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from common.backoff import Backoff
from common.version import VERSION
from deploy import direct
from deploy.bound import die_with_parent
from deploy.children import EXIT_CONFIG, Child
from deploy.options import EMBED_MODEL, ROOT, OptionError, Options, free_ports, read

# Longer than a drain of the edge or of a worker takes by default.
STOP_SECONDS = 35.0
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
EXIT_INTERRUPTED = 130
# With one of these the edge asks its callers for keys.
KEYS = ("EDGE_API_KEY", "EDGE_API_KEYS_FILE")
QUESTION = "What is the capital of France?"


class FatalError(Exception):
    """Everything must end; the message is for the person at the terminal."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code if code > 0 else 1


def say(text: str) -> None:
    print(f"caravan: {text}", flush=True)


def complain(text: str) -> None:
    print(f"caravan: {text}", file=sys.stderr, flush=True)


def commands(options: Options, ports: Sequence[int]) -> list[tuple[str, ...]]:
    """The commands after `python`: the edge's first, then one for each worker."""
    threads = () if options.threads is None else ("--threads", str(options.threads))
    gpu = ("--gpu-layers", "all") if options.gpu else ()
    edge: list[str] = ["-m", "edge", "--host", options.host, "--port", str(options.port)]
    workers = []
    for model, port in zip(options.models, ports, strict=True):
        edge += ["--worker", f"127.0.0.1:{port}"]
        where = ("--host", "127.0.0.1", "--port", str(port))
        workers.append(("-m", "services.llama", "--model", model, *where, *threads, *gpu))
    return [tuple(edge), *workers]


class Supervisor:
    """The edge and the workers of one `make up`."""

    def __init__(self, commands: Sequence[tuple[str, ...]], url: str) -> None:
        # Their lines are read here, so they are JSON whatever the terminal is.
        env = {**os.environ, "EDGE_LOG_FORMAT": "json", "LLAMA_LOG_FORMAT": "json"}
        names = ["edge", *(f"llama-{number}" for number in range(1, len(commands)))]
        self._children = [
            Child(name, (sys.executable, *command), env, ROOT, self._show)
            for name, command in zip(names, commands, strict=True)
        ]
        self._url = url
        self._ready = False
        self._stop = asyncio.Event()
        self._interrupts = 0

    async def run(self) -> int:
        """Runs until told to stop; the exit code. Raises FatalError when something cannot go on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._interrupted)
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await _until_one(starting, stopping, *keepers)
            await _until_one(stopping, *keepers)
        finally:
            self._stop.set()
            starting.cancel()
            await self._stop_all()
            await asyncio.gather(starting, *keepers, return_exceptions=True)
        return EXIT_INTERRUPTED if self._interrupts > 1 else 0

    async def _keep(self, child: Child) -> None:
        """Starts the child, again and again, until it is time to stop. Raises FatalError."""
        backoff = Backoff()
        while not self._stop.is_set():
            started = time.monotonic()
            code = await child.run()
            if self._stop.is_set():
                return
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            if code == EXIT_CONFIG or not self._ready:
                for line in list(child.tail)[:-1]:
                    complain(f"{child.name} | {line}")
                raise FatalError(f"{child.name} cannot start: {child.last_words or how}", code)
            delay = backoff.after(time.monotonic() - started)
            complain(f"{child.name} ended ({how}): starting it again in {delay:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)

    async def _start(self) -> None:
        """Waits until every worker can answer through the edge, then says how to use it."""
        workers = len(self._children) - 1
        say(f"starting the edge and {workers} llama worker{'s' if workers > 1 else ''} …")
        started = patience = time.monotonic()
        while (ready := await asyncio.to_thread(ready_workers, self._url)) < workers:
            await asyncio.sleep(POLL_SECONDS)
            if time.monotonic() - patience > PATIENCE_SECONDS:
                patience = time.monotonic()
                words = next((c.last_words for c in reversed(self._children) if c.tail), "loading")
                say(f"{ready} of {workers} workers ready; {words}")
        for child in self._children:
            for line in child.tail:
                complain(f"{child.name} | {line}")
        names = await asyncio.to_thread(model_names, self._url)
        keys = any(os.environ.get(name) for name in KEYS)
        print(welcome(self._url, names, time.monotonic() - started, keys=keys), flush=True)
        self._ready = True

    async def _stop_all(self) -> None:
        """The edge, then the workers; those that do not go in time are killed."""
        if self._interrupts:
            say("stopping (Ctrl-C again: at once)")
        for group in (self._children[:1], self._children[1:]):
            for child in group:
                child.signal(signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while any(child.running for child in group):
                if self._interrupts > 1 or time.monotonic() > deadline:
                    for child in group:
                        child.signal(signal.SIGKILL)
                await asyncio.sleep(0.05)

    def _interrupted(self) -> None:
        self._interrupts += 1
        self._stop.set()

    def _show(self, name: str, line: str, quiet: bool) -> None:
        # Before all are ready lines are kept: they may be why something cannot start.
        if self._ready and (not quiet or name == "edge"):
            (say if quiet else complain)(f"{name} | {line}")


async def _until_one(*tasks: asyncio.Task[Any]) -> None:
    """Waits for the first of them; raises what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def ready_workers(url: str) -> int:
    """How many workers the edge can reach and would use. Raises FatalError: it is no edge."""
    try:
        body = _get(f"{url}/health/ready")
        return sum(1 for worker in body["workers"] if worker["state"] == "ready")
    except (OSError, http.client.HTTPException):
        return 0
    except (ValueError, LookupError, TypeError):
        raise FatalError(f"what answers at {url} is not Caravan's edge") from None


def model_names(url: str) -> list[str]:
    """At least one. Raises FatalError when the edge does not say."""
    try:
        # Not /v1/models: that may need a key, which this one need not know.
        workers = _get(f"{url}/health/ready")["workers"]
        names = sorted({str(one["model"]) for one in workers if one["state"] == "ready"})
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise FatalError(f"the edge at {url} does not list its models ({why})") from None
    if not names:
        raise FatalError(f"the edge at {url} has no model")
    return names


def _get(url: str) -> Any:
    with direct.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def welcome(url: str, names: Iterable[str], seconds: float, *, keys: bool = False) -> str:
    """What is printed when all is ready."""
    models = sorted(names, key=lambda name: (name == EMBED_MODEL.stem, name))
    body = {"model": models[0], "messages": [{"role": "user", "content": QUESTION}]}
    key = " -H 'authorization: Bearer YOUR_KEY'" if keys else ""
    return "\n".join(
        (
            "",
            f"  Ready after {seconds:.1f} s:  {url}/v1   model{'s' if models[1:] else ''}: {', '.join(models)}",
            "",
            f"  curl {url}/v1/chat/completions -H 'content-type: application/json'{key} \\",
            f"    -d {shlex.quote(json.dumps(body))}",
            "",
            "  Ctrl-C stops everything.",
            "",
        )
    )


def main() -> int:
    """The exit code: 0 after an orderly stop, 130 after a hurried one, else a failure's.

    Exits after `--version` and `--help`, and with 2 after any other argument.
    """
    parser = argparse.ArgumentParser(
        prog="python -m deploy.up", description="What `make up` runs; variables say how."
    )
    parser.add_argument("--version", action="version", version=f"caravan {VERSION}")
    parser.parse_args()
    if "MAKELEVEL" in os.environ:  # make, killed, would leave this behind
        die_with_parent(signal.SIGTERM)
    try:
        options = read(os.environ)
        started = commands(options, free_ports(len(options.models)))
        return asyncio.run(_supervise(started, options.url))
    except OptionError as error:
        complain(str(error))
        return EXIT_CONFIG
    except FatalError as error:
        complain(str(error))
        return error.code


async def _supervise(started: Sequence[tuple[str, ...]], url: str) -> int:
    return await Supervisor(started, url).run()


if __name__ == "__main__":
    sys.exit(main())
