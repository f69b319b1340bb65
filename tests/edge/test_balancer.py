from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.balancer import Candidate, LeastLoaded, Load, score
from protos.inference.v1 import inference_pb2 as pb

COUNT = st.integers(0, 50)
LOAD = st.none() | st.builds(Load, COUNT, COUNT, COUNT)
CANDIDATES = st.lists(
    st.builds(Candidate, st.text(min_size=1), COUNT, LOAD, COUNT),
    min_size=1,
    unique_by=lambda one: one.address,
)
REQUEST = pb.GenerateRequest()


@given(CANDIDATES)
def test_nobody_has_less_than_the_chosen(candidates: list[Candidate]) -> None:
    chosen = LeastLoaded().choose(candidates, REQUEST)
    assert chosen in candidates
    assert score(chosen) == min(map(score, candidates))


@given(CANDIDATES, st.randoms())
def test_order_does_not_matter(candidates: list[Candidate], random: object) -> None:
    turned = list(reversed(candidates))
    assert LeastLoaded().choose(candidates, REQUEST) == LeastLoaded().choose(turned, REQUEST)


@given(st.integers(1, 6), st.integers(1, 60))
def test_a_burst_spreads_evenly_before_any_report(workers: int, burst: int) -> None:
    in_flight = [0] * workers
    last = [0] * workers
    for turn in range(1, burst + 1):
        candidates = [Candidate(f"w{n}", in_flight[n], None, last[n]) for n in range(workers)]
        at = int(LeastLoaded().choose(candidates, REQUEST).address[1:])
        in_flight[at] += 1
        last[at] = turn
    assert max(in_flight) - min(in_flight) <= 1


def test_equals_take_turns() -> None:
    a, b = Candidate("a", 0, None, 2), Candidate("b", 0, None, 1)
    assert LeastLoaded().choose([a, b], REQUEST) is b


def test_no_report_yet_tells_of_nobody_else() -> None:
    assert score(Candidate("a", 2, None)) == 2


def test_what_others_sent_counts_and_own_requests_count_once() -> None:
    # 5 at the worker when it reported, 3 of them ours; now we have 1.
    assert score(Candidate("a", 1, Load(running=4, waiting=1, own=3))) == 3
    # A report from before our requests arrived.
    assert score(Candidate("a", 4, Load(running=0, waiting=0, own=4))) == 4
