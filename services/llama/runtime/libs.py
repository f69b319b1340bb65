"""Finds, chooses and loads the compute backends, once per process, before any model.

A wheel built with GGML_BACKEND_DL carries one CPU library per instruction set (and maybe CUDA or
Vulkan) that nothing loads by itself. Other wheels have their backends linked in: then there is
nothing to do. Of the CPU libraries the best that survives `probe.py` is taken; the answer is
cached per CPU and wheel, because probing takes a second.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from services.llama.runtime import probe
from services.worker.backend import SettingError, StartupError

_PROBE_SECONDS = 30
_GPU_BACKENDS = ("cuda", "vulkan", "hip", "sycl", "musa", "opencl")

_log = structlog.get_logger()


def load_backends(lib_dir: Path, wanted: str) -> str:
    """Loads the CPU backend `wanted` (`auto`: the best that runs) and those of GPUs.

    `lib_dir` is where libllama lies. Returns the CPU variant in use; `static` where it is linked
    in. Raises StartupError when none runs or there is no such variant.
    """
    libggml = _loaded_libggml(lib_dir)
    variants = {
        path.stem.removeprefix("libggml-cpu-"): path for path in _libraries(lib_dir, "cpu-*")
    }
    if libggml is None or not variants:
        if wanted not in ("auto", "static"):
            raise SettingError(f"--cpu-variant {wanted}: this build has its CPU code linked in")
        return "static"
    variant = _best(libggml, variants) if wanted == "auto" else wanted
    if variant not in variants:
        raise SettingError(f"--cpu-variant {wanted}: there are {', '.join(sorted(variants))}")
    if not _load(libggml, variants[variant]):
        raise SettingError(f"--cpu-variant {variant}: this CPU cannot run it")
    for name in _GPU_BACKENDS:
        for path in _libraries(lib_dir, name):
            if not _load(libggml, path):
                _log.warning("GPU backend does not load", backend=name)
    return variant


def _libraries(lib_dir: Path, name: str) -> list[Path]:
    places = (lib_dir, lib_dir.parent.parent / "bin")
    return sorted(path for place in places for path in place.glob(f"libggml-{name}.so"))


def _loaded_libggml(lib_dir: Path) -> Path | None:
    """The file that libllama itself loaded.

    `libggml.so` beside it is a copy with a registry of its own: a backend loaded through that
    one ends in a segmentation fault later.
    """
    path = lib_dir / "libggml.so.0"
    return path if path.exists() else None


def _load(libggml: Path, backend: Path) -> bool:
    load = ctypes.CDLL(str(libggml)).ggml_backend_load
    load.restype, load.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    return bool(load(os.fsencode(backend)))


def _best(libggml: Path, variants: dict[str, Path]) -> str:
    cache = _cache_dir() / "cpu-variant.json"
    key = _cache_key(variants)
    remembered = _read_cache(cache).get(key)
    if remembered in variants:
        return remembered
    for variant in _by_score(libggml, variants):
        if _survives(libggml, variants[variant]):
            _write_cache(cache, key, variant)
            return variant
    raise StartupError("no CPU backend of llama-cpp-python runs on this machine")


def _by_score(libggml: Path, variants: dict[str, Path]) -> Sequence[str]:
    """Variants that claim to run here, best first, by their own reading of the CPU."""
    scores: dict[str, int] = {}
    # They name libggml-base by its soname only: it is found once libggml has brought it in.
    ctypes.CDLL(str(libggml))
    for name, path in variants.items():
        try:
            score: int = ctypes.CDLL(str(path)).ggml_backend_score()
        except (OSError, AttributeError):
            continue
        if score > 0:
            scores[name] = score
    return sorted(scores, key=lambda name: (-scores[name], name))


def _survives(libggml: Path, backend: Path) -> bool:
    command = [sys.executable, probe.__file__, str(libggml), str(backend)]
    try:
        child = subprocess.run(  # noqa: S603 -- our own script and the wheel's files
            command, capture_output=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    if child.returncode != 0:
        _log.info("CPU variant does not run here", library=backend.name, code=child.returncode)
    return child.returncode == 0


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "caravan"


def _cache_key(variants: dict[str, Path]) -> str:
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(variants.values())]
    # The kernel decides whether AMX is usable: another kernel, another answer.
    facts = [_cpu_flags(), platform.machine(), platform.release(), files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _cpu_flags() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return [platform.processor()]
    wanted = ("model name", "flags", "Features", "CPU part")
    lines = {line for line in text.splitlines() if line.startswith(wanted)}
    return sorted(lines)


def _read_cache(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_cache(path: Path, key: str, variant: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        # Several wheels on one machine each keep their answer.
        partial.write_text(json.dumps({**_read_cache(path), key: variant}))
        partial.replace(path)
    except OSError as error:  # a read-only home costs a second at every start, no more
        _log.debug("CPU variant not cached", error=str(error))
