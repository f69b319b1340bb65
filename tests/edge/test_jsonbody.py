from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ApiError
from edge.openai import jsonbody
from tests.nesting import depth

MIB = 2**20
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('a"\\[]{}:,é', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), NESTED, max_size=4), st.integers(1, 6))
def test_depth_is_measured_exactly(value: dict[str, object], limit: int) -> None:
    body = json.dumps(value).encode()
    if depth(value) <= limit:
        assert jsonbody.parse(body, max_depth=limit) == value
    else:
        with pytest.raises(ApiError) as error:
            jsonbody.parse(body, max_depth=limit)
        assert error.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a": 1,}',
        b"{'a': 1}",
        b'{"a": ' + b"[" * 32 + b"]" * 32 + b"}",
        b"[" * 100_000,
    ],
)
def test_refused_with_400(body: bytes) -> None:
    with pytest.raises(ApiError) as error:
        jsonbody.parse(body)
    assert error.value.status == 400
    assert error.value.param is None
    assert error.value.code is None


def test_of_duplicate_keys_the_last_counts() -> None:
    assert jsonbody.parse(b'{"a": 1, "a": 2}') == {"a": 2}


def test_brackets_in_strings_do_not_count() -> None:
    text = "[{" * 1000 + '"\\'
    assert jsonbody.parse(json.dumps({"a": text}).encode()) == {"a": text}


def test_keys_are_counted_before_parsing() -> None:
    jsonbody.parse(json.dumps({str(n): n for n in range(100)}).encode(), max_keys=100)
    with pytest.raises(ApiError, match="keys"):
        jsonbody.parse(json.dumps({str(n): n for n in range(101)}).encode(), max_keys=100)


@pytest.mark.parametrize(
    "unit", [b"[", b"{", b'{"":', b"[]", b'"a":1,', b'""', b'"', b'\\"', b'"\\', b"[{}]:", b'"[":']
)
def test_hostile_bodies_take_linear_time(unit: bytes) -> None:
    body = (unit * MIB)[:MIB]
    began = time.process_time()
    with pytest.raises(ApiError):
        jsonbody.parse(body)
    # Milliseconds; what this is about would be minutes.
    assert time.process_time() - began < 1
