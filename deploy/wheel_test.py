"""Tests the package as a user installs it: `make wheel-test`, `python -m deploy.wheel_test`.

Builds the wheel, installs it with the locked dependencies into an empty environment, and from a
folder outside the checkout runs the console commands, serves the demo model and asks it once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy import direct
from deploy.bound import bound
from deploy.options import DEMO_MODEL, ROOT, free_ports

READY_SECONDS = 120
STOP_SECONDS = 40
PARTS = ("protos/inference/v1/inference.proto", "services/llama/__main__.py", "edge/__main__.py")


class WheelError(Exception):
    """The wheel is not as it must be; the message says what."""


def say(text: str) -> None:
    print(f"wheel-test: {text}", flush=True)


def run(*command: str, cwd: Path) -> str:
    """Runs a command away from the checkout; its output. Raises WheelError."""
    done = subprocess.run(
        command, cwd=cwd, env=clean_env(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise WheelError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def clean_env() -> dict[str, str]:
    """The environment without what could lead Python to the checkout."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "VIRTUAL_ENV"))}


def build(scratch: Path) -> Path:
    run(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "-o",
        str(scratch / "dist"),
        str(ROOT),
        cwd=scratch,
    )
    (wheel,) = (scratch / "dist").glob("*.whl")
    return wheel


def install(scratch: Path, wheel: Path) -> Path:
    """An environment with the wheel and what it needs; its `bin`."""
    venv.create(scratch / "env", with_pip=True)
    binaries = scratch / "env" / "bin"
    pip = (str(binaries / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input")
    lock = str(ROOT / "requirements" / "worker.txt")
    hashed = ("--require-hashes", "--only-binary", ":all:", "-r", lock)
    run(*pip, "install", "-qq", "--no-deps", *hashed, cwd=scratch)
    llama = run(sys.executable, str(ROOT / "deploy" / "llama_wheel.py"), cwd=scratch).strip()
    run(*pip, "install", "-qq", "--no-deps", "--no-index", llama, str(wheel), cwd=scratch)
    run(*pip, "check", cwd=scratch)
    return binaries


@contextlib.contextmanager
def serving(binaries: Path, scratch: Path) -> Iterator[str]:
    """The installed commands on the demo model; the edge's URL."""
    worker, edge = free_ports(2)
    address = f"127.0.0.1:{worker}"
    commands = (
        ("caravan-llama", "--model", str(ROOT / DEMO_MODEL), "--port", str(worker)),
        ("caravan-edge", "--port", str(edge), "--worker", address),
    )
    started = []
    try:
        for name, *args in commands:
            with (scratch / f"{name}.log").open("wb") as log:
                command = bound([str(binaries / name), *args])
                started.append(
                    subprocess.Popen(command, cwd=scratch, env=clean_env(), stdout=log, stderr=log)
                )
        yield f"http://127.0.0.1:{edge}"
        for process in reversed(started):
            stop(process)
    except BaseException:
        for path in sorted(scratch.glob("*.log")):
            say(f"{path.name}:\n{path.read_text(errors='replace')[-4000:]}")
        raise
    finally:
        for process in started:
            process.kill()
            process.wait()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    if process.wait(STOP_SECONDS) != 0:
        raise WheelError(f"{process.args!r} ends with {process.returncode}")


def ask(url: str) -> str:
    """Waits until a worker can answer; the answer to one question."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with direct.urlopen(f"{url}/health/ready", timeout=5):
                break
        except OSError as error:
            if time.monotonic() > deadline:
                raise WheelError(f"not ready within {READY_SECONDS} s: {error}") from None
            time.sleep(0.1)
    models: Any = _json(f"{url}/v1/models")
    question = {
        "model": models["data"][0]["id"],
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 32,
    }
    answer: Any = _json(f"{url}/v1/chat/completions", question)
    text = answer["choices"][0]["message"]["content"]
    if not isinstance(text, str) or not text:
        raise WheelError(f"no text in the answer: {answer}")
    return text


def _json(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with direct.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def check(scratch: Path) -> None:
    """The whole test, in an empty folder. Raises WheelError."""
    wheel = build(scratch)
    names = run(sys.executable, "-m", "zipfile", "-l", str(wheel), cwd=scratch)
    if missing := [part for part in PARTS if part not in names]:
        raise WheelError(f"not in {wheel.name}: {', '.join(missing)}")
    if "tests/" in names:
        raise WheelError(f"tests are in {wheel.name}")
    say(f"built {wheel.name}, {wheel.stat().st_size // 1024} KiB")
    binaries = install(scratch, wheel)
    for command in ("caravan-edge", "caravan-llama"):
        if "--config" not in run(str(binaries / command), "--help", cwd=scratch):
            raise WheelError(f"{command} --help does not list the settings")
        said = run(str(binaries / command), "--version", cwd=scratch).strip()
        if said != f"{command} {wheel.name.split('-')[1]}":
            raise WheelError(f"{command} --version says {said!r}, and the wheel is {wheel.name}")
    say("installed from the locks; both commands answer --help and --version")
    with serving(binaries, scratch) as url:
        say(f"asked once: {ask(url)!r}")


def main() -> int:
    """The exit code."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            check(Path(folder).resolve())
    except (WheelError, subprocess.TimeoutExpired, OSError) as error:
        say(f"failed: {error}")
        return 1
    say("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
