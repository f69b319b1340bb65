"""What requests get that do not say how tokens are chosen: names, bounds, how it is written. Pure.

Names and meanings are those of the HTTP APIs, of OpenAI's and of what goes beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a parameter's value, both included; NaN is in none."""

    least: float
    most: float
    whole: bool = False

    def holds(self, value: object) -> bool:
        """Whether it is a number, and within."""
        if not isinstance(value, int if self.whole else int | float) or isinstance(value, bool):
            return False
        return self.least <= value <= self.most

    def __str__(self) -> str:
        kind = "an integer" if self.whole else "a number"
        return f"{kind} from {self.least:.10g} to {self.most:.10g}"


BOUNDS: Mapping[str, Bounds] = {
    "temperature": Bounds(0, 2),
    "top_p": Bounds(0, 1),
    "top_k": Bounds(0, _INT32, whole=True),
    "min_p": Bounds(0, 1),
    "typical_p": Bounds(0, 1),
    # Greater than 0, in single precision.
    "repetition_penalty": Bounds(1e-30, 1e30),
    "presence_penalty": Bounds(-2, 2),
    "frequency_penalty": Bounds(-2, 2),
    # Tokens back that the three look; -1 is the whole sequence, 0 switches them off.
    "repeat_last_n": Bounds(-1, _INT32, whole=True),
    "dry_multiplier": Bounds(0, 1e6),
    "dry_base": Bounds(1, 1e6),
    "dry_allowed_length": Bounds(0, _INT32, whole=True),
    # As repeat_last_n.
    "dry_penalty_last_n": Bounds(-1, _INT32, whole=True),
    "xtc_probability": Bounds(0, 1),
    "xtc_threshold": Bounds(0, 1),
    # 0 is off.
    "mirostat": Bounds(0, 2, whole=True),
    "mirostat_tau": Bounds(1e-6, 1e6),
    "mirostat_eta": Bounds(1e-6, 1e6),
}


def written(value: Any) -> Any:
    """A mapping as `KEY=VALUE` texts, the form in which flags and variables have it."""
    if isinstance(value, Mapping):
        return [f"{name}={number}" for name, number in value.items()]
    return value


def parse(pairs: Iterable[str]) -> dict[str, float]:
    """The numbers of `KEY=VALUE` texts by name. Raises ValueError with a line for the operator."""
    found: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals:
            raise ValueError(f"--sampling-defaults {pair}: write KEY=VALUE")
        bounds = BOUNDS.get(name)
        if bounds is None:
            known = ", ".join(BOUNDS)
            raise ValueError(f"--sampling-defaults {name}: not one of {known}")
        if name in found:
            raise ValueError(f"--sampling-defaults {name}: said twice")
        value = _number(text.strip(), whole=bounds.whole)
        if not bounds.holds(value):
            raise ValueError(f"--sampling-defaults {pair}: {name} is {bounds}")
        assert value is not None
        found[name] = value
    return found


def _number(text: str, *, whole: bool) -> float | None:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        return None
