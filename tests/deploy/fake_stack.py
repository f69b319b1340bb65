"""A `make up` over scripted children: `python -m tests.deploy.fake_stack DIR [BEHAVIOUR]`.

The supervisor is the real one. The fake edge serves health and models on loopback; the fake
worker beats the port's file while it lives. DIR collects `pids`, `events` and the edge's `port`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from deploy import up


def note(directory: Path, file: str, line: str) -> None:
    with (directory / file).open("a") as out:
        out.write(f"{line}\n")


def edge(directory: Path, port: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state = "ready" if (directory / "alive").exists() else "loading"
            ready = {"workers": [{"state": state, "model": "fake-model"}]}
            # All else may need a key.
            self.send_response(200 if self.path == "/health/ready" else 401)
            self.end_headers()
            self.wfile.write(json.dumps(ready).encode())

        def log_message(self, *args: object) -> None:
            pass

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def worker(directory: Path, behaviour: str) -> None:
    if behaviour == "broken":
        sys.exit("fake: the model is broken")
    if behaviour == "misconfigured-later" and (directory / "alive").exists():
        sys.stderr.write("fake: --model: no such file\n")
        sys.exit(2)
    (directory / "alive").touch()
    while True:
        time.sleep(60)


def child(directory: Path, role: str, behaviour: str, port: int) -> None:
    def ended(*_: object) -> None:
        note(directory, "events", f"{role} stopped")
        if behaviour != "stubborn":
            os._exit(0)

    signal.signal(signal.SIGTERM, ended)
    note(directory, "pids", f"{role} {os.getpid()}")
    note(directory, "events", f"{role} started")
    edge(directory, port) if role == "edge" else worker(directory, behaviour)


def main(directory: Path, behaviour: str = "good", role: str = "", port: int = 0) -> None:
    if role:
        child(directory, role, behaviour, port)
        return
    port = int((directory / "port").read_text())
    this = ("-m", "tests.deploy.fake_stack", str(directory), behaviour)
    commands = [(*this, "edge", str(port)), (*this, "worker", "0")]
    try:
        sys.exit(asyncio.run(up.Supervisor(commands, f"http://127.0.0.1:{port}").run()))
    except up.FatalError as error:
        up.complain(str(error))
        sys.exit(error.code)


if __name__ == "__main__":
    given = [*sys.argv[2:], "", ""]
    main(Path(sys.argv[1]), given[0], given[1], int(given[2] or 0))
