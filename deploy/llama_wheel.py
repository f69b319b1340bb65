"""Builds the llama-cpp-python wheel once per machine and keeps it: `llama_wheel.py --out DIR`.

One build serves every host: each CPU variant of ggml becomes a library of its own and the worker
picks one when it starts, so nothing here asks what the building machine can do. `--gpu` adds a
backend to that. The sdist and the build tools are checked against the hashes below.

pip caches a built wheel by its sdist alone and would hand out a CPU build when CUDA was asked
for, so the cache is our own: `CARAVAN_WHEEL_CACHE`, else `$XDG_CACHE_HOME/caravan/wheels`, with
one folder per version, flags and machine. Standard library only: it runs before anything is
installed, also alone in an image's build stage. Progress goes to stderr, the wheel's path to
stdout.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

VERSION = "0.3.36"
SDIST = f"""\
llama-cpp-python=={VERSION} \
--hash=sha256:832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
"""
# All that its build needs besides CMake, a compiler and make or ninja; pure Python, one file each.
BUILD_TOOLS = """\
scikit-build-core==1.1.2 --hash=sha256:7f4f959a467692db50bdd1ea7ce1507f2c7972e6023b753ee302d169bc4cec85
packaging==26.3 --hash=sha256:d7193f7c8e4e93f444fde0262bf90af30e16fa0ad0ad44cb553c87339b23cd1c
pathspec==1.1.1 --hash=sha256:a00ce642f577bf7f473932318056212bc4f8bfdf53128c78bbd5af0b9b20b189
"""

# Nothing of ours speaks TLS through llama.cpp; found by chance, OpenSSL would be linked in and
# have to be on every host that runs the wheel.
COMMON_FLAGS = ("-DLLAMA_OPENSSL=OFF",)
EVERY_HOST_FLAGS = (
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
)
GPU_FLAGS = {
    "": (),
    "cuda": ("-DGGML_CUDA=ON",),
    "vulkan": ("-DGGML_VULKAN=ON",),
    "metal": ("-DGGML_METAL=ON",),
}
GPU_NEEDS = {
    "cuda": ("nvcc", "the CUDA toolkit (nvcc on the PATH)"),
    "vulkan": ("glslc", "the Vulkan SDK: apt-get install libvulkan-dev glslc"),
}
PACKAGES = "apt-get install python3 python3-venv build-essential cmake"
# The newest of ggml's variants for this architecture, as the compiler is asked for it.
ARM_PROBE = "-march=armv9.2-a+dotprod+fp16+sve+i8mm+sve2+sme"
PROGRESS_SECONDS = 15.0
PROGRESS = re.compile(r"^\s*\[\s*(\d+)(?:/(\d+)|%)\]", re.MULTILINE)


class BuildError(Exception):
    """The wheel cannot be built; the message is for the person who asked for it."""


def say(text: str) -> None:
    print(f"llama.cpp: {text}", file=sys.stderr, flush=True)


def cmake_flags(gpu: str, system: str, machine: str, extra: str = "") -> tuple[str, ...]:
    """CMake's arguments for one GPU backend ("" for none) on one kind of machine."""
    if system == "Darwin":  # one CPU family, Metal on by default
        flags: tuple[str, ...] = ()
    elif machine in ("aarch64", "arm64") and not _compiles(ARM_PROBE):
        say(
            "this compiler is too old (gcc 14 is not) for all arm64 variants: building for this CPU only"
        )
        flags = ()
    else:
        flags = EVERY_HOST_FLAGS
    return (*COMMON_FLAGS, *flags, *GPU_FLAGS[gpu], *shlex.split(extra))


def cache_key(flags: tuple[str, ...], system: str, machine: str) -> str:
    """The cache's folder name for a build: version, flags, and what can run it."""
    digest = hashlib.sha256("\0".join((*flags, SDIST, BUILD_TOOLS)).encode()).hexdigest()[:12]
    libc = "-".join(platform.libc_ver()[:1]) or "libc"
    return f"{VERSION}-{digest}-py3-{system.lower()}-{libc}-{machine}"


def cache_root(env: Mapping[str, str]) -> Path:
    if own := env.get("CARAVAN_WHEEL_CACHE"):
        return Path(own).expanduser()
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "caravan" / "wheels"


def wheel_for(gpu: str, env: Mapping[str, str]) -> Path:
    """The wheel for this machine, from the cache or built now. Raises BuildError."""
    system, machine = platform.system(), platform.machine()
    if gpu == "metal" and system != "Darwin":
        raise BuildError("GPU=metal needs macOS")
    flags = cmake_flags(gpu, system, machine, env.get("CMAKE_ARGS", ""))
    root = cache_root(env)
    key = cache_key(flags, system, machine)
    home, log = root / key, root / f"{key}.log"
    if found := _wheel_in(home):
        return found
    root.mkdir(parents=True, exist_ok=True)
    with _only_one(root / f"{key}.lock"):
        if found := _wheel_in(home):
            return found
        _check_tools(gpu, env)
        with tempfile.TemporaryDirectory(dir=root, prefix=".building-") as scratch:
            built = _build(flags, Path(scratch), log, env)
            if home.exists():
                shutil.rmtree(home)
            built.parent.rename(home)
    found = _wheel_in(home)
    assert found is not None
    return found


def _wheel_in(home: Path) -> Path | None:
    return next(iter(sorted(home.glob("llama_cpp_python-*.whl"))), None)


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Two set-ups at once compile once."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another process is building this wheel: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_tools(gpu: str, env: Mapping[str, str]) -> None:
    missing = []
    if not shutil.which(shlex.split(env.get("CXX") or "c++")[0]):
        missing.append("a C++ compiler")
    if not shutil.which("cmake"):
        missing.append("cmake")
    if not (shutil.which("ninja") or shutil.which("make")):
        missing.append("make or ninja")
    if missing:
        raise BuildError(f"needs {', '.join(missing)}; on Debian and Ubuntu: {PACKAGES}")
    if gpu in GPU_NEEDS:
        tool, package = GPU_NEEDS[gpu]
        if not shutil.which(tool) and not (gpu == "cuda" and env.get("CUDACXX")):
            raise BuildError(f"GPU={gpu} needs {package}")


def _compiles(flag: str) -> bool:
    """Whether the C++ compiler accepts the flag."""
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    if not shutil.which(compiler[0]):
        return True  # said better later
    done = subprocess.run(
        [*compiler, flag, "-x", "c++", "-c", "-o", os.devnull, os.devnull],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _build(flags: tuple[str, ...], scratch: Path, log: Path, env: Mapping[str, str]) -> Path:
    cores = os.cpu_count() or 1
    minutes = max(1, round(14 / cores))
    say(
        f"building {VERSION} for every CPU of this architecture, once: about {minutes} min on {cores} cores"
    )
    say(f"log: {log}")
    tools, wheels = scratch / "tools", scratch / "wheels"
    (scratch / "tools.txt").write_text(BUILD_TOOLS)
    (scratch / "sdist.txt").write_text(SDIST)
    child_env = {
        **env,
        "CMAKE_ARGS": shlex.join(flags),
        "PYTHONPATH": str(tools),
        # What python itself was compiled with need not be on this machine.
        "CC": env.get("CC") or "cc",
        "CXX": env.get("CXX") or "c++",
        "CMAKE_BUILD_PARALLEL_LEVEL": env.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(cores),
    }
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
    hashed = ("--no-cache-dir", "--no-deps", "--require-hashes")
    fetch = ("--only-binary", ":all:", "--target", str(tools), "-r", str(scratch / "tools.txt"))
    compile_ = ("--no-binary", "llama-cpp-python", "--no-build-isolation")
    into = ("--wheel-dir", str(wheels), "-r", str(scratch / "sdist.txt"))
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as out:
        for what, command in (
            ("fetching the build tools", (*pip, "install", *hashed, *fetch)),
            ("compiling", (*pip, "wheel", "-v", *hashed, *compile_, *into)),
        ):
            if _run(what, command, child_env, out) != 0:
                raise BuildError(
                    f"{what} failed:\n{_tail(log)}\nIt needs the network, and: {PACKAGES}"
                )
    say(f"built in {_clock(time.monotonic() - started)}")
    wheel = _wheel_in(wheels)
    if wheel is None:
        raise BuildError(f"pip left no wheel; see {log}")
    return wheel


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    return "\n".join([*(f"  {line}" for line in lines), f"The whole log: {log}"])


def _run(what: str, command: Sequence[str], env: Mapping[str, str], log: TextIO) -> int:
    """Runs a command with its output in the log, and says how far it is every few seconds."""
    child = subprocess.Popen(
        command,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that its compilers can be stopped with it
    )
    done = ["starting"]

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            print(line, end="", file=log, flush=True)
            if step := progress_of(line):
                done[0] = step

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    started = time.monotonic()
    try:
        while True:
            try:
                code = child.wait(PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                say(f"{what}: {done[0]}, {_clock(time.monotonic() - started)}")
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        raise
    reader.join()
    return code


def progress_of(line: str) -> str | None:
    """How far a line of ninja's or make's output says the build is; None when it does not."""
    match = PROGRESS.match(line)
    if match is None:
        return None
    at, total = match.groups()
    return f"{int(at) * 100 // int(total)} % ({at} of {total})" if total else f"{at} %"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--gpu",
        choices=sorted(GPU_FLAGS),
        default=os.environ.get("GPU", ""),
        help="backend to add; default: $GPU",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="copy the wheel there")
    args = parser.parse_args()
    if args.gpu not in GPU_FLAGS:  # argparse does not check a default
        parser.error(f"GPU={args.gpu}: not one of {', '.join(name for name in GPU_FLAGS if name)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        wheel = wheel_for(args.gpu, os.environ)
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            wheel = Path(shutil.copy2(wheel, args.out))
    except BuildError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    print(wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
