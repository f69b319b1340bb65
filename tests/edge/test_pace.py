"""How far apart deltas are asked for: not at all while the edge keeps up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.pace import MOST_MS, Pace, interval_ms

SHARES = st.floats(0, 2)


@given(SHARES, SHARES)
def test_the_busier_the_further(one: float, other: float):
    low, high = sorted((one, other))
    assert 0 <= interval_ms(low) <= interval_ms(high) <= MOST_MS


def test_who_keeps_up_gets_every_token():
    assert interval_ms(0.7) == 0
    assert interval_ms(1.0) == MOST_MS


class Time:
    """A clock, and what was used of it."""

    def __init__(self) -> None:
        self.now = self.used = 100.0

    def go(self, seconds: float, share: float) -> None:
        self.now += seconds
        self.used += seconds * share


def test_what_counts_is_the_time_since_the_last_look():
    time = Time()
    pace = Pace(lambda: time.now, lambda: time.used)
    assert pace.interval_ms() == 0
    time.go(0.5, 1)
    assert pace.interval_ms() == MOST_MS
    # Too short to say anything.
    time.go(0.1, 0)
    assert pace.interval_ms() == MOST_MS
    time.go(0.8, 0)
    assert pace.interval_ms() == 0
