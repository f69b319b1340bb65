"""Anthropic's events and messages made of the contract's, read by the official SDK's accumulator."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edge.anthropic import signature
from edge.anthropic.answer import PING, Gathered, Header, Stream
from edge.anthropic.schemas import ErrorAnswer, MessageAnswer, MessageEvent
from edge.errors import unavailable
from protos.inference.v1 import inference_pb2 as pb

STARTED = pb.Started(model_identity="sha256:1", prompt_tokens=9)
FINISHED = pb.Finished(
    usage=pb.Usage(prompt_tokens=9, completion_tokens=7, cached_tokens=4, reasoning_tokens=2)
)
EVENT: TypeAdapter[Any] = TypeAdapter(MessageEvent)
MESSAGE: TypeAdapter[Any] = TypeAdapter(MessageAnswer)


def header(**fields: Any) -> Header:
    return Header(**{"id": "msg_1", "model": "m", "max_tokens": 7, "request_id": "r1", **fields})


def parsed(written: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for event in written:
        name, data, *end = event.split(b"\n")
        assert end == [b"", b""]
        found = orjson.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + found["type"].encode()
        EVENT.validate_python(found, strict=True)
        yield found


def streamed(deltas: list[pb.Delta], **fields: Any) -> list[dict[str, Any]]:
    stream = Stream(header(**fields))
    written = list(stream.started(STARTED))
    for delta in deltas:
        written += stream.delta(delta)
    return list(parsed([*written, *stream.finished(FINISHED)]))


def whole(deltas: list[pb.Delta], **fields: Any) -> dict[str, Any]:
    gathered = Gathered(header(**fields))
    gathered.started(STARTED)
    for delta in deltas:
        gathered.delta(delta)
    gathered.finished(FINISHED)
    # Not by orjson: it reads integers beyond 64 bits as floats.
    found: dict[str, Any] = json.loads(orjson.dumps(gathered.json()))
    MESSAGE.validate_python(found, strict=True)
    return found


def accumulated(events: list[dict[str, Any]]) -> dict[str, Any]:
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        if event["type"] != "ping":
            snapshot = accumulate_event(
                event=event,  # type: ignore[arg-type]  # it takes dictionaries as well
                current_snapshot=snapshot,
                json_bufs=buffers,
            )
    found: dict[str, Any] = json.loads(snapshot.to_json())
    return found


def call(index: int, *fragments: str) -> list[pb.ToolCallDelta]:
    first = pb.ToolCallDelta(index=index, id=f"toolu_{index}", name=f"f{index}")
    return [first, *(pb.ToolCallDelta(index=index, arguments_json=text) for text in fragments)]


def end(reason: pb.FinishReason.ValueType = pb.FINISH_REASON_STOP, stop: str = "") -> pb.Delta:
    return pb.Delta(finish=pb.ChoiceFinish(reason=reason, matched_stop=stop))


TEXT = st.text(st.sampled_from(' \n\taé😀"\\{'), max_size=5)
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | TEXT | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=5,
)
SAYING: st.SearchStrategy[list[pb.Delta]] = st.builds(
    lambda text, reasoning: [pb.Delta(text=text, reasoning=reasoning)], TEXT, TEXT
)


@st.composite
def answers(draw: st.DrawFn) -> list[pb.Delta]:
    deltas: list[pb.Delta] = []
    calls = 0
    for says in draw(st.lists(st.booleans(), max_size=6)):
        if says:
            deltas += draw(SAYING)
            continue
        text = json.dumps(draw(st.dictionaries(TEXT, VALUE, max_size=3)), ensure_ascii=False)
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
        pieces = call(
            calls, *(text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True))
        )
        calls += 1
        at = draw(st.integers(1, len(pieces)))
        deltas += [pb.Delta(tool_calls=pieces[:at]), pb.Delta(tool_calls=pieces[at:])]
    if draw(st.integers(0, 1)) and deltas:
        # Cut off in the middle of whatever it was.
        last = deltas.pop()
        deltas.append(pb.Delta(reasoning=last.reasoning, tool_calls=last.tool_calls[:-1]))
        return [*deltas, end(pb.FINISH_REASON_LENGTH)]
    return [*deltas, end(pb.FINISH_REASON_TOOL_CALLS if calls else pb.FINISH_REASON_STOP)]


@given(answers(), st.booleans())
def test_a_stream_accumulates_to_the_whole(deltas: list[pb.Delta], shown: bool) -> None:
    events = streamed(deltas, show_thinking=shown)
    assert accumulated(events) == whole(deltas, show_thinking=shown)


@given(answers())
def test_blocks_come_one_after_another(deltas: list[pb.Delta]) -> None:
    events = streamed(deltas)
    first, ping, *between, last, stop = (event["type"] for event in events)
    assert (first, ping, last, stop) == ("message_start", "ping", "message_delta", "message_stop")
    opened, index = False, -1
    for event in events[2:-2]:
        if event["type"] == "content_block_start":
            assert not opened
            opened, index = True, index + 1
        else:
            assert opened
        opened = event["type"] != "content_block_stop"
        assert event["index"] == index
    assert not opened
    assert len(between) == len(events) - 4


@given(answers())
def test_nothing_but_white_space_is_left_out(deltas: list[pb.Delta]) -> None:
    def bare(text: str) -> str:
        return "".join(text.split())

    content = whole(deltas)["content"]
    said = "".join(block["text"] for block in content if block["type"] == "text")
    thought = "".join(block["thinking"] for block in content if block["type"] == "thinking")
    assert bare(said) == bare("".join(delta.text for delta in deltas))
    assert thought == "".join(delta.reasoning for delta in deltas)
    assert all(block["text"].strip() for block in content if block["type"] == "text")


def test_white_space_before_text_is_kept() -> None:
    deltas = [pb.Delta(text="\n"), pb.Delta(text=" "), pb.Delta(text=" so"), end()]
    assert whole(deltas)["content"] == [{"type": "text", "text": "\n  so"}]


def test_white_space_between_thoughts_and_a_call_is_no_block() -> None:
    deltas = [
        pb.Delta(reasoning="Hm"),
        pb.Delta(text="\n\n"),
        pb.Delta(tool_calls=call(0, "{}")),
        end(pb.FINISH_REASON_TOOL_CALLS),
    ]
    assert [block["type"] for block in whole(deltas)["content"]] == ["thinking", "tool_use"]


def test_the_whole() -> None:
    deltas = [
        pb.Delta(reasoning="H"),
        pb.Delta(reasoning="m"),
        pb.Delta(text="Let me"),
        pb.Delta(text=" see", tool_calls=call(0, '{"n":', f"{10**29}}}")),
        pb.Delta(tool_calls=call(1)),
        end(pb.FINISH_REASON_TOOL_CALLS),
    ]
    found = whole(deltas)
    assert found == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {
                "type": "thinking",
                "thinking": "Hm",
                "signature": signature.of("Hm", shown=True),
            },
            {"type": "text", "text": "Let me see"},
            {"type": "tool_use", "id": "toolu_0", "name": "f0", "input": {"n": 10**29}},
            {"type": "tool_use", "id": "toolu_1", "name": "f1", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 2},
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "service_tier": "standard",
        },
    }


def test_arguments_stay_as_they_were_written() -> None:
    gathered = Gathered(header())
    text = '{"b": 1.0, "a": 123456789012345678901234567890}'
    gathered.delta(pb.Delta(tool_calls=call(0, text)))
    gathered.finished(FINISHED)
    assert text.encode() in orjson.dumps(gathered.json())


@pytest.mark.parametrize("text", ["", "[1]", "nonsense", '{"a": NaN}'])
def test_arguments_that_are_none(text: str) -> None:
    deltas = [pb.Delta(tool_calls=call(0, text)), end(pb.FINISH_REASON_LENGTH)]
    assert whole(deltas)["content"][0]["input"] == {}


def test_arguments_that_are_cut_off() -> None:
    deltas = [pb.Delta(tool_calls=call(0, '{"a": 1, "b": "x')), end(pb.FINISH_REASON_LENGTH)]
    assert whole(deltas)["content"][0]["input"] == {"a": 1}


@pytest.mark.parametrize(
    ("finish", "max_tokens", "reason", "sequence"),
    [
        (pb.ChoiceFinish(reason=pb.FINISH_REASON_STOP), 7, "end_turn", None),
        (pb.ChoiceFinish(reason=pb.FINISH_REASON_STOP, matched_stop="x"), 7, "stop_sequence", "x"),
        (pb.ChoiceFinish(reason=pb.FINISH_REASON_LENGTH), 7, "max_tokens", None),
        # It ended before its limit: the context was full.
        (
            pb.ChoiceFinish(reason=pb.FINISH_REASON_LENGTH),
            8,
            "model_context_window_exceeded",
            None,
        ),
        (pb.ChoiceFinish(reason=pb.FINISH_REASON_TOOL_CALLS), 7, "tool_use", None),
        (pb.ChoiceFinish(reason=pb.FINISH_REASON_CONTENT_FILTER), 7, "refusal", None),
        (pb.ChoiceFinish(), 7, "end_turn", None),
    ],
)
def test_reasons(finish: pb.ChoiceFinish, max_tokens: int, reason: str, sequence: Any) -> None:
    deltas = [pb.Delta(text="a"), pb.Delta(finish=finish)]
    message = whole(deltas, max_tokens=max_tokens)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    (told,) = [
        event["delta"]
        for event in streamed(deltas, max_tokens=max_tokens)
        if event["type"] == "message_delta"
    ]
    assert (told["stop_reason"], told["stop_sequence"]) == (reason, sequence)


def test_thoughts_that_are_not_shown_come_back() -> None:
    deltas = [pb.Delta(reasoning="Sécret"), pb.Delta(text="a"), end()]
    (block, _) = whole(deltas, show_thinking=False)["content"]
    assert block["thinking"] == ""
    assert signature.thoughts("", block["signature"]) == "Sécret"


@given(st.text())
def test_any_signature_is_taken(text: str) -> None:
    assert signature.thoughts("shown", text) == "shown"
    assert isinstance(signature.thoughts("", text), str)
    assert isinstance(signature.thoughts("", "caravan1t." + text), str)


def test_an_error_in_a_stream() -> None:
    stream = Stream(header())
    (written,) = stream.failed(unavailable("gone"))
    (event,) = parsed([written])
    TypeAdapter(ErrorAnswer).validate_python(event, strict=True)
    assert event == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "gone"},
        "request_id": "r1",
    }


def test_ping() -> None:
    assert PING == b'event: ping\ndata: {"type":"ping"}\n\n'
