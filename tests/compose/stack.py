"""The compose project under test: built, started, asked, taken down."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.compose.commands import ROOT, STEP_SECONDS, TestError, check, complain, run, succeeds

MODEL = ROOT / "models" / "caravan-demo.gguf"
PROJECT = "caravan-compose-test"
STAND_IN = "caravan-base:standin"  # what .ci/docker makes where no base image can be pulled
BUILD_SECONDS = 45 * 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Stack:
    """The compose project under test."""

    def __init__(self, base_image: str | None, scratch: Path) -> None:
        # Settings of the person who runs the test stay out of it: neither .env nor variables.
        env_file = scratch / "empty.env"
        env_file.touch()
        plugin = succeeds("docker", "compose", "version")
        program = ("docker", "compose") if plugin else ("docker-compose",)
        self.base_image = base_image
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._compose = (
            *program,
            "--env-file",
            str(env_file),
            "-p",
            PROJECT,
            "-f",
            "docker-compose.yml",
        )
        self._env = {
            **os.environ,
            "PORT": str(self.port),
            "MODEL_DIR": str(MODEL.parent),
            "MODEL": MODEL.name,
            "MODEL_NAME": "",
            "CTX_SIZE": "2048",
            "PARALLEL": "",
            "THREADS": "1",
            "LOG_LEVEL": "info",
            "API_KEY": "",
            "IMAGE_PREFIX": "caravan",
            "IMAGE_TAG": "compose-test",
            "EDGE_MEMORY": "512m",
            "LLAMA_MEMORY": "1g",
        }
        if base_image:
            self._env["BASE_IMAGE"] = base_image
        else:
            self._env.pop("BASE_IMAGE", None)

    def compose(self, *args: str, seconds: float = STEP_SECONDS) -> str:
        return run(*self._compose, *args, seconds=seconds, env=self._env)

    def build(self) -> None:
        """Builds both images, with the build's own output as progress."""
        build = subprocess.Popen(
            (*self._compose, "build"),
            cwd=ROOT,
            env=self._env,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = build.wait(BUILD_SECONDS)
        except BaseException as error:
            os.killpg(build.pid, signal.SIGTERM)  # compose, and the docker that it started
            build.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise TestError(f"not built within {BUILD_SECONDS // 60} min") from None
            raise
        check(code == 0, "the images do not build")

    def up(self, workers: int) -> None:
        self.compose("up", "-d", "--no-build", "--scale", f"llama={workers}", "--no-recreate")

    def down(self) -> None:
        self.compose("down", "-v", "--remove-orphans", "-t", "5")
        left = run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}")
        check(left == "", f"containers are left over: {left}")

    def ids(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "100")

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; 0 when nothing answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready_workers(self) -> int:
        """How many workers the edge says can answer now."""
        status, body = self.get("/health/ready")
        return ready_count(body) if status == 200 else 0


def ready_count(body: str) -> int:
    """The number of workers that can answer, out of the body of `/health/ready`."""
    return len([worker for worker in json.loads(body)["workers"] if worker["state"] == "ready"])


def inspect(container: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(run("docker", "inspect", container))
    return found[0]


def base_image() -> str | None:
    """What to build on: BASE_IMAGE, else the stand-in where there is one, else the Dockerfile's own."""
    if named := os.environ.get("BASE_IMAGE"):
        return named
    return STAND_IN if succeeds("docker", "image", "inspect", STAND_IN) else None


@contextmanager
def taken_down(stack: Stack) -> Iterator[None]:
    """Nothing is left of the project afterwards, nor of an earlier run that was killed."""
    stack.down()
    try:
        yield
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            complain(stack.logs())
        raise
    finally:
        stack.down()
