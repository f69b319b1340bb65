"""Builds the compose stack and drives it: `make compose-test [BASE_IMAGE=…]`.

One worker, then three without a restart of the edge; chats through the official SDK; one worker
killed, and no request fails; what the containers may not do; an orderly stop. Everything has a
deadline, everything is taken down again, and on failure the containers' logs are printed.
`.ci/docker` gets a machine ready for this.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import openai

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "caravan-demo.gguf"
PROJECT = "caravan-compose-test"
STAND_IN = "caravan-base:standin"  # what .ci/docker makes where no base image can be pulled
OUTSIDE = "caravan-outside"
OUTSIDE_PORT = 9000
WORKERS = 3
REQUESTS = 12  # after the kill, four at a time

BUILD_SECONDS = 45 * 60
READY_SECONDS = 180
STEP_SECONDS = 120
CHAT_SECONDS = 60


class TestError(Exception):
    """Something is not as it must be; the message says what."""


def say(text: str) -> None:
    print(f"compose: {text}", flush=True)  # noqa: T201 - its report


def complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def check(condition: bool, what: str) -> None:
    if not condition:
        raise TestError(what)


def run(*command: str, seconds: float = STEP_SECONDS, env: dict[str, str] | None = None) -> str:
    """Runs a command to its end and returns its output. Raises TestError."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TestError(f"{' '.join(command)}: not done within {seconds:.0f} s") from None
    if done.returncode != 0:
        output = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise TestError(f"{' '.join(command)}: exit {done.returncode}\n{output}")
    return done.stdout.strip()


def succeeds(*command: str) -> bool:
    if not shutil.which(command[0]):
        return False
    done = subprocess.run(command, capture_output=True, timeout=STEP_SECONDS, check=False)
    return done.returncode == 0


def wait_until(what: str, condition: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}")
        time.sleep(0.5)


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


# ---- chats


def ask(client: openai.OpenAI, model: str) -> None:
    """One chat, whole and streamed: both end well and say the same."""
    question: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 32,
    }
    whole = client.chat.completions.create(**question)
    text = whole.choices[0].message.content or ""
    check("Paris" in text, f"the answer is {text!r}")
    check(whole.usage is not None and whole.usage.completion_tokens > 0, "the answer has no usage")
    pieces = [
        chunk for chunk in client.chat.completions.create(**question, stream=True) if chunk.choices
    ]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
    check(pieces[-1].choices[0].finish_reason is not None, "the stream has no finish_reason")
    check("Paris" in streamed, f"the streamed answer is {streamed!r}")


def ask_many(client: openai.OpenAI, model: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(ask, client, model) for _ in range(REQUESTS)]:
            done.result(timeout=CHAT_SECONDS * 2)


# ---- what a container may not do


def is_healthy(container: str) -> bool:
    status: str = inspect(container)["State"]["Health"]["Status"]
    return status == "healthy"


def check_hardening(container: str) -> None:
    found = inspect(container)
    name, host, config = found["Name"].lstrip("/"), found["HostConfig"], found["Config"]
    user = config["User"].split(":")[0]
    check(user.isdigit() and user != "0", f"{name} runs as {user or 'root'}")
    check(host["ReadonlyRootfs"], f"{name}: the root file system is writable")
    check(host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{name} has capabilities")
    check(not host["Privileged"], f"{name} is privileged")
    options = " ".join(host["SecurityOpt"] or [])
    check("no-new-privileges" in options, f"{name} may gain privileges: {options!r}")
    check(0 < (host["PidsLimit"] or 0) <= 1024, f"{name} has no limit of processes")
    check(host["Memory"] > 0, f"{name} has no limit of memory")
    for mount in found["Mounts"]:
        check(
            mount["Type"] == "tmpfs" or not mount["RW"],
            f"{name}: {mount['Destination']} is writable",
        )
    # And as seen from inside.
    status = run("docker", "exec", container, "cat", "/proc/1/status")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    check(
        fields["Uid"].split()[0] == user, f"{name}: the process runs as {fields['Uid'].split()[0]}"
    )
    check(int(fields["CapBnd"], 16) == 0, f"{name}: capabilities {fields['CapBnd'].strip()}")
    check(fields["NoNewPrivs"].strip() == "1", f"{name}: NoNewPrivs is off")
    check(not succeeds("docker", "exec", container, "touch", "/app/x"), f"{name} can write to /app")
    tools = ("gcc", "cc", "g++", "cmake", "pip")
    for tool in tools:
        check(
            not succeeds("docker", "exec", container, "sh", "-c", f"command -v {tool}"),
            f"{name} has {tool}",
        )


CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
except OSError as error:
    sys.exit(str(error))
"""
LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    server.accept()[0].close()
"""


def connects(container: str, host: str, port: int) -> bool:
    return succeeds("docker", "exec", container, "python", "-c", CONNECT, host, str(port))


@contextmanager
def another_host() -> Iterator[str]:
    """A host beyond this machine's Docker networks that listens on OUTSIDE_PORT; its address.

    A network namespace with a cable to this one, in the address range set aside for benchmarks.
    """
    here, there = "198.18.255.1", "198.18.255.2"
    succeeds("ip", "netns", "del", OUTSIDE)  # of a run that was killed
    run("ip", "netns", "add", OUTSIDE)
    listener: subprocess.Popen[bytes] | None = None
    try:
        run(*f"ip link add caravan-out type veth peer name eth0 netns {OUTSIDE}".split())
        run(*f"ip addr add {here}/30 dev caravan-out".split())
        run("ip", "link", "set", "caravan-out", "up")
        run(*f"ip -n {OUTSIDE} addr add {there}/30 dev eth0".split())
        run(*f"ip -n {OUTSIDE} link set eth0 up".split())
        listen = (sys.executable, "-c", LISTEN, there, str(OUTSIDE_PORT))
        listener = subprocess.Popen(["ip", "netns", "exec", OUTSIDE, *listen])
        yield there
    finally:
        if listener is not None:
            listener.kill()
            listener.wait()
        run("ip", "netns", "del", OUTSIDE)


def check_no_egress(worker: str, edge: str) -> None:
    """A worker reaches its own network and nothing else."""
    inner = f"{PROJECT}_workers"
    networks = inspect(edge)["NetworkSettings"]["Networks"]
    check(list(inspect(worker)["NetworkSettings"]["Networks"]) == [inner], "networks of a worker")
    check(run("docker", "network", "inspect", "-f", "{{.Internal}}", inner) == "true", inner)
    check(connects(worker, networks[inner]["IPAddress"], 8000), "a worker reaches nothing at all")
    if os.geteuid() != 0 or not shutil.which("ip"):
        say("skipped, as it needs root and `ip`: a worker that tries to reach another host")
        return
    with another_host() as host:
        wait_until("the edge reaches another host", lambda: connects(edge, host, OUTSIDE_PORT), 15)
        check(not connects(worker, host, OUTSIDE_PORT), "a worker reaches another host")


# ---- the test


def drive(stack: Stack) -> None:
    say(f"building on {stack.base_image or 'the default base image'}")
    started = time.monotonic()
    stack.build()
    say(f"built in {time.monotonic() - started:.0f} s")
    for target in ("edge", "llama"):
        size = int(
            run("docker", "image", "inspect", "-f", "{{.Size}}", f"caravan-{target}:compose-test")
        )
        say(f"image {target}: {size / 1e6:.0f} MB")

    stack.up(1)
    wait_until("the edge and one worker are ready", lambda: stack.ready_workers() == 1)
    edge = stack.ids("edge")[0]
    started_at = inspect(edge)["State"]["StartedAt"]
    stack.up(WORKERS)
    wait_until(f"the edge sees {WORKERS} workers", lambda: stack.ready_workers() == WORKERS)
    check(inspect(edge)["State"]["StartedAt"] == started_at, "the edge was restarted")
    say(f"{WORKERS} workers, found without a restart: {stack.get('/health/ready')[1].strip()}")

    with openai.OpenAI(
        base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=CHAT_SECONDS
    ) as client:
        model = client.models.list().data[0].id
        ask(client, model)
        say(f"chat with {model} ok, whole and streamed")

        for container in (edge, *stack.ids("llama")):
            check_hardening(container)
        check_no_egress(stack.ids("llama")[0], edge)
        everyone = [edge, *stack.ids("llama")]
        wait_until("the health checks pass", lambda: all(map(is_healthy, everyone)))
        say("hardening ok, no way out of a worker, all healthy")

        run("docker", "kill", "-s", "KILL", stack.ids("llama")[-1])
        ask_many(client, model)
        wait_until(
            f"the edge sees {WORKERS - 1} workers", lambda: stack.ready_workers() == WORKERS - 1
        )
        ask(client, model)
        say(f"one killed, {2 * REQUESTS + 2} requests after it ok")

    running = [edge, *(c for c in stack.ids("llama") if inspect(c)["State"]["Running"])]
    check(len(running) == WORKERS, "not all of the others are running")
    stack.compose("stop")
    for container in running:
        state, name = inspect(container)["State"], inspect(container)["Name"].lstrip("/")
        check(state["ExitCode"] == 0, f"{name} ends with {state['ExitCode']} when it is stopped")


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


def main() -> int:
    def terminated(*_: object) -> NoReturn:
        raise TestError("terminated")

    signal.signal(signal.SIGTERM, terminated)
    if not succeeds("docker", "info"):
        complain("compose-test: no Docker daemon answers (.ci/docker installs and starts one)")
        return 1
    if not MODEL.is_file():
        complain(f"compose-test: no model: {MODEL.relative_to(ROOT)}")
        return 1
    try:
        with tempfile.TemporaryDirectory() as scratch:
            stack = Stack(base_image(), Path(scratch))
            with taken_down(stack):
                drive(stack)
    except (TestError, openai.OpenAIError, TimeoutError) as error:
        complain(f"compose-test: failed: {error}")
        return 1
    say(f"{WORKERS} workers, chat ok, one killed, chat ok, all down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
