"""Logs as a person and as a machine read them, from a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import logging, sys, structlog
from common import logs
logs.configure("demo", *sys.argv[1:])
structlog.get_logger().debug("quiet")
structlog.get_logger().info("loud", answer=42)
logging.getLogger("grpc").warning("from %s", "elsewhere")
logging.getLogger("grpc").info("chatter")
secret = "what the user said"
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("failed")
"""


def logged(*args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


def test_json_is_one_object_a_line():
    lines = [json.loads(line) for line in logged("info", "auto").splitlines()]

    assert [line["event"] for line in lines] == ["loud", "from elsewhere", "failed"]
    assert {line["service"] for line in lines} == {"demo"}
    assert lines[0]["answer"] == 42
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert "ZeroDivisionError" in lines[2]["exception"]


def test_text_is_for_people():
    said = logged("debug", "text")

    assert "quiet" in said
    assert "answer=42" in said
    assert "ZeroDivisionError" in said


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_local_variable_is_printed(form: str):
    assert "what the user said" not in logged("debug", form)


def test_the_level_is_kept():
    lines = [json.loads(line)["event"] for line in logged("error", "json").splitlines()]

    assert lines == ["failed"]
