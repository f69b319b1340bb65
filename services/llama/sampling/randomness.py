"""Random numbers without a generator's state, so that a sequence can be continued anywhere."""

from __future__ import annotations

_MASK = 2**64 - 1

# What a number is for: several may be needed for one token.
TOKEN = 0
EXCLUSION = 1


def uniform(seed: int, choice: int, position: int, stream: int = TOKEN) -> float:
    """A number in [0, 1) that depends on nothing but its arguments: SplitMix64, chained."""
    mixed = _mix(seed & _MASK)
    mixed = _mix(mixed ^ choice)
    mixed = _mix(mixed ^ position)
    if stream:
        mixed = _mix(mixed ^ stream)
    return (mixed >> 11) * 2.0**-53


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
