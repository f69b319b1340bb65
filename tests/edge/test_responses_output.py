"""Deltas as items and events: however they come, they tell one response."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from edge.errors import ApiError, timed_out
from edge.openai.checks import validate
from edge.responses import render, sealed
from edge.responses.events import Events, Whole
from edge.responses.ids import Ids
from edge.responses.output import Output
from edge.responses.request import ResponseRequest
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.responding import KEYS, reduced

IDS = Ids("0" * 32)
USED = pb.Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3, reasoning_tokens=2)


def head(**fields: Any) -> Any:
    request = validate(ResponseRequest, {"model": "m", "input": "hi", **fields})
    return render.header(request, IDS.response, 1000, pb.SamplingParams())


def text(said: str) -> pb.Delta:
    return pb.Delta(text=said)


def thought(said: str) -> pb.Delta:
    return pb.Delta(reasoning=said)


def call(number: int, arguments: str = "", name: str = "") -> pb.Delta:
    piece = pb.ToolCallDelta(index=number, arguments_json=arguments)
    if name:
        piece.id, piece.name = f"call_{number}", name
    return pb.Delta(tool_calls=[piece])


def told(deltas: list[pb.Delta], reason: Any = pb.FINISH_REASON_STOP, **fields: Any) -> list[Any]:
    """All events of these deltas."""
    seal = "reasoning.encrypted_content" in fields.get("include", ())
    events = Events(head(**fields), Output(IDS, seal=seal), lambda: 1009.0)
    out = list(events.begin())
    for delta in deltas:
        out += events.grow(delta)
    out += events.grow(pb.Delta(finish=pb.ChoiceFinish(reason=reason)))
    return [*out, *events.finish(pb.Finished(usage=USED))]


def whole(deltas: list[pb.Delta], reason: Any = pb.FINISH_REASON_STOP, **fields: Any) -> Any:
    seal = "reasoning.encrypted_content" in fields.get("include", ())
    response = Whole(head(**fields), Output(IDS, seal=seal), lambda: 1009.0)
    for delta in deltas:
        response.delta(delta)
    response.delta(pb.Delta(finish=pb.ChoiceFinish(reason=reason)))
    response.finished(pb.Finished(usage=USED))
    return response.response


def kinds(events: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


PIECES = st.text(min_size=1, max_size=5)


@st.composite
def turns(draw: Any) -> list[list[pb.Delta]]:
    """What a model says in its order; each thing in one piece or several."""
    numbers = itertools.count()
    said: list[list[pb.Delta]] = []
    for kind in draw(st.lists(st.sampled_from("tmc"), max_size=6)):
        pieces = draw(st.lists(PIECES, min_size=1, max_size=4))
        if kind == "t":
            said.append([thought(piece) for piece in pieces])
        elif kind == "m":
            said.append([text(piece) for piece in pieces])
        else:
            number = next(numbers)
            begun = [call(number, name=draw(st.sampled_from(("f", "g"))))]
            said.append(begun + [call(number, piece) for piece in pieces])
    return said


REASONS = st.sampled_from(
    (pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH, pb.FINISH_REASON_TOOL_CALLS)
)


@given(turns(), REASONS, st.booleans())
def test_events_and_the_whole_tell_the_same(
    said: list[list[pb.Delta]], reason: Any, seal: bool
) -> None:
    fields: Any = {"include": ["reasoning.encrypted_content"]} if seal else {}
    deltas = [delta for part in said for delta in part]
    response = whole(deltas, reason, **fields)
    events = told(deltas, reason, **fields)
    assert reduced(events) == events[-1]["response"] == response
    assert set(response) >= KEYS
    # Well-formed for the official client, which checks little by itself.
    assert Response.model_validate(response).output_text == "".join(delta.text for delta in deltas)


@given(turns(), st.data())
def test_how_deltas_are_cut_makes_no_difference(said: list[list[pb.Delta]], data: Any) -> None:
    deltas = [delta for part in said for delta in part]
    merged: list[pb.Delta] = []
    for part in said:
        if part[0].text and data.draw(st.booleans()):
            merged.append(text("".join(delta.text for delta in part)))
        elif part[0].reasoning and data.draw(st.booleans()):
            merged.append(thought("".join(delta.reasoning for delta in part)))
        elif part[0].tool_calls and data.draw(st.booleans()):
            merged.append(pb.Delta(tool_calls=[delta.tool_calls[0] for delta in part]))
        else:
            merged += part
    assert whole(merged) == whole(deltas)


def test_the_order_of_events() -> None:
    deltas = [thought("hm"), text("Hello"), text("!"), call(0, name="f"), call(0, "{}")]
    assert kinds(told(deltas, pb.FINISH_REASON_TOOL_CALLS)) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


def test_in_the_background_it_is_queued_first() -> None:
    events = told([], background=True)
    assert kinds(events)[:3] == ["created", "queued", "in_progress"]
    assert [event["response"]["status"] for event in events[:3]] == [
        "queued",
        "queued",
        "in_progress",
    ]


def test_usage_and_times() -> None:
    response = whole([text("Hi")])
    assert response["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    }
    assert (response["created_at"], response["completed_at"]) == (1000, 1009)


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        (pb.FINISH_REASON_STOP, "completed", None),
        (pb.FINISH_REASON_LENGTH, "incomplete", {"reason": "max_output_tokens"}),
        (pb.FINISH_REASON_CONTENT_FILTER, "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_it_ended(reason: Any, status: str, details: Any) -> None:
    response = whole([text("Hi")], reason)
    assert (response["status"], response["incomplete_details"]) == (status, details)
    assert response["output"][0]["status"] == status
    assert (response["completed_at"] is None) == (status == "incomplete")


@pytest.mark.parametrize(
    ("deltas", "reason", "expected"),
    [
        ([], pb.FINISH_REASON_STOP, ["message"]),
        ([], pb.FINISH_REASON_LENGTH, ["message"]),
        ([thought("hm")], pb.FINISH_REASON_STOP, ["reasoning", "message"]),
        # Cut off before it said anything.
        ([thought("hm")], pb.FINISH_REASON_LENGTH, ["reasoning"]),
        ([call(0, "{}", "f")], pb.FINISH_REASON_TOOL_CALLS, ["function_call"]),
    ],
)
def test_an_answer_has_a_message_if_an_empty_one(
    deltas: list[pb.Delta], reason: Any, expected: list[str]
) -> None:
    response = whole(deltas, reason)
    assert [item["type"] for item in response["output"]] == expected


def test_a_failure_in_the_middle() -> None:
    events = Events(head(), Output(IDS))
    out = [*events.begin(), *events.grow(text("Hel")), *events.fail(timed_out())]
    assert kinds(out)[-5:] == [
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "error",
        "failed",
    ]
    response = out[-1]["response"]
    assert reduced(out) == response
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    assert response["output"][0]["status"] == "incomplete"
    assert (out[-2]["code"], out[-2]["message"]) == ("timeout", response["error"]["message"])
    # The SDK takes an `error` key for a failed connection.
    assert "error" not in out[-2]


def test_a_cancellation_is_told() -> None:
    events = Events(head(background=True), Output(IDS))
    out = [*events.begin(), *events.grow(text("Hel")), *events.cancel()]
    assert out[-1]["type"] == "response.incomplete"
    assert out[-1]["response"]["status"] == "cancelled"
    assert reduced(out) == events.response


def test_other_choices_and_calls_that_are_over_are_not_mixed_in() -> None:
    response = Whole(head(), Output(IDS))
    response.delta(pb.Delta(index=1, text="nobody asked"))
    response.delta(call(0, "{}", "f"))
    response.delta(call(1, "{}", "g"))
    with pytest.raises(ApiError):
        response.delta(call(0, "more"))


def entry(token: str) -> pb.TokenLogprob:
    return pb.TokenLogprob(token=token.encode(), logprob=-0.5)


def tokens(part: Any) -> list[str]:
    return [one["token"] for one in part["logprobs"]]


def test_logprobs_are_those_of_the_text() -> None:
    deltas = [
        pb.Delta(reasoning="hm", logprobs=[entry("hm")]),
        # Held back: its text comes with the next.
        pb.Delta(logprobs=[entry("Hel")]),
        pb.Delta(text="Hello", logprobs=[entry("lo")]),
        pb.Delta(logprobs=[entry("end")]),
        pb.Delta(
            tool_calls=[pb.ToolCallDelta(index=0, id="c", name="f")], logprobs=[entry("<call>")]
        ),
    ]
    response = whole(deltas)
    assert tokens(response["output"][1]["content"][0]) == ["Hel", "lo", "end"]
    assert reduced(told(deltas)) == response
    held = [pb.Delta(logprobs=[entry("<th")]), pb.Delta(reasoning="hm"), text("Hi")]
    assert tokens(whole(held)["output"][1]["content"][0]) == []


@given(st.text())
def test_sealed_thoughts_open_again(said: str) -> None:
    assert sealed.opened(sealed.closed(said)) == said


@given(st.text(max_size=40), st.data())
def test_what_was_not_sealed_here_stays_closed(given_text: str, data: Any) -> None:
    assert sealed.opened(given_text) is None
    closed = sealed.closed("some thoughts")
    at = data.draw(st.integers(0, len(closed) - 1))
    assert sealed.opened(closed[:at]) is None


def test_defaults_are_the_models() -> None:
    request = validate(ResponseRequest, {"model": "m", "input": "hi", "top_p": 0.5})
    defaults = pb.SamplingParams(temperature=0.6, top_p=0.9)
    told_again = render.header(request, "resp_1", 0, defaults)
    assert (told_again["temperature"], told_again["top_p"]) == (0.6, 0.5)
    plain = head()
    assert (plain["temperature"], plain["top_p"], plain["presence_penalty"]) == (1.0, 1.0, 0.0)
