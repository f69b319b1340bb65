"""Random numbers that are no secret: names of requests and answers, seeds of sampling."""

from __future__ import annotations

import random

# Of its own, so that nobody's `random.seed` repeats it; a system call each would cost more.
_draw = random.Random()  # noqa: S311


def name() -> str:
    """128 bits in hexadecimal."""
    return f"{_draw.getrandbits(128):032x}"


def seed() -> int:
    """63 bits."""
    return _draw.getrandbits(63)
