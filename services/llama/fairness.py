"""Who of those that wait goes first: by priority, then by what their tenant has had; pure.

Tenants are charged for the tokens that are evaluated for them, as in the virtual token counter
of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): the one that was charged
least is served next. A tenant that comes back after a rest starts level with those that are
active: it gets no credit for the time in which it wanted nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

# Charge of a generated token, in prefill tokens: about what it costs in a batch of several.
DECODE_COST = 3


class Fairness:
    """Counters of the tenants that have work here."""

    def __init__(self) -> None:
        self._charged: dict[str, float] = {}
        self._sequences: dict[str, int] = {}

    def arrived(self, tenant: str) -> None:
        """A sequence of the tenant's has come."""
        if tenant not in self._sequences:
            self._charged[tenant] = min(self._charged.values(), default=0.0)
        self._sequences[tenant] = self._sequences.get(tenant, 0) + 1

    def left(self, tenant: str) -> None:
        """A sequence of the tenant's has ended, however it ended."""
        self._sequences[tenant] -= 1
        if not self._sequences[tenant]:
            del self._sequences[tenant], self._charged[tenant]

    def charge(self, tenant: str, prefill: int, decode: int) -> None:
        """Tokens were evaluated for a sequence of the tenant's."""
        self._charged[tenant] += prefill + DECODE_COST * decode

    def charged(self, tenant: str) -> float:
        """What it has had, on a scale that only compares tenants that have work here."""
        return self._charged[tenant]

    def tenants(self) -> Iterable[str]:
        """Those that have work here."""
        return self._sequences.keys()
