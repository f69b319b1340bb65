"""Which inputs of which requests go into the next batch of the embedder; pure.

Between tenants, and within one between requests, the batch's tokens are shared out evenly: the
next input is always taken from whom least has been evaluated. So two thousand inputs of one
request do not stop one of another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model's context can do."""

    # Tokens of a batch, where no single input needs more.
    step: int
    # Inputs of a batch, with those that are between two parts.
    slots: int
    # Tokens of all inputs that are between two parts.
    context: int
    # Whether an input cannot be evaluated in parts; it may then be longer than `step`.
    whole: bool


@dataclass(slots=True)
class Demand:
    """One request as the planner sees it; `plan_step` counts in it what it plans."""

    id: int
    tenant: str
    priority: int
    # Tokens of each input.
    lengths: Sequence[int]
    # The first input that is not begun.
    next: int = 0
    # How many tokens of the input before it are evaluated, while it is between two parts; else 0.
    begun: int = 0
    # Tokens evaluated, as fairness counts them: it starts at what the others had by then.
    served: int = 0

    @property
    def done(self) -> bool:
        """Whether all of it is planned."""
        return self.next == len(self.lengths) and not self.begun


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an input for the next batch: `count` tokens from `start` on."""

    id: int
    input: int
    start: int
    count: int
    # Whether the input is complete after it.
    last: bool


def plan_step(demands: Collection[Demand], served: dict[str, int], limits: Limits) -> list[Piece]:
    """The next batch; empty only if nothing is demanded.

    `served` are the tokens evaluated per tenant, counted on. No input may be longer than the
    limits' context.
    """
    pieces: list[Piece] = []
    left = {demand.id: demand for demand in demands if not demand.done}
    room = limits.step
    # Inputs between two parts keep their slots, whether they are in this batch or not.
    held = [d.lengths[d.next - 1] for d in demands if d.begun]
    slots, context = limits.slots - len(held), limits.context - sum(held)
    may_begin_long = True
    while left and room > 0:
        demand = min(left.values(), key=lambda d: _order(d, served))
        if demand.begun:
            count = min(room, demand.lengths[demand.next - 1] - demand.begun)
            pieces.append(_take(demand, demand.next - 1, demand.begun, count))
        else:
            length = demand.lengths[demand.next]
            long = length > limits.step
            if long and not limits.whole:
                if not (may_begin_long and slots > 0 and length <= context):
                    # It is its turn: no other may take what it waits for.
                    may_begin_long = False
                    del left[demand.id]
                    continue
                context -= length
                count = min(room, length)
            elif slots > 0 and (length <= room or (long and not pieces)):
                count = length
            else:
                # Next time it comes before those that are taken now.
                del left[demand.id]
                continue
            slots -= 1
            demand.next += 1
            pieces.append(_take(demand, demand.next - 1, 0, count))
        room -= count
        demand.served += count
        served[demand.tenant] = served.get(demand.tenant, 0) + count
        if demand.done or demand.begun:
            del left[demand.id]
    return pieces


def join(newcomer: Demand, others: Collection[Demand], served: dict[str, int]) -> None:
    """Lets a request in as if it had been served like the least served of the others."""
    of_tenant = [d.served for d in others if d.tenant == newcomer.tenant]
    newcomer.served = min(of_tenant, default=0)
    tenants = {d.tenant for d in others}
    for gone in served.keys() - tenants:
        del served[gone]
    served.setdefault(newcomer.tenant, min(served.values(), default=0))


def _order(demand: Demand, served: Mapping[str, int]) -> tuple[int, int, int, int]:
    return (-demand.priority, served.get(demand.tenant, 0), demand.served, demand.id)


def _take(demand: Demand, at: int, start: int, count: int) -> Piece:
    last = start + count == demand.lengths[at]
    demand.begun = 0 if last else start + count
    return Piece(demand.id, at, start, count, last=last)
