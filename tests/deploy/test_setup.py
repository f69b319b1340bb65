"""The set-up of the environment, without making one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

import pytest

from deploy import setup


@pytest.fixture
def made(monkeypatch):
    calls = []
    monkeypatch.setattr(setup, "make", lambda venv, stamp: calls.append(stamp))
    return calls


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Holds the lock; what it does, and its end, come when the second one says that it waits."""
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    doing: list[Callable[[], object]] = []
    said: list[str] = []

    def say(text):
        said.append(text)
        for step in doing:
            step()
        os.close(held)

    monkeypatch.setattr(setup, "say", say)
    yield doing
    assert said == ["another set-up is at work here: waiting for it"]


def test_what_another_one_made_meanwhile_is_not_made_again(tmp_path, made, other):
    stamp = tmp_path / "stamp"
    other.append(stamp.touch)
    setup.main(tmp_path / "venv", stamp)
    assert made == []


def test_what_another_one_did_not_finish_is_made(tmp_path, made, other):
    setup.main(tmp_path / "venv", tmp_path / "stamp")
    assert made == [tmp_path / "stamp"]


def test_alone_it_is_made_again_when_make_asks_for_it(tmp_path, made):
    (tmp_path / "stamp").touch()
    setup.main(tmp_path / "venv", tmp_path / "stamp")
    assert made == [tmp_path / "stamp"]
    # The lock is given back.
    setup.main(tmp_path / "venv", tmp_path / "stamp")
