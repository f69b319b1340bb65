"""When the model is in memory: every order of comings, goings, loads, failures and timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.llama.residence import Residence
from services.worker.errors import Draining

IDLE_SECONDS = 60.0


class LoadFailedError(Exception):
    """What a load fails with here."""


class Timer:
    """In the place of asyncio.TimerHandle."""

    def __init__(self, seconds: float, fire: Callable[[], None]) -> None:
        self.seconds, self._fire = seconds, fire
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def fire(self) -> None:
        self.cancelled = True
        self._fire()


class World:
    """A residence whose loads and unloads take as long as told, and what became of them."""

    def __init__(self, seconds: float = IDLE_SECONDS) -> None:
        self.loop = asyncio.new_event_loop()
        self._timers: list[Timer] = []
        # Only the residence waits for a time here.
        self.loop.call_later = self._call_later  # type: ignore[method-assign, assignment]
        self.loading: asyncio.Future[int] | None = None
        self.unloading: asyncio.Future[None] | None = None
        self.loads = self.unloads = 0
        # Things that were loaded and not unloaded.
        self.alive: set[int] = set()
        self.busy = False
        self.users: list[User] = []
        self.residence = Residence(self._load, self._unload, seconds, lambda: self.busy)

    async def _load(self) -> int:
        assert (self.loading or self.unloading) is None, "two changes at once"
        self.loads += 1
        self.loading = self.loop.create_future()
        try:
            loaded = await self.loading
        finally:
            self.loading = None
        self.alive.add(loaded)
        return loaded

    async def _unload(self, loaded: int) -> None:
        assert (self.loading or self.unloading) is None, "two changes at once"
        self.unloads += 1
        self.alive.remove(loaded)
        self.unloading = self.loop.create_future()
        try:
            await self.unloading
        finally:
            self.unloading = None

    def _call_later(self, seconds: float, fire: Callable[[], None], *_: Any, **__: Any) -> Timer:
        self._timers.append(Timer(seconds, fire))
        return self._timers[-1]

    @property
    def timers(self) -> list[Timer]:
        """Those that run."""
        self._timers = [timer for timer in self._timers if not timer.cancelled]
        return self._timers

    def settle(self) -> None:
        """Runs whatever can run without a load, an unload or a timer."""

        async def turns() -> None:
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def loaded(self) -> None:
        assert self.loading is not None
        self.loading.set_result(self.loads)
        self.settle()

    def load_failed(self) -> None:
        assert self.loading is not None
        self.loading.set_exception(LoadFailedError())
        self.settle()

    def unloaded(self, error: Exception | None = None) -> None:
        assert self.unloading is not None
        if error is None:
            self.unloading.set_result(None)
        else:
            self.unloading.set_exception(error)
        self.settle()

    def fire(self) -> None:
        (timer,) = self.timers
        assert timer.seconds == IDLE_SECONDS
        self.loop.call_soon(timer.fire)
        self.settle()

    def close(self) -> asyncio.Task[None]:
        closing = self.loop.create_task(self.residence.close())
        self.settle()
        return closing

    def end(self) -> None:
        """Everybody goes and it closes: nothing may be left."""
        for user in self.present:
            user.cancel()
        closing = self.close()
        for _ in range(2):
            if self.loading is not None:
                self.loaded()
            if self.unloading is not None:
                self.unloaded()
        assert closing.done()
        assert self.alive == set()
        assert not self.timers
        self.loop.close()

    @property
    def present(self) -> list[User]:
        """Users that wait or are inside."""
        return [user for user in self.users if not user.task.done()]


class User:
    """One use, on its way in, inside or over."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._leave = world.loop.create_future()
        self.holds: int | None = None
        self.task = world.loop.create_task(self._use())
        # Looked at: asyncio logs failures that nobody looks at.
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        world.users.append(self)
        world.settle()

    async def _use(self) -> None:
        async with self._world.residence.use() as loaded:
            self.holds = loaded
            try:
                await self._leave
            finally:
                self.holds = None

    @property
    def waits(self) -> bool:
        return not self.task.done() and self.holds is None

    @property
    def failure(self) -> BaseException | None:
        """What it ended with."""
        assert self.task.done()
        return self.task.exception()

    def leave(self) -> None:
        self._leave.set_result(None)
        self._world.settle()

    def cancel(self) -> None:
        self.task.cancel()
        self._world.settle()


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


class Life(RuleBasedStateMachine):
    """Any order of events keeps the invariants."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule()
    def arrive(self) -> None:
        User(self.world)

    @precondition(lambda self: any(user.holds is not None for user in self.world.users))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([user for user in self.world.users if user.holds])).leave()

    @precondition(lambda self: self.world.present)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.world.present)).cancel()

    @precondition(lambda self: self.world.loading is not None)
    @rule()
    def load(self) -> None:
        waiting = [user for user in self.world.users if user.waits]
        self.world.loaded()
        assert all(user.holds == self.world.loads for user in waiting)

    @precondition(lambda self: self.world.loading is not None)
    @rule()
    def fail_load(self) -> None:
        waiting = [user for user in self.world.users if user.waits]
        self.world.load_failed()
        assert all(isinstance(user.failure, LoadFailedError) for user in waiting)

    @precondition(lambda self: self.world.unloading is not None)
    @rule()
    def unload(self) -> None:
        self.world.unloaded()

    @precondition(lambda self: self.world.timers)
    @rule()
    def time_passes(self) -> None:
        busy = self.world.busy
        self.world.fire()
        assert (self.world.unloading is None) == busy

    @rule(busy=st.booleans())
    def work(self, busy: bool) -> None:
        self.world.busy = busy

    @invariant()
    def one_at_most(self) -> None:
        assert len(self.world.alive) <= 1
        assert self.world.residence.resident in (*self.world.alive, None)

    @invariant()
    def whoever_is_inside_has_what_is_there(self) -> None:
        held = {user.holds for user in self.world.present} - {None}
        assert held <= self.world.alive
        assert not (held and (self.world.unloading or self.world.loading))

    @invariant()
    def nobody_is_forgotten(self) -> None:
        waiting = sum(user.waits for user in self.world.users)
        assert waiting == self.world.residence.waiting
        assert not waiting or self.world.loading or self.world.unloading

    @invariant()
    def it_is_timed_when_it_is_there_for_nobody(self) -> None:
        unused = self.world.residence.resident is not None and not self.world.present
        assert len(self.world.timers) == unused

    def teardown(self) -> None:
        self.world.end()


Life.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLife = Life.TestCase
