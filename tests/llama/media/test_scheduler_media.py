"""What a batch takes of sequences with images, and what the KV cache keeps of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.llama.kv.cache import KvCache
from services.llama.media.layout import Layout, Run, Shape, stand_ins
from services.llama.scheduler import Candidate, Limits, make_room, share_batch
from tests.llama.fake_runtime import FakeRuntime

LIMITS = Limits(
    cells=1000, parallel=8, batch=256, outputs=64, prefill=64, busy_prefill=16, headroom=8, drafts=8
)


@st.composite
def candidates(draw: st.DrawFn, number: int) -> Candidate:
    pending = draw(st.integers(1, 200))
    cached = draw(st.integers(0, 120))
    image = pending > 1 and draw(st.booleans())
    reach = draw(st.integers(1, pending - 1)) if image else None
    return Candidate(
        number,
        cached + pending,
        cached,
        cached + pending + 100,
        spans=((number, cached),),
        reach=reach,
        together=image and draw(st.booleans()),
        paused=draw(st.integers(0, 9)) == 0,
    )


@st.composite
def crowds(draw: st.DrawFn) -> list[Candidate]:
    return [draw(candidates(number)) for number in range(draw(st.integers(1, 8)))]


@given(crowds())
def test_batches_keep_images_whole_and_apart(crowd):
    work = {item.id: item.count for item in share_batch(crowd, LIMITS)}
    free = LIMITS.cells - sum(c.cached for c in crowd)
    assert sum(work.values()) <= max(0, free)
    runnable = [c for c in crowd if not c.paused]
    prefills = [c for c in runnable if c.pending > 1]
    decodes = len(runnable) - len(prefills)
    budget = LIMITS.prefill if not decodes else 2 * LIMITS.busy_prefill
    for candidate in runnable:
        count = work.get(candidate.id, 0)
        assert count <= candidate.ahead
        assert not candidate.together or count in (0, candidate.ahead)
    beyond = [c for c in prefills if c.together and work.get(c.id, 0) > budget]
    assert beyond in ([], prefills[:1]), "only the oldest goes beyond the budget"
    rest = sum(work.get(c.id, 0) for c in prefills if c not in beyond)
    assert rest <= (0 if beyond else budget)


@given(crowds())
def test_whoever_stays_advances(crowd):
    victims = make_room(crowd, LIMITS)
    kept = [c for c in crowd if c.id not in victims]
    work = {item.id for item in share_batch(kept, LIMITS)}
    runnable = [c for c in kept if not c.paused]
    if runnable and (len(kept) > 1 or not victims):
        oldest = runnable[0]
        room = LIMITS.cells - sum(c.cached for c in kept) >= oldest.least
        assert oldest.id in work or not room


def test_an_image_waits_for_its_turn_and_not_for_ever():
    image = Candidate(1, 300, 0, 400, spans=((1, 0),), reach=200, together=True)
    older = Candidate(0, 500, 0, 600, spans=((0, 0),))
    assert [item.id for item in share_batch([older, image], LIMITS)] == [0]
    done = replace(older, cached=499)
    work = {item.id: item.count for item in share_batch([done, image], LIMITS)}
    assert work == {0: 1, 1: 200}


def test_an_image_is_taken_whole_where_there_is_room_for_it():
    def image(number: int, length: int) -> Candidate:
        return Candidate(number, length, 0, length + 1, together=True)

    def taken(*crowd: Candidate) -> dict[int, int]:
        return {item.id: item.count for item in share_batch(crowd, LIMITS)}

    older = Candidate(0, 40, 0, 60)
    assert taken(older, image(1, 32)) == {0: 32, 1: 32}
    assert taken(older, image(1, 33)) == {0: 40}
    assert taken(image(0, 256)) == {0: 256}
    assert taken(image(0, 257)) == {}
    asleep = Candidate(1, 801, 800, 900, spans=((1, 800),), paused=True)
    assert taken(image(0, 200), asleep) == {0: 200}
    assert taken(image(0, 201), asleep) == {}


def test_half_an_image_is_not_kept_where_it_is_of_no_use():
    """64 cells are given up at once: the idle slot is cut in the middle of the image."""
    tokens = [*range(20), *stand_ins(b"x", 0, 30), *range(100, 154)]
    for shape, kept in ((Shape(30, 30), 40), (Shape(30, 30, together=True), 20)):
        layout = Layout([Run(20, shape, (b"x", 0), np.zeros((30, 4), np.float32))])
        runtime = FakeRuntime(cells=104, slots=4)
        kv = KvCache(runtime)
        slot = kv.acquire(tokens, "", kv.find(tokens, "", 103, layout), layout)
        runtime.cache[slot] = [(at, at) for at in range(104)]
        kv.grow(slot, 104)
        kv.retire(slot)
        assert kv.make_room(30)
        kv.check()
        assert len(runtime.cache[slot]) == kept
        assert kv.find(tokens, "", 103, layout).cells == kept
