"""The locks and the llama.cpp build, without building."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy import llama_wheel

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("edge", "worker", "dev")


def pins(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if match := re.match(r"([\w.-]+)==(\S+)", line):
            found.setdefault(match[1], set()).add(match[2])
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_a_hash_and_no_place(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    blocks = re.split(r"\n(?=\w)", text.strip())
    assert len(blocks) > 20
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert not re.search(r"://|--index|--find-links|file:", text)


def test_the_locks_agree():
    edge, worker, dev = map(pins, LOCKS)
    for small, large in ((edge, worker), (worker, dev)):
        assert {name: large.get(name) for name in small} == small


def test_llama_is_built_and_not_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"]["llama"]
    assert f"llama-cpp-python=={llama_wheel.VERSION}" in wanted
    for name in LOCKS:
        assert "llama-cpp-python" not in pins(name)
    # What it needs at run time is in the locks all the same.
    assert {"diskcache", "numpy", "jinja2", "typing-extensions"} <= set(pins("worker"))


def test_the_edge_has_nothing_of_the_models():
    assert not {"numpy", "jinja2", "huggingface-hub"} & set(pins("edge"))


def test_one_build_for_every_host_and_a_backend_added_for_a_gpu():
    plain = llama_wheel.cmake_flags("", "Linux", "x86_64")
    assert {"-DGGML_NATIVE=OFF", "-DGGML_BACKEND_DL=ON", "-DGGML_CPU_ALL_VARIANTS=ON"} <= set(plain)
    cuda = llama_wheel.cmake_flags("cuda", "Linux", "x86_64")
    assert set(cuda) - set(plain) == {"-DGGML_CUDA=ON"}
    assert "-DGGML_METAL=ON" in llama_wheel.cmake_flags("metal", "Darwin", "arm64")


def test_the_cache_tells_builds_apart():
    kinds = [("", "x86_64"), ("cuda", "x86_64"), ("vulkan", "x86_64")]
    keys = {
        llama_wheel.cache_key(llama_wheel.cmake_flags(gpu, "Linux", machine), "Linux", machine)
        for gpu, machine in kinds
    }
    assert len(keys) == len(kinds)


def run(env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "deploy" / "llama_wheel.py", *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_wheel_in_the_cache_is_copied_and_nothing_is_needed(tmp_path):
    here = (platform.system(), platform.machine())
    key = llama_wheel.cache_key(llama_wheel.cmake_flags("", *here), *here)
    (tmp_path / "cache" / key).mkdir(parents=True)
    name = f"llama_cpp_python-{llama_wheel.VERSION}-py3-none-any.whl"
    (tmp_path / "cache" / key / name).write_bytes(b"wheel")
    env = {"CARAVAN_WHEEL_CACHE": str(tmp_path / "cache"), "PATH": "", "GPU": ""}
    done = run(env, "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/out/{name}\n"
    assert (tmp_path / "out" / name).read_bytes() == b"wheel"


def test_without_a_compiler_it_says_what_to_install(tmp_path):
    done = run({"CARAVAN_WHEEL_CACHE": str(tmp_path), "PATH": ""})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("llama.cpp: needs a C++ compiler, cmake, make or ninja; ")
    assert line.endswith("apt-get install python3 python3-venv build-essential cmake")


def test_an_unknown_gpu_is_refused(tmp_path):
    done = run({"CARAVAN_WHEEL_CACHE": str(tmp_path), "PATH": "", "GPU": "rocm"})
    assert done.returncode == 2
    assert "GPU=rocm" in done.stderr


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("  [110/440] Building CXX object a.o", "25 % (110 of 440)"),
        ("[ 12%] Building CXX object a.o", "12 %"),
        ("*** Configuring CMake...", None),
    ],
)
def test_progress_of_ninja_and_of_make(line, progress):
    assert llama_wheel.progress_of(line) == progress


def test_make_refuses_an_unknown_gpu_before_it_does_anything():
    done = subprocess.run(
        ["make", "help", "GPU=rocm"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "GPU=rocm: not one of cuda, vulkan, metal" in done.stderr


def test_every_make_target_says_what_it_does():
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert targets is not None
    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in targets[1].split():
        assert f"make {target} " in done.stdout
