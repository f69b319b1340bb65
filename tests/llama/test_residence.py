"""When the model is in memory: comings, goings, loads and failures, one after the other."""

from __future__ import annotations

import pytest

from services.worker.errors import Draining
from tests.llama.residence_kit import LoadFailedError, User, World


@pytest.fixture
def world():
    made = World()
    yield made
    made.end()


def test_all_who_come_during_a_load_share_it(world):
    users = [User(world) for _ in range(3)]
    assert world.residence.waiting == 3
    assert [user.holds for user in users] == [None] * 3
    world.loaded()
    assert [user.holds for user in users] == [1] * 3
    assert (world.loads, world.residence.waiting) == (1, 0)
    assert User(world).holds == 1


def test_it_stays_for_some_time_after_the_last_user(world):
    first, second = User(world), User(world)
    world.loaded()
    first.leave()
    assert not world.timers
    second.leave()
    assert len(world.timers) == 1
    third = User(world)
    assert third.holds == 1
    assert not world.timers
    third.leave()
    world.fire()
    assert world.unloading is not None
    assert world.residence.resident is None


def test_who_comes_during_an_unload_waits_for_it_and_loads_again(world):
    user = User(world)
    world.loaded()
    user.leave()
    world.fire()
    late = [User(world), User(world)]
    assert world.loads == 1
    world.unloaded()
    assert world.loads == 2
    world.loaded()
    assert [user.holds for user in late] == [2, 2]


def test_a_failed_load_fails_those_who_wait_and_the_next_tries_again(world):
    users = [User(world), User(world)]
    world.load_failed()
    assert all(isinstance(user.failure, LoadFailedError) for user in users)
    assert not world.timers
    late = User(world)
    world.loaded()
    assert late.holds == 2


def test_who_gives_up_does_not_take_the_load_from_the_others(world):
    first, second = User(world), User(world)
    first.cancel()
    assert first.task.cancelled()
    assert world.residence.waiting == 1
    world.loaded()
    assert second.holds == 1


def test_what_was_loaded_for_nobody_is_unloaded(world):
    User(world).cancel()
    assert world.loading is not None
    world.loaded()
    world.fire()
    world.unloaded()
    assert world.alive == set()


def test_zero_is_never():
    world = World(seconds=0)
    user = User(world)
    world.loaded()
    user.leave()
    assert not world.timers
    assert world.residence.resident == 1
    world.end()


def test_work_that_nobody_waits_for_keeps_it(world):
    user = User(world)
    world.loaded()
    user.leave()
    world.busy = True
    world.fire()
    assert world.unloading is None
    world.busy = False
    world.fire()
    assert world.unloading is not None


def test_a_failed_unload_is_not_the_next_ones_fault(world):
    user = User(world)
    world.loaded()
    user.leave()
    world.fire()
    late = User(world)
    world.unloaded(RuntimeError("told to"))
    world.loaded()
    assert late.holds == 2


def test_closing_unloads(world):
    user = User(world)
    world.loaded()
    user.leave()
    closing = world.close()
    assert world.unloading is not None
    assert not closing.done()
    world.unloaded()
    assert closing.done()
    assert not world.timers
    assert isinstance(User(world).failure, Draining)


@pytest.mark.parametrize("fails", [False, True])
def test_closing_during_a_load(world, fails):
    user = User(world)
    closing = world.close()
    assert not closing.done()
    if fails:
        world.load_failed()
    else:
        world.loaded()
        # It is not handed out any more.
        assert isinstance(user.failure, Draining)
        world.unloaded()
    assert closing.done()
    assert world.alive == set()


def test_closing_during_an_unload_for_which_somebody_waits(world):
    user = User(world)
    world.loaded()
    user.leave()
    world.fire()
    late = User(world)
    closing = world.close()
    world.unloaded()
    assert closing.done()
    assert isinstance(late.failure, Draining)
    assert world.loads == 1
