"""Settings of a command: flag, then environment, then `--config FILE` (YAML), then default.

A command declares one subclass of `Settings`; every field is a flag (`--ctx-size`), a variable
(`LLAMA_CTX_SIZE`) and a key of the file (`ctx_size`), with its default and its meaning in one
place. Unknown flags and unknown keys of the file are errors; of unknown variables, which may be
somebody else's, the log warns.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import Action, ArgumentParser
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self, get_args

import structlog
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from common import settings_file
from common.version import VERSION

_log = structlog.get_logger()

# What a command that was started wrongly exits with; a supervisor does not restart it.
EXIT_CONFIG = 2


class ConfigError(Exception):
    """The settings are wrong; the message is one line for the person who started the command."""


def split(value: Any) -> Any:
    """What a setting that is a list was given as, as a list: `a,b`, or several of such texts."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, Sequence):
        return [
            part for item in value for part in (split(item) if isinstance(item, str) else [item])
        ]
    return value


# A list given as repeated flags, or comma-separated in one flag or variable, or as a YAML list.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]


class Settings(BaseSettings):
    """Base of a command's settings."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_show_env_vars=True,
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        protected_namespaces=(),
    )

    config: Path | None = Field(default=None, description="YAML file with settings.")

    @field_validator("*", mode="before")
    @classmethod
    def _switches_are_no_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML's `yes` and `on` would be 1.
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and {int, float} & {kind, *get_args(kind)}:
            raise ValueError("Input should be a number, and is yes or no")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Orders the sources; the command line goes before these by itself."""
        del dotenv_settings, file_secret_settings
        path = _config_path(settings_cls)
        if path is None:
            return init_settings, env_settings
        try:
            found = settings_file.read(path, settings_cls.model_fields)
        except settings_file.FileError as error:
            raise ConfigError(f"--config {path}: {error}") from None
        return init_settings, env_settings, InitSettingsSource(settings_cls, found)

    @classmethod
    def read(cls, prog: str, argv: Sequence[str] | None = None) -> Self:
        """Reads all sources. Raises ConfigError; exits 0 after `--help` and `--version`."""
        args = list(sys.argv[1:] if argv is None else argv)
        _ARGV[cls] = args
        try:
            flags: CliSettingsSource[Any] = CliSettingsSource(
                cls,
                cli_prog_name=prog,
                cli_exit_on_error=False,
                add_argument_method=_add_flag,
            )
            flags.root_parser.add_argument(
                "--version", action="version", version=f"{prog} {VERSION}"
            )
            sources: dict[str, Any] = {"_cli_settings_source": flags(args=args)}
            return cls(**sources)
        except ValidationError as error:
            raise ConfigError(_one_line(error)) from None
        except (OSError, ValueError) as error:
            raise ConfigError(_plainly(str(error), _flags(cls))) from None
        except SystemExit as error:
            if error.code in (0, None):
                raise
            raise ConfigError(f"wrong arguments; see {prog} --help") from None
        finally:
            _ARGV.pop(cls, None)

    def warn_of_variables(self) -> None:
        """Logs the variables that look like settings and are none. For when the log is set up."""
        prefix = str(self.model_config.get("env_prefix", ""))
        known = {f"{prefix}{name}".upper() for name in type(self).model_fields}
        for name in sorted(os.environ):
            if prefix and name.upper().startswith(prefix) and name.upper() not in known:
                meant = {"meant": near} if (near := settings_file.near(name.upper(), known)) else {}
                _log.warning("a variable of this name is no setting", variable=name, **meant)


# The arguments that `read` is looking at: the file's name is needed before the file's source.
_ARGV: dict[type[BaseSettings], list[str]] = {}


def _config_path(cls: type[BaseSettings]) -> Path | None:
    args = _ARGV.get(cls, [])
    for at, arg in enumerate(args):
        if arg == "--config" and at + 1 < len(args):
            return _existing(args[at + 1])
        if arg.startswith("--config="):
            return _existing(arg.removeprefix("--config="))
    from_env = os.environ.get(f"{cls.model_config.get('env_prefix', '')}CONFIG")
    return _existing(from_env) if from_env else None


# What follows a flag in the help text, by its type; else it is the last word of the flag's name.
_WORDS: Final = {"int": "N", "float": "NUMBER", "Path": "FILE"}
_SECONDS: Final = frozenset({"timeout", "interval", "grace", "delay", "deadline", "unload", "ttl"})
# Defaults of which there is nothing to say.
_NOTHING: Final = ("None", "()", "")
_UNKNOWN_FLAG: Final = re.compile(r"unrecognized arguments: (--[^\s=]+)")


def _add_flag(parser: ArgumentParser, *names: str, **options: Any) -> Action:
    if "metavar" in options:
        options["metavar"] = _word(names[-1], str(options["metavar"]))
    for nothing in _NOTHING:
        options["help"] = str(options.get("help") or "").replace(f" (default: {nothing})", "")
    return parser.add_argument(*names, **options)


def _word(flag: str, kind: str) -> str:
    """A word for what a flag takes: types are Python's own names."""
    last = flag.rsplit("-", 1)[-1]
    if kind.startswith("{"):
        return kind
    if kind == "float" and last in _SECONDS:
        return "SECONDS"
    return _WORDS.get(kind, last.upper())


def _existing(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        raise ConfigError(f"--config {name}: a directory, not a file")
    if not path.exists():  # a pipe will do: `--config <(…)`
        raise ConfigError(f"--config {name}: no such file")
    return path


def _flags(cls: type[BaseSettings]) -> list[str]:
    """Every flag that there is, as it is written."""
    found = []
    for name, field in cls.model_fields.items():
        flag = name.replace("_", "-")
        found += [f"--{flag}", f"--no-{flag}"] if field.annotation is bool else [f"--{flag}"]
    return found


def _plainly(said: str, flags: Collection[str]) -> str:
    """What argparse says of the command line, in one line, as the file's errors are said."""
    said = " ".join(said.split()).removeprefix("error parsing CLI: ")
    unknown = _UNKNOWN_FLAG.match(said)
    if unknown is None:
        return said
    meant = settings_file.near(unknown[1], flags)
    return f"{unknown[1]}: there is no such flag" + (f"; did you mean {meant}?" if meant else "")


def _one_line(error: ValidationError) -> str:
    parts = []
    for item in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in item["loc"])
        flag = f"--{name.replace('_', '-')}: " if name else ""
        # What a validator says is a sentence of its own.
        said = item["msg"].removeprefix("Value error, ")
        parts.append(f"{flag}{'it is required' if item['type'] == 'missing' else said}")
    return "; ".join(parts)
