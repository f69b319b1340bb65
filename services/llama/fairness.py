"""Who of those that wait goes first: by priority, then by what their tenant has had; pure.

Tenants are charged for the tokens that are evaluated for them, as in the virtual token counter
of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): the one that was charged
least is served next. A tenant that comes back after a rest starts level with those that are
active: it gets no credit for the time in which it wanted nothing. Nor does one lose its debt by
leaving: whoever sends one request after the other has no more than one who sends all at once.
"""

from __future__ import annotations

from collections.abc import Iterable

# Charge of a generated token, in prefill tokens: about what it costs in a batch of several.
DECODE_COST = 3
# Tenants without work whose debts are remembered, the latest ones.
_MOST_DEBTS = 1024


class Fairness:
    """Counters of the tenants that have work here."""

    def __init__(self) -> None:
        self._charged: dict[str, float] = {}
        self._sequences: dict[str, int] = {}
        # What every newcomer is charged: as much as the least of those that have work, or as the
        # last that had.
        self._level = 0.0
        # Charges of those that have left, where they are above that.
        self._debts: dict[str, float] = {}

    def arrived(self, tenant: str) -> None:
        """A sequence of the tenant's has come."""
        if tenant not in self._sequences:
            self._level = min(self._charged.values(), default=self._level)
            self._charged[tenant] = max(self._debts.pop(tenant, 0.0), self._level)
        self._sequences[tenant] = self._sequences.get(tenant, 0) + 1

    def left(self, tenant: str) -> None:
        """A sequence of the tenant's has ended, however it ended."""
        self._sequences[tenant] -= 1
        if self._sequences[tenant]:
            return
        del self._sequences[tenant]
        self._debts[tenant] = charged = self._charged.pop(tenant)
        self._level = min(self._charged.values(), default=charged)
        self._debts = {who: debt for who, debt in self._debts.items() if debt > self._level}
        if len(self._debts) > _MOST_DEBTS:
            del self._debts[next(iter(self._debts))]

    def charge(self, tenant: str, prefill: int, decode: int) -> None:
        """Tokens were evaluated for a sequence of the tenant's."""
        self._charged[tenant] += prefill + DECODE_COST * decode

    def charged(self, tenant: str) -> float:
        """What it has had, on a scale that only compares tenants that have work here."""
        return self._charged[tenant]

    def tenants(self) -> Iterable[str]:
        """Those that have work here."""
        return self._sequences.keys()
