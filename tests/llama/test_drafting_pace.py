"""Who gets a draft, and how long: where it pays, and nowhere else."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from services.llama.drafting.pace import (
    MOST_GUESSED,
    ROW_COST,
    USUAL_COST,
    Costs,
    Pace,
    Wish,
    lengths,
)


def one(chance: float, *, cost: float = 0.2, rows: int = 15, most: int = 99) -> int:
    (length,) = lengths([Wish(chance, most)], decoding=1, rows=rows, cost=cost)
    return length


def test_further_for_what_comes_out_more_often_and_for_what_costs_less():
    assert [one(chance) for chance in (0.1, 0.5, 0.8, 0.95)] == [0, 1, 3, 8]
    assert [one(0.8, cost=cost) for cost in (0.02, 0.1, 0.3, 0.6, 1.0)] == [5, 4, 2, 1, 0]


def test_never_more_than_there_is_room_for():
    assert one(0.98, rows=3) == 3
    assert one(0.98, most=2) == 2
    assert one(0.98, cost=0) == MOST_GUESSED
    assert one(0.98, rows=0) == one(0.98, most=0) == one(0.98, rows=-4) == 0


def test_rows_go_to_those_who_make_most_of_them():
    wishes = [Wish(0.9, 9), Wish(0.3, 9), Wish(0.8, 9)]
    assert lengths(wishes, decoding=3, rows=3, cost=0.02) == [2, 0, 1]


chances = st.floats(0.02, 0.98)


@given(
    st.lists(st.builds(Wish, chances, st.integers(0, 3)), max_size=3),
    st.integers(0, 3),
    st.integers(-1, 9),
    st.floats(0, 1.5),
)
@example([Wish(0.5, 2), Wish(0.5, 2)], 0, 2, 0.1)
def test_no_other_choice_gives_more_tokens_a_second(wishes, others, rows, cost):
    decoding = len(wishes) + others

    def rate(found: tuple[int, ...]) -> float:
        tokens: float = decoding + sum(
            wish.chance**place
            for wish, count in zip(wishes, found, strict=True)
            for place in range(1, count + 1)
        )
        time: float = 1 + max(found, default=0) * cost + ROW_COST * sum(found)
        return tokens / time

    chosen = tuple(lengths(wishes, decoding=decoding, rows=rows, cost=cost))
    assert sum(chosen) <= max(0, rows)
    assert all(count <= wish.most for wish, count in zip(wishes, chosen, strict=True))
    every = itertools.product(*(range(wish.most + 1) for wish in wishes))
    best = max(rate(found) for found in every if sum(found) <= max(0, rows))
    assert rate(chosen) >= best - 1e-9


def test_where_it_does_not_pay_it_rests_and_looks_again_until_it_is_given_up():
    pace = Pace()
    tries = [(step, pace.granted(0)) for step in range(1, 1000) if pace.ready(step)]
    # The first time it has just been found out, later it is tried.
    assert tries == [(1, 0), (4, 1), (8, 1), (16, 1), (32, 1), (64, 1), (128, 1)]
    assert pace.over


def test_those_that_rest_awake_together():
    first, second = Pace(), Pace()
    first.granted(0)
    for _ in range(3):
        second.granted(0)
    assert [step for step in range(1, 20) if first.ready(step)] == [4, 8, 12, 16]
    assert [step for step in range(1, 20) if second.ready(step)] == [16]


def test_once_it_pays_again_all_is_forgiven():
    pace = Pace()
    pace.granted(0)
    # What is only tried may be luck.
    assert pace.granted(0) == 1
    pace.result(1, 1)
    assert not pace.ready(4)
    assert pace.ready(8)
    assert pace.granted(4) == 4
    # Nor does one that comes out wrong pay.
    pace.result(4, 0)
    assert not pace.ready(9)
    pace.result(4, 1)
    assert pace.ready(9)


def test_drafts_that_are_never_looked_at_do_not_pay():
    pace, drafts = Pace(), 0
    for step in range(500):
        if pace.ready(step):
            drafts += pace.granted(3) == 3
            pace.refused()
    assert drafts == 7
    assert pace.over


def test_the_chance_is_learnt_from_what_came_out_and_not_from_what_stood_behind_it():
    good, bad, unsure = Pace(), Pace(), Pace()
    good.result(3, 3)
    assert good.chance > Pace().chance
    bad.result(8, 0)
    unsure.unsure()
    assert bad.chance == unsure.chance == Pace().chance * 7 / 8
    for _ in range(99):
        good.result(1, 1)
        bad.result(1, 0)
    assert good.chance == 0.98
    assert bad.chance == 0.02


def test_costs_are_measured_in_steps():
    costs = Costs()
    assert costs.cost == USUAL_COST
    costs.step(2.0)
    assert costs.cost == USUAL_COST
    costs.round(1.0)
    assert costs.cost == 0.5
    for _ in range(100):
        costs.round(0.2)
    assert 0.09 < costs.cost < 0.11
    early = Costs()
    early.round(1.0)
    assert early.cost == USUAL_COST


def test_what_was_measured_long_ago_is_tried_again():
    costs = Costs()
    costs.step(1.0)
    costs.round(3.0)
    assert one(0.75, cost=costs.cost) == 0
    steps = 0
    while not one(0.75, cost=costs.cost):
        costs.step(1.0)
        steps += 1
    assert 500 < steps < 5000
