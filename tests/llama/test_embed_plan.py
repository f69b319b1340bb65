"""What goes into the embedder's batches, over random requests and limits."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.llama.embed_plan import Demand, Limits, Piece, join, plan_step

LIMITS = Limits(step=16, slots=4, context=64, whole=False)
WHOLE = Limits(step=16, slots=4, context=64, whole=True)

inputs = st.lists(st.integers(1, 64), min_size=1, max_size=12)
requests = st.lists(st.tuples(inputs, st.sampled_from("ab"), st.integers(-1, 1)), max_size=8)
# Before which step each of them arrives.
arrivals = st.lists(st.integers(0, 10), min_size=8, max_size=8)


def run(demands: list[Demand], limits: Limits) -> list[list[Piece]]:
    served: dict[str, int] = {}
    present: list[Demand] = []
    for demand in demands:
        join(demand, present, served)
        present.append(demand)
    steps = []
    while pieces := plan_step(demands, served, limits):
        steps.append(pieces)
    return steps


@given(requests, arrivals, st.sampled_from([LIMITS, WHOLE]))
def test_each_input_is_evaluated_once_in_order_and_within_the_limits(made, when, limits):
    served: dict[str, int] = {}
    waiting = [Demand(at, *rest) for at, rest in enumerate(_demands(made))]
    present: list[Demand] = []
    done: Counter[tuple[int, int]] = Counter()
    for step in range(10_000):
        for demand in [d for d in waiting if when[d.id] <= step]:
            waiting.remove(demand)
            join(demand, present, served)
            present.append(demand)
        held = {(d.id, d.next - 1): d.begun for d in present if d.begun}
        pieces = plan_step(present, served, limits)
        if not pieces and not waiting and step > 10:
            break
        tokens = sum(piece.count for piece in pieces)
        assert tokens <= limits.step or (limits.whole and len(pieces) == 1)
        for piece in pieces:
            at = (piece.id, piece.input)
            assert piece.start == done[at] == held.get(at, 0)
            done[at] += piece.count
            length = made[piece.id][0][piece.input]
            assert piece.last == (done[at] == length)
            assert piece.last or not limits.whole
        keys = [(piece.id, piece.input) for piece in pieces]
        assert len(keys) == len(set(keys))
        # Inputs of the batch and those that wait for their next part.
        open_now = {(d.id, d.next - 1): d.lengths[d.next - 1] for d in present if d.begun}
        assert len(set(keys) | open_now.keys() | held.keys()) <= limits.slots
        assert sum(open_now.values()) <= limits.context
        # Order within a request.
        for number in {piece.id for piece in pieces}:
            mine = [piece.input for piece in pieces if piece.id == number]
            assert mine == sorted(mine)
        present = [d for d in present if not d.done]
    expected = {(n, i): length for n, (ls, _, _) in enumerate(made) for i, length in enumerate(ls)}
    assert done == expected


def _demands(made: list[tuple[list[int], str, int]]) -> list[tuple[str, int, list[int]]]:
    return [(tenant, priority, lengths) for lengths, tenant, priority in made]


def test_a_request_of_thousands_does_not_stop_a_small_one():
    big, small = Demand(0, "", 0, [8] * 2000), Demand(1, "", 0, [8])
    served: dict[str, int] = {}
    join(big, [], served)
    for _ in range(50):
        plan_step([big], served, LIMITS)
    join(small, [big], served)
    assert {piece.id for piece in plan_step([big, small], served, LIMITS)} == {0, 1}
    assert small.done


def test_a_newcomer_is_not_owed_what_others_had_before_it():
    first, second = Demand(0, "", 0, [4] * 2000), Demand(1, "", 0, [4] * 2000)
    served: dict[str, int] = {}
    join(first, [], served)
    for _ in range(50):
        plan_step([first], served, LIMITS)
    join(second, [first], served)
    for _ in range(5):
        shares = Counter(piece.id for piece in plan_step([first, second], served, LIMITS))
        assert shares == {0: 2, 1: 2}


def test_tenants_share_evenly_however_many_requests_they_have():
    many = [Demand(number, "many", 0, [4] * 50) for number in range(10)]
    one = Demand(10, "one", 0, [4] * 50)
    served: dict[str, int] = {}
    present: list[Demand] = []
    for demand in [*many, one]:
        join(demand, present, served)
        present.append(demand)
    shares: Counter[str] = Counter()
    for _ in range(10):
        for piece in plan_step(present, served, LIMITS):
            shares[present[piece.id].tenant] += piece.count
    assert shares == {"many": 80, "one": 80}


def test_priority_goes_first():
    low, high = Demand(0, "", 0, [8] * 4), Demand(1, "", 1, [8] * 4)
    steps = run([low, high], LIMITS)
    assert [piece.id for pieces in steps for piece in pieces] == [1] * 4 + [0] * 4


def test_a_long_input_comes_in_parts_between_short_ones():
    long, short = Demand(0, "", 0, [40]), Demand(1, "", 0, [4] * 10)
    steps = run([long, short], LIMITS)
    counts = [Counter(piece.id for piece in pieces) for pieces in steps]
    assert all(counted[1] for counted in counts[1:4])
    assert sum(p.count for pieces in steps for p in pieces if p.id == 0) == 40


def test_who_waits_for_room_for_a_long_input_is_not_overtaken_by_other_long_ones():
    # 0 holds half of the context; 1 needs all of it; 2 would fit beside 0 at once.
    first, whole, half = (Demand(n, "", 0, lengths) for n, lengths in enumerate(([32], [64], [32])))
    steps = run([first, whole, half], LIMITS)
    begun = [piece.id for pieces in steps for piece in pieces if piece.start == 0]
    assert begun == [0, 1, 2]


def test_an_input_that_cannot_be_split_has_a_batch_of_its_own():
    steps = run([Demand(0, "", 0, [4, 40, 4])], WHOLE)
    assert [[(p.input, p.count) for p in pieces] for pieces in steps] == [
        [(0, 4)],
        [(1, 40)],
        [(2, 4)],
    ]
