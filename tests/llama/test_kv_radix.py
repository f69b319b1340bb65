"""The prefix tree against plain lists of tokens."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.llama.kv.radix import PrefixTree

SLOTS = 6
slots = st.integers(0, SLOTS - 1)
# Few kinds of tokens, so that beginnings are often equal.
tokens = st.lists(st.integers(0, 1), max_size=8)


def common(a: list[int], b: list[int]) -> int:
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    return same


class TreeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tree = PrefixTree()
        self.known: dict[int, list[int]] = {}

    @rule(slot=slots, some=tokens)
    def insert(self, slot: int, some: list[int]) -> None:
        if slot not in self.known:
            self.tree.insert(slot, tuple(some))
            self.known[slot] = list(some)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), some=tokens)
    def extend(self, data: st.DataObject, some: list[int]) -> None:
        slot = data.draw(st.sampled_from(sorted(self.known)))
        self.tree.extend(slot, some)
        self.known[slot] += some

    @precondition(lambda self: len(self.known) > 1)
    @rule(data=st.data(), more=st.integers(0, 3))
    def follow_another(self, data: st.DataObject, more: int) -> None:
        """One that says the same as another, as greedy choices of one prompt do."""
        slot = data.draw(st.sampled_from(sorted(self.known)))
        other = data.draw(st.sampled_from(sorted(self.known)))
        mine, its = self.known[slot], self.known[other]
        if its[: len(mine)] == mine:
            some = its[len(mine) : len(mine) + more]
            self.tree.extend(slot, some)
            self.known[slot] = mine + some

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.known)))
        length = data.draw(st.integers(0, len(self.known[slot]) + 1))
        self.tree.truncate(slot, length)
        del self.known[slot][length:]

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.known)))
        self.tree.remove(slot)
        del self.known[slot]

    @rule(some=tokens)
    def match(self, some: list[int]) -> None:
        found = self.tree.match(some)
        depths = [depth for depth, _ in found]
        assert depths == sorted(set(depths), reverse=True)
        best: dict[int, int] = {}
        for depth, those in found:
            for slot in those:
                best.setdefault(slot, depth)
                # All that come through here agree so far; none promises more than it has.
                assert self.known[slot][:depth] == some[:depth]
        expected = {slot: common(own, some) for slot, own in self.known.items()}
        assert best == {slot: same for slot, same in expected.items() if same}

    @invariant()
    def it_knows_the_tokens(self) -> None:
        assert len(self.tree) == len(self.known)
        for slot in range(SLOTS):
            assert (slot in self.tree) == (slot in self.known)
        for slot, own in self.known.items():
            assert self.tree.tokens(slot) == own

    @invariant()
    def it_has_no_more_nodes_than_needed(self) -> None:
        """A node ends where a slot's tokens do, or where those of two part."""
        ends: set[tuple[int, ...]] = set()
        for own in self.known.values():
            ends.add(tuple(own))
            for other in self.known.values():
                ends.add(tuple(own[: common(own, other)]))
        assert self.tree.nodes() == len(ends - {()})


TreeMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=25)
TestPrefixTree = TreeMachine.TestCase
