"""Which CPU backend is loaded: the best that survives a trial, and the answer is remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from services.llama.runtime import libs
from services.worker.backend import SettingError

SCORES = {"amx": 99, "avx512": 50, "avx2": 20, "later": 0}


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A wheel with four variants: `amx` claims to be the best and dies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lib = tmp_path / "site" / "llama_cpp" / "lib"
    lib.mkdir(parents=True)
    (lib / "libggml.so.0").touch()
    (tmp_path / "site" / "bin").mkdir()
    for name in SCORES:
        (tmp_path / "site" / "bin" / f"libggml-cpu-{name}.so").touch()
    probed: list[str] = []
    loaded: list[str] = []

    def survives(libggml, backend):
        probed.append(backend.stem.removeprefix("libggml-cpu-"))
        return probed[-1] != "amx"

    def load(libggml, path):
        loaded.append(path.stem)
        return True

    monkeypatch.setattr(libs, "_survives", survives)
    monkeypatch.setattr(
        libs,
        "_by_score",
        lambda libggml, variants: sorted(
            (n for n in variants if SCORES[n]), key=lambda n: -SCORES[n]
        ),
    )
    monkeypatch.setattr(libs, "_load", load)
    return lib, probed, loaded


def test_the_best_that_survives_is_loaded(wheel):
    lib, probed, loaded = wheel
    assert libs.load_backends(lib, "auto") == "avx512"
    assert probed == ["amx", "avx512"]
    assert loaded == ["libggml-cpu-avx512"]


def test_the_answer_is_remembered(wheel):
    lib, probed, _ = wheel
    libs.load_backends(lib, "auto")
    probed.clear()
    assert libs.load_backends(lib, "auto") == "avx512"
    assert probed == []


def test_another_wheel_is_probed_again(wheel):
    lib, probed, _ = wheel
    libs.load_backends(lib, "auto")
    probed.clear()
    (lib.parent.parent / "bin" / "libggml-cpu-avx2.so").write_text("changed")
    libs.load_backends(lib, "auto")
    assert probed == ["amx", "avx512"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_cache_is_ignored(wheel, tmp_path, content):
    lib, _, _ = wheel
    libs.load_backends(lib, "auto")
    cache = tmp_path / "cache" / "caravan" / "cpu-variant.json"
    assert "avx512" in json.loads(cache.read_text()).values()
    cache.write_text(content)
    assert libs.load_backends(lib, "auto") == "avx512"


def test_the_operators_choice_is_not_probed(wheel):
    lib, probed, loaded = wheel
    assert libs.load_backends(lib, "avx2") == "avx2"
    assert probed == []
    assert loaded == ["libggml-cpu-avx2"]


def test_a_variant_that_does_not_exist(wheel):
    with pytest.raises(SettingError, match="there are amx, avx2, avx512, later"):
        libs.load_backends(wheel[0], "sse9")


def test_gpu_backends_are_loaded_beside_it(wheel):
    lib, _, loaded = wheel
    (lib.parent.parent / "bin" / "libggml-cuda.so").touch()
    libs.load_backends(lib, "auto")
    assert loaded == ["libggml-cpu-avx512", "libggml-cuda"]


def test_a_wheel_with_its_backends_linked_in(tmp_path):
    assert libs.load_backends(tmp_path, "auto") == "static"
    with pytest.raises(SettingError, match="linked in"):
        libs.load_backends(tmp_path, "avx2")


def test_a_process_without_the_bindings_finds_the_same_variant(tmp_path):
    spec = find_spec("llama_cpp")
    assert spec is not None
    lib_dir = Path(str(spec.origin)).parent / "lib"
    program = (
        "import sys; from pathlib import Path; from services.llama.runtime.libs import load_backends;"
        "print(load_backends(Path(sys.argv[1]), 'auto'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(lib_dir)],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1]
