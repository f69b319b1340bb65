"""What models of each family write, and what it means: made up from their templates and documents."""

from __future__ import annotations

from tests.llama.formats import cases_inside, cases_newer, cases_outside, cases_tagged
from tests.llama.formats.kit import CASES, PARIS, TOOLS, Case, T, W
from tests.llama.formats.kit import ROME as _ROME
from tests.llama.formats.written import WRITTEN

__all__ = ["CASES", "PARIS", "TOOLS", "WRITTEN", "Case"]
# Imported for the cases they add.
assert all((cases_inside, cases_newer, cases_outside, cases_tagged))

# Every family: nothing special.
for name in sorted(set(WRITTEN) - {"harmony", "functionary-v3.2", "solar-open", "muse-glimmer"}):
    CASES += [
        Case(name, "Hello, world!", content="Hello, world!"),
        Case(name, "  a\n\n b  \n", content="  a\n\n b  \n"),
        Case(name, "1 < 2 [x] {y} | z", content="1 < 2 [x] {y} | z"),
        Case(name, "", content=""),
        Case(name, "\n", content="\n"),
    ]


def _ids(family: str, name: str, at: int) -> tuple[str, ...]:
    return {
        "mistral-ids": ("abcdef123",),
        "kimi-k2": (f"functions.{name}:{at}",),
        "solar-open": (f"{'ab'[at]}1b2c3d4e5",),
    }.get(family, ())


CASES += [
    Case(
        family,
        text,
        calls=tuple(
            (name, args, *_ids(family, name, at))
            for at, (name, args) in enumerate(((W, _ROME), (T, "{}")))
            if at == 0 or family not in {"gigachat", "gigachat-v3", "harmony", "llama3"}
        ),
    )
    for family, text in WRITTEN.items()
]
