"""What bench.template_fidelity found, as text; pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from bench.conversations import BEYOND, CONVERSATIONS
from bench.differences import REASONS, Reason, reason

# What is between these is written by `put`.
BEGIN, END = "<!-- measured: bench.template_fidelity --write -->", "<!-- measured: end -->"
_CONTINUED = ("continue", "continue-thinking")


@dataclass(frozen=True, slots=True)
class Rendering:
    """One conversation through one template, on both sides; an error has no text."""

    template: str
    conversation: str
    ours: str | None
    theirs: str | None
    our_error: str = ""
    their_error: str = ""

    @property
    def same(self) -> bool:
        """Whether both made the same prompt, or neither made one."""
        return self.ours == self.theirs

    @property
    def why(self) -> Reason | None:
        """Why they differ; None: they do not, or nobody knows."""
        if self.same:
            return None
        return reason(self.template, self.conversation, self.ours, self.theirs)


def table(found: Sequence[Rendering]) -> str:
    """What differs, by reason and by conversation, and the count."""
    differing = [one for one in found if not one.same]
    lines = ["| why | renderings | templates |", "|---|---|---|"]
    for why in [*REASONS, None]:
        of_it = [one for one in differing if one.why is why]
        if of_it:
            names = ", ".join(sorted({one.template for one in of_it}))
            lines.append(f"| {why.name if why else 'UNEXPLAINED'} | {len(of_it)} | {names} |")
    lines += ["", "| conversation | identical |", "|---|---|"]
    for name in dict.fromkeys(one.conversation for one in found):
        of_it = [one for one in found if one.conversation == name]
        lines.append(f"| {name} | {_share(of_it)} |")
    neither = sum(one.ours is None and one.theirs is None for one in found)
    usual = [one for one in found if one.conversation not in BEYOND]
    lines += [
        "",
        f"identical: {_share(found)}; of these {neither} that neither renders",
        f"where llama-server renders all that was said: {_share(_whole(found))}",
        f"conversations that everybody has: {_share(usual)}",
        f"of these, where llama-server renders all that was said: {_share(_whole(usual))}",
    ]
    return "\n".join(lines)


def _whole(found: Sequence[Rendering]) -> list[Rendering]:
    return [one for one in found if one.why is None or not (one.why.lost or one.why.fails)]


def _share(found: Sequence[Rendering]) -> str:
    same = sum(one.same for one in found)
    return f"{same} of {len(found)} ({100 * same / max(len(found), 1):.1f} %)"


def difference(one: Rendering) -> str:
    """What to read when two prompts are not the same."""
    title = f"=== {one.template}: {one.conversation}"
    if one.ours is None or one.theirs is None:
        return (
            f"{title}\nours: {one.our_error or 'rendered'}\ntheirs: {one.their_error or 'rendered'}"
        )
    mine, other = one.ours.splitlines(keepends=True), one.theirs.splitlines(keepends=True)
    changes = difflib.unified_diff(
        [repr(line) for line in other], [repr(line) for line in mine], "theirs", "ours", "", "", 1
    )
    return "\n".join([title, *(change.rstrip("\n") for change in changes)])


def section(found: Sequence[Rendering]) -> str:
    """The figures and the reasons for a page, as Markdown."""
    usual = [one for one in found if one.conversation not in BEYOND]
    continued = [one for one in found if one.conversation in _CONTINUED]
    names = {one.conversation for one in found}
    common = (
        "what everybody sends: plain, system, several turns, tools, calls and results, thinking on "
        f"and off ({len(names - BEYOND)} of the {len(CONVERSATIONS)})"
    )
    more = (
        f"all {len(names)}, so also parts, `developer`, several calls, documents, effort, no "
        "generation prompt, continued turns, the default of thinking"
    )
    lines = [
        "| | identical |",
        "|---|---|",
        f"| {common} | {_share(usual)} |",
        f"| of these, where llama-server renders all that was said | **{_share(_whole(usual))}** |",
        f"| {more} | {_share(found)} |",
        f"| of these, where llama-server renders all that was said | {_share(_whole(found))} |",
        f"| continued turns alone | {_share(continued)} |",
        "",
        "| why | renderings | of what everybody sends | what is different |",
        "|---|---|---|---|",
    ]
    for why in REASONS:
        count, of_usual = (sum(one.why is why for one in some) for some in (found, usual))
        if count:
            lines.append(f"| {why.name} | {count} | {of_usual or ''} | {why.text} |")
    return "\n".join(lines)


def put(page: str, text: str) -> str:
    """The page with the text between its marks. Raises ValueError without marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no marks: {BEGIN}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"
