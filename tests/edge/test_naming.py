"""Other names of models."""

from __future__ import annotations

import pytest

from edge.config import EdgeSettings
from edge.naming import naming

NAMES = naming(("claude-*=small", "claude-opus=large", "*-opus-*=large", "a=b"))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        # Exact names before patterns, and these in their order.
        ("claude-opus", "large"),
        ("claude-opus-4", "small"),
        ("new-opus-4", "large"),
        ("claude-", "small"),
        ("xclaude-1", "xclaude-1"),
        ("a", "b"),
        ("aa", "aa"),
        ("claude-" + "x" * 300, "claude-" + "x" * 300),
        ("", ""),
    ],
)
def test_aliases(name: str, model: str) -> None:
    assert NAMES.resolve(name, ()) == model


def test_a_model_that_is_served_goes_by_its_name() -> None:
    assert NAMES.resolve("claude-opus", {"claude-opus"}) == "claude-opus"


def test_only_the_star_is_special() -> None:
    assert naming(("a.?[b]*=m",)).resolve("a.?[b]c", ()) == "m"
    assert naming(("a.?[b]*=m",)).resolve("axxbc", ()) == "axxbc"


def test_the_last_resort() -> None:
    assert naming(("*=m",)).resolve("anything/at all", ()) == "m"


@pytest.mark.parametrize("alias", ["a", "=m", "a=", ""])
def test_no_aliases(alias: str) -> None:
    with pytest.raises(ValueError, match="expected NAME=MODEL"):
        naming((alias,))


def test_one_name_has_one_model() -> None:
    with pytest.raises(ValueError, match="two models"):
        naming(("a=b", "a=c"))


def test_the_setting() -> None:
    assert EdgeSettings(model_alias=("a=b",)).model_alias == ("a=b",)
    with pytest.raises(ValueError, match="expected NAME=MODEL"):
        EdgeSettings(model_alias=("a",))
