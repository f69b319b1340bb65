"""Where settings come from, which goes first, and how a wrong one is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest
import structlog
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.settings import ConfigError, Names, Settings
from common.version import VERSION


class Demo(Settings):
    """Settings for these tests."""

    model_config = SettingsConfigDict(env_prefix="DEMO_")

    ctx_size: int = Field(default=1, ge=1)
    """Size of the context."""

    worker: Names = ()
    """Addresses."""

    idle_timeout: float = 1.0
    """Seconds."""

    scale: float | None = None
    """A factor."""

    level: Literal["low", "high"] = "low"
    """One of two."""

    reflection: bool = True
    """A switch."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text("ctx_size: 2\nworker: [a, b]\n")
    return path


def test_defaults():
    settings = Demo.read("demo", [])

    assert (settings.ctx_size, settings.worker, settings.reflection) == (1, (), True)


def test_flag_then_environment_then_file(file: Path, monkeypatch: pytest.MonkeyPatch):
    assert Demo.read("demo", ["--config", str(file)]).ctx_size == 2
    monkeypatch.setenv("DEMO_CTX_SIZE", "3")
    assert Demo.read("demo", ["--config", str(file)]).ctx_size == 3
    assert Demo.read("demo", [f"--config={file}", "--ctx-size", "4"]).ctx_size == 4


def test_the_file_can_be_named_by_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEMO_CONFIG", str(file))

    assert Demo.read("demo", []).worker == ("a", "b")


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEMO_CTX_SIZE", "")

    assert Demo.read("demo", []).ctx_size == 1


@pytest.mark.parametrize(
    "args", [["--worker", "a", "--worker", "b"], ["--worker", "a,b"], ["--worker=a, b,"]]
)
def test_lists_are_repeated_or_separated_by_commas(args: list[str]):
    assert Demo.read("demo", args).worker == ("a", "b")


def test_lists_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEMO_WORKER", "a,b")

    assert Demo.read("demo", []).worker == ("a", "b")


def test_switches():
    assert Demo.read("demo", ["--no-reflection"]).reflection is False
    assert Demo.read("demo", ["--reflection"]).reflection is True


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--ctx-size", "0"], "--ctx-size: Input should be greater than or equal to 1"),
        (["--ctx-size", "x"], "--ctx-size: Input should be a valid integer"),
        (["--ctx-sice", "1"], "--ctx-sice: there is no such flag; did you mean --ctx-size?"),
        (["--ctx-sice=1"], "--ctx-sice: there is no such flag; did you mean --ctx-size?"),
        (["--no-reflektion"], "there is no such flag; did you mean --no-reflection?"),
        (["--colour", "red"], "--colour: there is no such flag"),
        (["--ctx-size"], "argument --ctx-size: expected one argument"),
        (["stray"], "unrecognized arguments: stray"),
        (["--config", "/"], "--config /: a directory, not a file"),
        (["--config", "/no/such.yaml"], "no such file"),
    ],
)
def test_a_wrong_setting_is_one_line(args: list[str], said: str):
    with pytest.raises(ConfigError) as caught:
        Demo.read("demo", args)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "CLI" not in str(caught.value)


def test_a_setting_that_is_missing_is_named():
    class Needy(Demo):
        model: str

    with pytest.raises(ConfigError, match=r"^--model: it is required$"):
        Needy.read("demo", [])


def test_a_pipe_is_a_file():
    reading, writing = os.pipe()
    try:
        os.write(writing, b"ctx_size: 7\n")
        os.close(writing)
        assert Demo.read("demo", ["--config", f"/dev/fd/{reading}"]).ctx_size == 7
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ctx_sice: 1\n", "ctx_sice: there is no such setting; did you mean ctx_size?"),
        ("ctx-size: 1\n", "ctx-size: there is no such setting; did you mean ctx_size?"),
        ("colour: 1\n", "colour: there is no such setting"),
        ("1: 1\n", "1: there is no such setting"),
        ("ctx_size: [\n", "parsing"),
        ("? [a]\n: 1\n", "unhashable"),
        ("- a\n- b\n", "expected `name: value` lines, but it is a list"),
        ("ctx_size\n", "expected `name: value` lines, but it is a text"),
        ("7\n", "expected `name: value` lines, but it is a value"),
        ("ctx_size: 1\nscale: 2\nctx_size: 3\n", "ctx_size: given twice, in lines 1 and 3"),
        ("{scale: 1, scale: 2}\n", "scale: given twice, in lines 1 and 1"),
        ("a: 1\n---\nb: 1\n", "single document"),
        ("ctx_size: 2001-99-99\n", "month"),
    ],
)
def test_a_wrong_file_is_one_line(file: Path, text: str, said: str):
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        Demo.read("demo", ["--config", str(file)])

    assert str(caught.value).startswith(f"--config {file}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ctx_size", "scale"])
def test_a_switch_is_no_number(file: Path, name: str):
    file.write_text(f"{name}: yes\n")

    with pytest.raises(ConfigError, match=f"^--{name.replace('_', '-')}: .*a number"):
        Demo.read("demo", ["--config", str(file)])


def test_a_file_that_is_no_text_is_one_line(file: Path):
    file.write_bytes(b"ctx_size: \xff\n")

    with pytest.raises(ConfigError, match=f"--config {file}: .*utf-8"):
        Demo.read("demo", ["--config", str(file)])


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n"])
def test_a_file_may_say_nothing(file: Path, text: str):
    file.write_text(text)

    assert Demo.read("demo", ["--config", str(file)]).ctx_size == 1


def test_variables_that_are_no_settings_are_told_of(monkeypatch: pytest.MonkeyPatch):
    for name in ("DEMO_CTX_SICE", "DEMO_COLOUR", "DEMO_CTX_SIZE", "DEMO_CONFIG", "OTHER_CTX"):
        monkeypatch.setenv(name, "")
    settings = Demo.read("demo", [])

    with structlog.testing.capture_logs() as logs:
        settings.warn_of_variables()

    assert [(each["variable"], each.get("meant")) for each in logs] == [
        ("DEMO_COLOUR", None),
        ("DEMO_CTX_SICE", "DEMO_CTX_SIZE"),
    ]
    assert {each["log_level"] for each in logs} == {"warning"}


def test_help_says_what_each_flag_is(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        Demo.read("demo", ["--help"])

    assert caught.value.code == 0
    assert "Size of the context." in capsys.readouterr().out


def test_help_speaks_no_python(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        Demo.read("demo", ["--help"])

    said = capsys.readouterr().out
    for line in (
        "--config FILE",
        "--ctx-size N",
        "--worker WORKER",
        "--idle-timeout SECONDS",
        "--scale NUMBER",
        "--level {low,high}",
        "--reflection, --no-reflection",
        "DEMO_CTX_SIZE",
    ):
        assert line in said
    for word in ("tuple", "int ", "float", "str ", "None", "()"):
        assert word not in said


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        Demo.read("demo", ["--config", "/no/such.yaml", "--ctx-size", "x", "--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"demo {VERSION}\n"


def test_help_lists_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        Demo.read("demo", ["--help"])

    assert "--version" in capsys.readouterr().out
