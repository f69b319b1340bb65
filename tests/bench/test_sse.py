from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.sse import StreamError, events, read_arrivals, read_stream


def chunk(
    content: str | None = None, finish: str | None = None, usage: Any = None, **delta: Any
) -> bytes:
    if content is not None:
        delta["content"] = content
    choices = [] if usage and finish is None else [{"delta": delta, "finish_reason": finish}]
    return b"data: " + orjson.dumps({"choices": choices, "usage": usage}) + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = {
    "prompt_tokens": 130,
    "completion_tokens": 4,
    "prompt_tokens_details": {"cached_tokens": 100},
}


def stream() -> list[tuple[float, bytes]]:
    return [
        (1.0, chunk("", role="assistant")),
        (2.0, chunk("a")),
        (2.5, chunk("bc")),
        (4.0, chunk("d")),
        (4.1, chunk(finish="length")),
        (4.2, chunk(usage=USAGE)),
        (4.3, DONE),
    ]


def test_a_stream_becomes_a_sample():
    sample = read_stream(0.5, stream())
    assert sample.ttft == pytest.approx(1.5)  # the role chunk is no token
    assert sample.gaps == pytest.approx((0.5, 1.5))
    assert sample.ended == pytest.approx(4.3)
    assert sample.tokens.completion == 4  # three events, four tokens
    assert sample.tokens.cached == 100
    assert sample.error is None
    assert (sample.text, sample.finish) == ("abcd", "length")


def test_reasoning_is_text_too():
    pieces = [
        (1.0, chunk(reasoning_content="hm")),
        (2.0, chunk(finish="stop")),
        (2.0, chunk(usage=USAGE) + DONE),
    ]
    assert read_stream(0.0, pieces).ttft == pytest.approx(1.0)


@given(st.lists(st.integers(1, 400), max_size=12))
def test_where_the_body_is_cut_changes_no_event(cuts):
    body = b"".join(piece for _, piece in stream())
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [(float(at), body[a:b]) for at, (a, b) in enumerate(pairwise(places))]
    assert [data for _, data in events(pieces)] == [data for _, data in events([(0.0, body)])]
    assert read_stream(0.0, pieces).tokens.completion == 4


def test_comments_other_fields_and_both_line_ends():
    body = b': ping\r\n\r\nevent: message\r\ndata: {"a":1}\r\n\r\nretry: 5\n\ndata:2\ndata: 3\n\ndata: 4'
    assert [data for _, data in events([(0.0, body)])] == [b'{"a":1}', b"2\n3", b"4"]


@pytest.mark.parametrize(
    ("pieces", "label"),
    [
        ([], "cut off"),
        (stream()[:3], "cut off"),
        (stream()[:-1], "cut off"),
        (
            [*stream()[:2], (3.0, b'data: {"error":{"code":"stalled","message":"x"}}\n\n')],
            "stalled",
        ),
        ([*stream()[:5], stream()[-1]], "no usage"),
        ([(0.0, b"data: {]\n\n")], "not JSON"),
    ],
)
def test_what_is_not_a_whole_answer_is_an_error(pieces, label):
    with pytest.raises(StreamError, match=label):
        read_stream(0.0, pieces)


def test_a_stream_that_was_left_shows_when_text_came_and_whether_it_had_ended():
    assert read_arrivals(stream()) == ((2.0, 2.5, 4.0), True)
    assert read_arrivals(stream()[:3]) == ((2.0, 2.5), False)
    assert read_arrivals([]) == ((), False)
    cut = [*stream()[:2], (2.5, stream()[2][1][:-9])]
    assert read_arrivals(cut) == ((2.0,), False)
