"""`--version`: every command says which one it is, whatever else is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from common.settings import EXIT_CONFIG
from common.version import VERSION

ROOT = Path(__file__).parents[2]


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("edge", "--port", "70000"), "caravan-edge"),
        (("services.llama", "--model", "/no/such.gguf"), "caravan-llama"),
        (("services.llama",), "caravan-llama"),
        (("edge.access",), "python -m edge.access"),
        (("deploy.up",), "caravan"),
    ],
)
def test_it_is_said_and_nothing_else_is_done(command: tuple[str, ...], name: str):
    wrong = {"EDGE_WORKER": "nonsense", "LLAMA_CONFIG": "/no/such.yaml", "PORT": "nonsense"}
    done = run(*command, "--version", **wrong)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name} {VERSION}\n", "")


def test_a_worker_says_it_without_llama():
    code = "import sys, services.llama.__main__; sys.exit('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_make_up_is_told_nothing_but_by_variables():
    done = run("deploy.up", "--port", "9000")
    assert done.returncode == EXIT_CONFIG
    assert "unrecognized arguments: --port 9000" in done.stderr
