"""Which texts mean something in a format."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from services.llama.formats import heads
from services.llama.formats.description import (
    Body,
    Calls,
    Channels,
    Elements,
    Format,
    Literals,
    Outside,
    Reasoning,
    Tagged,
)


@lru_cache(maxsize=256)
def openings(family: Format) -> dict[str, Calls]:
    """The markers that calls may begin with, and what they are markers of."""
    found: dict[str, Calls] = {}
    for calls in family.calls:
        for text in (calls.open.strip(), calls.call_open.strip()):
            if text:
                found.setdefault(text, calls)
    return found


@lru_cache(maxsize=256)
def endings(calls: Calls) -> frozenset[str]:
    """What may follow a call and then means nothing more."""
    found = {calls.close, calls.call_close}
    for shape in calls.call:
        if isinstance(shape, Outside):
            found.update(shape.end)
    return frozenset(text.strip() for text in found) - {""}


@lru_cache(maxsize=256)
def stops(family: Format) -> frozenset[str]:
    """What ends arguments that are broken."""
    found = set(openings(family))
    for calls in family.calls:
        found |= endings(calls)
    if family.channels is not None:
        found.update(family.channels.start, family.channels.ends)
    return frozenset(found)


def bare(family: Format) -> tuple[Calls, ...]:
    """The calls that have no marker."""
    return tuple(calls for calls in family.calls if not calls.open and not calls.call_open)


def reasoning_open(family: Format, prompt: str) -> Reasoning | None:
    """The reasoning that the prompt has opened and not closed."""
    for pair in family.reasoning:
        at = prompt.rfind(pair.open.strip())
        if at >= 0 and prompt.rfind(pair.close.strip()) < at:
            return pair
    return None


def wrapper_open(family: Format, prompt: str) -> str:
    """The end of what the prompt has put the answer into; "" if it has not."""
    ends = (end for begin, end in family.wrappers if prompt.rstrip().endswith(begin))
    return next(ends, "")


def behind_start(channels: Channels, prompt: str) -> str:
    """What the prompt has written of the message that it has begun."""
    places = [at + len(start) for start in channels.start if (at := prompt.rfind(start)) >= 0]
    return prompt[max(places) :] if places else ""


def every(family: Format, *, tools: bool = True, reasoning: bool = True) -> list[str]:
    """All texts with a meaning, those of calls and of reasoning where these are wanted."""
    found: list[str] = [text for pair in family.wrappers for text in pair]
    if reasoning:
        found += [text for pair in family.reasoning for text in (pair.open, pair.close)]
    if tools:
        for calls in family.calls:
            found += [calls.open, calls.close, calls.call_open, calls.call_close]
            for shape in calls.call:
                if isinstance(shape, Outside):
                    found += _outside(shape)
    if family.channels is not None:
        each = family.channels
        for head in (*each.content, *each.reasoning, *each.calls):
            found += heads.literals(head)
        found += [*each.start, *each.ends, *each.heads, each.open, each.close, *each.end]
        found += _body(each.body)
    return [text.strip() for text in found if text.strip()]


def _outside(shape: Outside) -> list[str]:
    found = [*shape.end]
    for head in shape.heads:
        found += heads.literals(head)
    return found + _body(shape.body)


def _body(body: Body) -> list[str]:
    found: list[str] = []
    if isinstance(body, Tagged):
        found.append(body.close)
        for head in body.parameter:
            found += heads.literals(head)
    elif isinstance(body, Elements):
        found.append(body.mark)
    elif isinstance(body, Literals):
        found += body.quotes
    return found


def kept(
    family: Format, special: Iterable[str], *, tools: bool = True, reasoning: bool = True
) -> frozenset[str]:
    """Of the texts of special tokens those that must stay in the text that a parser is given."""
    meant = every(family, tools=tools, reasoning=reasoning)
    return frozenset(token for token in special if token and any(token in text for text in meant))
