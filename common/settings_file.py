"""A file of settings: one YAML mapping of names to values, without surprises."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml


class FileError(Exception):
    """The file is wrong; the message is one line about it."""


def read(path: Path, known: Collection[str]) -> dict[str, Any]:
    """The settings that the file names, of those that are known. Raises FileError."""
    try:
        found = _Loader(path.read_text("utf-8")).get_single_data()
    except (OSError, UnicodeError, ValueError, yaml.YAMLError) as error:
        raise FileError(" ".join(str(error).split())) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise FileError(
            f"expected `name: value` lines, but it is {_KINDS.get(type(found), 'a value')}"
        )
    for name in found:
        if name not in known:
            meant = near(str(name), known)
            raise FileError(
                f"{name}: there is no such setting" + (f"; did you mean {meant}?" if meant else "")
            )
    return found


def near(name: str, known: Collection[str]) -> str | None:
    """The name that was probably meant, if one is."""
    return next(iter(difflib.get_close_matches(name, known, 1, cutoff=0.75)), None)


_KINDS: dict[type, str] = {list: "a list", str: "a text"}


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        lines: dict[str, int] = {}
        for key in keys:
            line = key.start_mark.line + 1
            if key.value in lines:
                raise FileError(f"{key.value}: given twice, in lines {lines[key.value]} and {line}")
            lines[key.value] = line
        return super().construct_mapping(node, deep)
