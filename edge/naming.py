"""Other names of models, which an operator gives: `NAME=MODEL`, `*` in a name is any text. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# Of a name that a pattern is tried on: several `*` take time that grows with its powers.
_LONGEST: Final = 256


@dataclass(frozen=True, slots=True)
class Naming:
    """`patterns` are tried in the order given, where no exact name fits."""

    exact: dict[str, str]
    patterns: tuple[tuple[re.Pattern[str], str], ...]

    def resolve(self, name: str, served: Collection[str]) -> str:
        """The model that is meant: one that is served goes by its own name; unknown names stay."""
        if name in served:
            return name
        if name in self.exact:
            return self.exact[name]
        if len(name) > _LONGEST:
            return name
        return next((model for known, model in self.patterns if known.fullmatch(name)), name)


@lru_cache(maxsize=8)
def naming(aliases: tuple[str, ...]) -> Naming:
    """Of settings. Raises ValueError with a line for the operator."""
    exact: dict[str, str] = {}
    patterns: list[tuple[re.Pattern[str], str]] = []
    for alias in aliases:
        name, equals, model = alias.partition("=")
        if not (name and equals and model):
            raise ValueError(f"{alias!r} is no alias; expected NAME=MODEL")
        if "*" in name:
            patterns.append((re.compile(".*".join(map(re.escape, name.split("*")))), model))
        elif name in exact:
            raise ValueError(f"{name!r} has two models")
        else:
            exact[name] = model
    return Naming(exact, tuple(patterns))
