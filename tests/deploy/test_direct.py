"""What asks this machine's own servers does not go through a proxy, and says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy import up

ROOT = Path(__file__).resolve().parents[2]


class Answering(HTTPServer):
    """Answers every request with `body`."""

    body = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answering]:
    with Answering(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


# urllib reads the environment once a process, when it first needs an opener; so do these.
ASK = """
import sys
from deploy import up, wheel_test
print(up.ready_workers(sys.argv[1]), wheel_test._json(sys.argv[1])["workers"])
"""


def with_a_dead_proxy(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    proxy = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "", "NO_PROXY": ""}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **proxy, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_proxy_in_the_environment_is_not_asked(server: Answering) -> None:
    server.body = b'{"workers": [{"state": "ready"}]}'
    done = with_a_dead_proxy("-c", ASK, server.url)
    assert done.stdout == "1 [{'state': 'ready'}]\n", done.stderr


def test_nor_does_the_health_check_of_the_edges_image_ask_it(server: Answering) -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (line,) = [line for line in lines if "CMD" in line and "/health/ready" in line]
    python, *command = json.loads(line.strip().removeprefix("CMD "))
    assert python == "python"
    done = with_a_dead_proxy(*command, EDGE_PORT=str(server.server_port))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("body", [b"hello", b"[]", b"{}", b'{"workers": 1}', b'{"workers": [1]}'])
def test_an_answer_that_is_no_edges_ends_it_in_one_line(server: Answering, body: bytes) -> None:
    server.body = body
    with pytest.raises(up.FatalError, match="is not Caravan's edge"):
        up.ready_workers(server.url)
    with pytest.raises(up.FatalError, match="does not list its models"):
        up.model_names(server.url)


def test_an_edge_that_is_gone_when_asked_for_models_is_one_line() -> None:
    assert up.ready_workers("http://127.0.0.1:1") == 0
    with pytest.raises(up.FatalError, match="does not list its models") as error:
        up.model_names("http://127.0.0.1:1")
    assert "\n" not in str(error.value)
