"""Who goes first among tenants."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.llama.fairness import DECODE_COST, Fairness


def test_tenants_are_charged_for_what_is_evaluated():
    fairness = Fairness()
    fairness.arrived("a")
    fairness.charge("a", prefill=10, decode=4)
    assert fairness.charged("a") == 10 + 4 * DECODE_COST


def test_one_that_comes_back_gets_no_credit_for_its_rest():
    fairness = Fairness()
    fairness.arrived("a")
    fairness.arrived("b")
    fairness.left("b")
    fairness.charge("a", 1000, 0)
    fairness.arrived("b")
    assert fairness.charged("b") == fairness.charged("a")


def test_one_that_leaves_for_a_moment_keeps_its_debt():
    fairness = Fairness()
    fairness.arrived("a")
    fairness.arrived("b")
    fairness.charge("a", 50, 0)
    fairness.charge("b", 1000, 0)
    fairness.left("b")
    fairness.arrived("b")
    assert (fairness.charged("a"), fairness.charged("b")) == (50, 1000)
    # Until the others have had as much.
    fairness.left("b")
    fairness.charge("a", 2000, 0)
    fairness.arrived("b")
    assert fairness.charged("a") == fairness.charged("b")


def test_a_newcomer_starts_level_with_who_has_had_least_of_those_here():
    fairness = Fairness()
    for tenant, had in (("a", 10), ("b", 1000), ("c", 500)):
        fairness.arrived(tenant)
        fairness.charge(tenant, had, 0)
    fairness.left("c")
    fairness.arrived("c")
    fairness.arrived("d")
    assert (fairness.charged("c"), fairness.charged("d")) == (510, 10)


def test_work_that_nobody_else_wanted_done_is_no_debt():
    fairness = Fairness()
    fairness.arrived("a")
    fairness.charge("a", 1000, 0)
    fairness.left("a")
    fairness.arrived("b")
    fairness.arrived("a")
    assert fairness.charged("a") == fairness.charged("b")


def test_a_tenant_is_here_as_long_as_one_of_its_sequences():
    fairness = Fairness()
    fairness.arrived("a")
    fairness.arrived("a")
    fairness.left("a")
    assert list(fairness.tenants()) == ["a"]
    fairness.left("a")
    assert not list(fairness.tenants())


def test_it_does_not_remember_everyone_for_ever():
    fairness = Fairness()
    fairness.arrived("waits for ever")
    for number in range(3000):
        fairness.arrived(f"{number}")
        fairness.charge(f"{number}", 10, 0)
        fairness.left(f"{number}")
    assert len(fairness._debts) <= 1024


def test_a_debt_is_not_forgotten_for_those_who_come_and_owe_nothing():
    fairness = Fairness()
    fairness.arrived("stays")
    fairness.arrived("owes")
    fairness.charge("owes", 10, 0)
    fairness.left("owes")
    for number in range(3000):
        fairness.arrived(f"{number}")
        fairness.left(f"{number}")
    fairness.arrived("owes")
    assert fairness.charged("owes") == 10


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=9),
    st.lists(st.integers(1, 50), min_size=1, max_size=9),
    st.booleans(),
)
def test_two_tenants_get_equal_shares_whatever_the_size_of_their_requests(a, b, one_by_one):
    """`a` has a backlog, `b` too, or it sends each request when the one before has ended.

    Then it may have less, because it has no credit when it comes back, but never more.
    """
    fairness = Fairness()
    sizes = {"a": a, "b": b}
    had = {"a": 0, "b": 0}
    for tenant in "ab":
        fairness.arrived(tenant)
    for turn in range(400):
        tenant = min("ab", key=lambda who: (fairness.charged(who), who))
        cost = sizes[tenant][turn % len(sizes[tenant])]
        fairness.charge(tenant, cost, 0)
        had[tenant] += cost
        if tenant == "b" and one_by_one:
            fairness.left("b")
            fairness.arrived("b")
        assert had["b"] - had["a"] <= max(*a, *b)
        assert one_by_one or had["a"] - had["b"] <= max(*a, *b)
