"""A residence in a world where loads, unloads and timers take as long as told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from services.llama.residence import Residence

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
