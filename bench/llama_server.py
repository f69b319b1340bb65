"""Builds and starts llama-server, the fair peer: it runs on the very ggml libraries of our wheel.

`python -m bench.llama_server build` compiles it once (minutes) from the llama.cpp sources inside
the llama-cpp-python source distribution of the installed version; `… serve` runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from deploy.llama_wheel import SDIST, VERSION
from services.llama.runtime.libs import load_backends
from services.worker.backend import StartupError

CACHE = Path(__file__).resolve().parent / ".cache"
HOME = CACHE / "llama-server"
BUILT = ("llama-server", "libllama-server-impl.so", "libllama-common.so.0", "libllama.so.0",
         "libmtmd.so.0")  # fmt: skip
FLAGS = {
    "CMAKE_BUILD_TYPE": "Release",
    "CMAKE_INSTALL_RPATH": "$ORIGIN",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "BUILD_SHARED_LIBS": "ON",
    # ggml is not compiled again: both sides run the same files.
    "LLAMA_USE_SYSTEM_GGML": "ON",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_CURL": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_TOOLS_INSTALL": "OFF",
}


class BuildError(Exception):
    """llama-server cannot be built or started; the message is one line."""


def build(jobs: int) -> None:
    """Compiles llama-server into bench/.cache/llama-server/. Raises BuildError."""
    packages = _site_packages()
    if not (packages / "lib" / "cmake" / "ggml").is_dir():
        raise BuildError("the installed llama-cpp-python brings no ggml to link against")
    source = _sources(version("llama-cpp-python"))
    objects = CACHE / "llama-server-objects"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    flags = [f"-D{name}={value}" for name, value in FLAGS.items()]
    prefix = f"-DCMAKE_PREFIX_PATH={packages}"
    _run(["cmake", *generator, "-S", str(source), "-B", str(objects), *flags, prefix])
    _run(["cmake", "--build", str(objects), "--target", "llama-server", "-j", str(jobs)])
    HOME.mkdir(parents=True, exist_ok=True)
    for name in BUILT:
        shutil.copy2(objects / "bin" / name, HOME / name)
    (HOME / "built-for").write_text(VERSION)


def command(
    model: Path, port: int, threads: int, parallel: int, ctx_size: int, variant: str | None = None
) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment to add to it. Raises BuildError."""
    if not (HOME / "llama-server").is_file():
        raise BuildError("llama-server is not built; run: python -m bench.llama_server build")
    if (HOME / "built-for").read_text() != version("llama-cpp-python"):
        raise BuildError("llama-server was built for another llama-cpp-python; build it again")
    packages = _site_packages()
    # Anew at every start: the wheel may have been built again since, for a GPU perhaps.
    for library in sorted((packages / "lib").glob("libggml*.so.0")):
        _copy(library, HOME / library.name)
    _place_kernels(packages, variant)
    line = [
        *(str(HOME / "llama-server"), "--model", str(model.resolve())),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--threads", str(threads), "--threads-batch", str(threads)),
        *("--parallel", str(parallel), "--ctx-size", str(ctx_size), "--kv-unified"),
    ]
    # Before the executable's directory nothing may be searched for libraries.
    return line, {"LD_LIBRARY_PATH": str(HOME)}


def _place_kernels(packages: Path, variant: str | None) -> None:
    """Leaves one CPU library beside the executable, where alone ggml looks for them.

    Its own choice is by CPU flags, and dies on machines that announce AMX without enabling it.
    `variant` None: the one that our worker takes.
    """
    kernels = {path.name: path for path in (packages / "bin").glob("libggml-cpu-*.so")}
    if not kernels:  # a wheel with one CPU library, which libggml itself links
        return
    variant = variant or _our_variant(packages)
    name = f"libggml-cpu-{variant}.so"
    if name not in kernels:
        raise BuildError(f"no CPU variant {variant!r} in the wheel")
    for other in HOME.glob("libggml-cpu-*.so"):
        if other.name != name:
            other.unlink()
    _copy(kernels[name], HOME / name)


def _copy(source: Path, target: Path) -> None:
    """As a new file: one that is written over is gone for the servers that run and have it mapped."""
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copy2(source, partial)
    partial.replace(target)


def _our_variant(packages: Path) -> str:
    """The one that our worker takes on this machine."""
    lib = packages / "llama_cpp" / "lib"
    try:
        return load_backends(lib, "auto")
    except StartupError as error:
        raise BuildError(str(error)) from None


def _sources(wanted: str) -> Path:
    """llama.cpp's sources, from the source distribution that our wheel is built from."""
    if wanted != VERSION:
        raise BuildError(f"llama-cpp-python is {wanted}, and {VERSION} is pinned")
    folder = CACHE / "sdist"
    archive = folder / f"llama_cpp_python-{VERSION}.tar.gz"
    folder.mkdir(parents=True, exist_ok=True)
    if not archive.is_file():
        pinned = folder / "sdist.txt"
        pinned.write_text(SDIST)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
        _run([*pip, "--require-hashes", "--no-binary", "llama-cpp-python", "-r", str(pinned)])
    if hashlib.sha256(archive.read_bytes()).hexdigest() not in SDIST:
        raise BuildError(f"{archive.name}: its hash is not the pinned one")
    source = folder / archive.name.removesuffix(".tar.gz")
    if not source.is_dir():
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    return source / "vendor" / "llama.cpp"


def _site_packages() -> Path:
    found = find_spec("llama_cpp")
    if found is None or found.origin is None:
        raise BuildError("llama-cpp-python is not installed")
    return Path(found.origin).parent.parent


def _run(line: Sequence[str]) -> None:
    try:
        subprocess.run(["nice", "-n", "15", *line], check=True)
    except FileNotFoundError:
        raise BuildError(f"{line[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{line[0]} failed with {error.returncode}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.llama_server", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    compiling = actions.add_parser("build", help="compile it into bench/.cache/")
    compiling.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    serving = actions.add_parser("serve", help="run it in the foreground")
    serving.add_argument("model", type=Path)
    serving.add_argument("--port", type=int, default=8080)
    serving.add_argument("--threads", type=int, default=2)
    serving.add_argument("--parallel", type=int, default=8)
    serving.add_argument("--ctx-size", type=int, default=8192)
    serving.add_argument("--variant", help="CPU library, e.g. haswell; default: our worker's")
    args, more = parser.parse_known_args(argv)
    try:
        if args.action == "build":
            build(args.jobs)
            return 0
        line, environment = command(
            args.model, args.port, args.threads, args.parallel, args.ctx_size, args.variant
        )
    except BuildError as error:
        print(f"llama_server: {error}", file=sys.stderr)
        return 1
    return os.execve(line[0], [*line, *more], {**os.environ, **environment})


if __name__ == "__main__":
    sys.exit(main())
