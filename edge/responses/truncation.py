"""`truncation: auto`: which of the oldest items go, so that the rest fits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.responses.item_models import (
    FunctionCallItem,
    FunctionCallOutputItem,
    PlainItem,
    ReasoningItem,
    SystemItem,
    UserItem,
)

# A bit less than what should fit: characters are not tokens.
_MARGIN = 0.95


@dataclass(slots=True)
class _Unit:
    """Items that stand or fall together, by their places."""

    places: list[int]
    size: int
    user: bool
    stays: bool


def room(context_length: int, max_output_tokens: int | None) -> int:
    """Tokens that a prompt may have, so that there is some room for the answer."""
    wanted = max_output_tokens or context_length // 4
    return context_length - max(1, min(wanted, context_length // 2))


def shorter(items: Sequence[PlainItem], tokens: int, limit: int) -> list[PlainItem] | None:
    """Without the oldest, where all of them have `tokens` and may have `limit`.

    Instructions stay, and so do the last message of the user and what is last. A call goes with
    its output. None: nothing can go.
    """
    units = _units(items)
    keep = sum(unit.size for unit in units) * limit / max(tokens, 1) * _MARGIN
    size = sum(unit.size for unit in units)
    gone: set[int] = set()
    began = False
    for unit in units:
        if unit.stays:
            began = began or unit.user
            continue
        # What is left begins with a user: many templates want it so.
        if gone and size <= keep and (unit.user or began):
            break
        gone.update(unit.places)
        size -= unit.size
    if not gone:
        return None
    return [item for place, item in enumerate(items) if place not in gone]


def _units(items: Sequence[PlainItem]) -> list[_Unit]:
    units: list[_Unit] = []
    calls: dict[str, _Unit] = {}
    thoughts: list[int] = []
    for place, item in enumerate(items):
        size = len(item.model_dump_json())
        if isinstance(item, FunctionCallOutputItem) and item.call_id in calls:
            unit = calls[item.call_id]
            unit.places.append(place)
            unit.size += size
            continue
        if isinstance(item, ReasoningItem):
            thoughts.append(place)
            continue
        size += sum(len(items[at].model_dump_json()) for at in thoughts)
        unit = _Unit(
            [*thoughts, place], size, isinstance(item, UserItem), isinstance(item, SystemItem)
        )
        thoughts = []
        units.append(unit)
        if isinstance(item, FunctionCallItem):
            calls[item.call_id] = unit
    for unit in (*units[-1:], *[unit for unit in units if unit.user][-1:]):
        unit.stays = True
    return units
