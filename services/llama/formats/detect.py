"""Which format a model writes: by the source of its chat template and its special tokens."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from services.llama.formats.description import Format, Reasoning
from services.llama.formats.families import FAMILIES, GENERIC

# Marks of reasoning that any family's template may have beside its calls.
_REASONING = (
    Reasoning(),
    Reasoning("<thinking>", "</thinking>"),
    Reasoning("[THINK]", "[/THINK]"),
    Reasoning("<seed:think>", "</seed:think>"),
    Reasoning("<thought>", "</thought>"),
    Reasoning("<reasoning>", "</reasoning>"),
    Reasoning("<mm:think>", "</mm:think>"),
    Reasoning("◁think▷", "◁/think▷"),
)
_BY_NAME = {family.name: family for family in FAMILIES}


def names() -> list[str]:
    """The formats that can be asked for by name."""
    return sorted(_BY_NAME)


def by_name(name: str) -> Format:
    """Raises KeyError for one that is not known."""
    return _BY_NAME[name]


def detect(template: str, special: Collection[str] = ()) -> Format:
    """The format that a template shows; the generic one if it shows none.

    `special` are the texts of the special tokens.
    """
    family = next((each for each in FAMILIES if _fits(each, template, special)), GENERIC)
    if family.channels is not None:
        return family
    more = tuple(
        pair
        for pair in _REASONING
        if pair.open in template and pair.open not in {own.open for own in family.reasoning}
    )
    return replace(family, reasoning=(*family.reasoning, *more)) if more else family


def _fits(family: Format, template: str, special: Collection[str]) -> bool:
    return any(all(_stands(text, template, special) for text in signs) for signs in family.signs)


def _stands(text: str, template: str, special: Collection[str]) -> bool:
    if text.startswith("!"):
        return not _stands(text[1:], template, special)
    return text in template or text in special
