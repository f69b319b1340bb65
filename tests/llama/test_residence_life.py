"""When the model is in memory: any order of comings, goings, loads, failures and timers."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.llama.residence_kit import LoadFailedError, User, World


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
    suppress_health_check=[HealthCheck.too_slow],
)
TestLife = Life.TestCase
