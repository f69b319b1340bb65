"""How deep JSON is, by the plainest way, for what measures it otherwise."""

from __future__ import annotations


def depth(value: object) -> int:
    """Levels of lists and objects; 0: neither."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0
