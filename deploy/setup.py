"""Makes the virtual environment from the hashed locks: `setup.py VENV STAMP`, for the Makefile.

Runs on the system's python3, whatever its age, before anything is installed: standard library
only, and no syntax newer than Python 3.7 before the version is checked. Safe to repeat.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 11)
OTHERS = ("python3.13", "python3.12", "python3.11", "python3.14")
PACKAGES = "apt-get install python3 python3-venv build-essential cmake"


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> None:
    say(text)
    sys.exit(1)


def on_a_new_python() -> None:
    """Continues on a newer interpreter when this one is too old; ends the process without one."""
    if sys.version_info >= OLDEST:
        return
    for name in OTHERS:
        path = shutil.which(name)
        if path:
            os.execv(path, [path, *sys.argv])  # noqa: S606 -- the point of it
    old = sys.version.split()[0]
    fail(f"needs Python 3.11 or newer, and python3 is {old}; on Debian and Ubuntu: {PACKAGES}")


def works(python: Path) -> bool:
    """Whether the environment's pip runs and its Python is new enough."""
    check = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    try:
        return subprocess.call([str(python), "-c", check], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def make_venv(venv: Path, python: Path) -> None:
    if works(python):
        return
    say(f"making {venv} with Python {sys.version.split()[0]}")
    code = subprocess.call([sys.executable, "-m", "venv", "--clear", str(venv)])
    if code != 0 or not works(python):
        fail(f"python3 cannot make virtual environments; on Debian and Ubuntu: {PACKAGES}")


def install(python: Path, what: str, *args: str) -> None:
    say(what)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if subprocess.call([*pip, "install", "-qq", "--no-deps", *args]) != 0:
        fail(f"pip failed at: {what} (it needs the network the first time)")


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Two set-ups at once would clear each other's files; whether this one had to wait.

    The folder itself is what is locked, so nothing is left behind.
    """
    locked = os.open(str(folder), os.O_RDONLY)
    try:
        waited = False
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            say("another set-up is at work here: waiting for it")
            fcntl.flock(locked, fcntl.LOCK_EX)
        yield waited
    finally:
        os.close(locked)


def main(venv: Path, stamp: Path) -> None:
    on_a_new_python()
    with only_one(venv.absolute().parent) as waited:
        if not (waited and stamp.exists()):
            make(venv, stamp)


def make(venv: Path, stamp: Path) -> None:
    started = time.monotonic()
    python = venv / "bin" / "python"
    make_venv(venv, python)
    install(
        python,
        "installing packages from the lock, about a minute",
        *("--require-hashes", "--only-binary", ":all:", "-r", "requirements/dev.txt"),
    )
    built = subprocess.run(
        [str(python), "deploy/llama_wheel.py"], stdout=subprocess.PIPE, text=True, check=False
    )
    if built.returncode != 0:
        sys.exit(built.returncode)
    wheel = built.stdout.strip()
    if wheel not in [old.read_text().strip() for old in venv.glob(".ready-*")]:
        # One version can have been built with other flags before: pip would see nothing to do.
        install(python, "installing llama.cpp", "--no-index", "--force-reinstall", wheel)
    install(python, "installing caravan", "--no-index", "--no-build-isolation", "--editable", ".")
    for old in venv.glob(".ready-*"):
        old.unlink()
    stamp.write_text(f"{wheel}\n")
    say(f"ready in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except KeyboardInterrupt:
        say("stopped; run it again to go on")
        sys.exit(130)
