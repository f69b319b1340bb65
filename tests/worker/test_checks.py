"""Single checks of a value, against what they say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker import checks
from services.worker.errors import InvalidField
from tests.nesting import depth

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=20,
)


@given(JSON, st.integers(0, 6))
def test_levels_are_counted_as_recursion_counts_them(value: object, most: int):
    if depth(value) <= most:
        checks.levels("f", value, most)
    else:
        with pytest.raises(InvalidField):
            checks.levels("f", value, most)


@given(JSON)
def test_json_of_the_right_kind_comes_back(value: object):
    got = checks.json_text("f", json.dumps(value), object, "anything")
    assert got == value


@given(st.floats(width=32), st.floats(-10, 10), st.floats(-10, 10))
def test_a_range_lets_nothing_else_in(value: float, least: float, most: float):
    try:
        checks.within("f", value, least, most)
    except InvalidField:
        assert not least <= value <= most
    else:
        assert least <= value <= most
