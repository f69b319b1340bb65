"""The phrasings of phrases.toml, on the side of training or of the evaluation."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("phrases.toml")


@cache
def table() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


@cache
def forms(name: str, *, held: bool = False) -> tuple[str, ...]:
    """The phrasings called name ("echo", "ask.capital"): those held out if asked for and there are any."""
    section: Any = table()
    for part in name.split("."):
        section = section[part]
    return tuple(section["held"] if held and "held" in section else section["train"])


def held_forms() -> set[str]:
    """Every held-out phrasing of a question."""
    sections = [section for name, section in table().items() if name != "follow"]
    sections += table()["ask"].values()
    return {form for section in sections for form in section.get("held", ())}
