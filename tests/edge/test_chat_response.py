from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge.openai.chat_response import Chunks, Gathered, Header, fingerprint
from edge.stream import merge
from protos.inference.v1 import inference_pb2 as pb

STARTED = pb.Started(model_identity="sha256:1", prompt_tokens=3)
FINISHED = pb.Finished(usage=pb.Usage(prompt_tokens=3, completion_tokens=4, cached_tokens=2))
KEYS = ["id", "object", "created", "model", "system_fingerprint", "choices"]


def header(n: int = 1, **fields: Any) -> Header:
    return Header("chatcmpl-1", 5, "m", n, **fields)


def stream(
    deltas: list[pb.Delta], n: int = 1, include_usage: bool = False, legacy: bool = False
) -> list[dict[str, Any]]:
    chunks = Chunks(header(n, legacy=legacy), include_usage)
    out = chunks.started(STARTED)
    for delta in deltas:
        out += chunks.delta(delta)
    return out + chunks.finished(FINISHED)


def whole(deltas: list[pb.Delta], n: int = 1, legacy: bool = False) -> dict[str, Any]:
    gathered = Gathered(header(n, legacy=legacy), logprobs=True)
    gathered.started(STARTED)
    for delta in deltas:
        gathered.delta(delta)
    gathered.finished(FINISHED)
    return gathered.json()


def end(index: int = 0, reason: pb.FinishReason.ValueType = pb.FINISH_REASON_STOP) -> pb.Delta:
    return pb.Delta(index=index, finish=pb.ChoiceFinish(reason=reason))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
LOGPROB = st.builds(
    lambda token, p: pb.TokenLogprob(
        token=token, logprob=p, top=[pb.TokenLogprob(token=b"x", logprob=p)]
    ),
    st.binary(max_size=4),
    st.floats(-20, 0, width=32),
)
DELTA = st.builds(
    lambda index, text, reasoning, logprobs, args: pb.Delta(
        index=index, text=text, reasoning=reasoning, logprobs=logprobs,
        in_text=[at < len(text) for at in range(len(logprobs))],
        tool_calls=[pb.ToolCallDelta(index=0, arguments_json=args)] if args else [],
    ),
    st.integers(0, 1), TEXT, TEXT, st.lists(LOGPROB, max_size=2), TEXT,
)  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> list[pb.Delta]:
    """Deltas of two choices; a call's first piece carries its id and name."""
    deltas = draw(st.lists(DELTA, max_size=8))
    named: set[int] = set()
    for delta in deltas:
        for piece in delta.tool_calls:
            if delta.index not in named:
                piece.id, piece.name = f"call_{delta.index}", "f"
                named.add(delta.index)
    return [*deltas, end(0), end(1, pb.FINISH_REASON_LENGTH)]


def joined(chunks: list[dict[str, Any]], index: int) -> dict[str, Any]:
    """What a client makes of the chunks of one choice."""
    message: dict[str, Any] = {"text": "", "reasoning": "", "args": "", "logprobs": []}
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            delta = choice["delta"]
            message["text"] += delta.get("content") or ""
            message["reasoning"] += delta.get("reasoning_content", "")
            for call in delta.get("tool_calls", ()):
                message["args"] += call["function"]["arguments"]
            message["logprobs"] += (choice["logprobs"] or {"content": []})["content"]
            message["finish"] = choice["finish_reason"]
    return message


@given(answers())
def test_a_stream_says_what_the_whole_says(deltas: list[pb.Delta]) -> None:
    chunks = stream(deltas, n=2)
    for choice in whole(deltas, n=2)["choices"]:
        said = joined(chunks, choice["index"])
        message = choice["message"]
        calls = message.get("tool_calls") or [{"function": {"arguments": ""}}]
        assert said["text"] == (message["content"] or "")
        assert said["reasoning"] == message.get("reasoning", "")
        assert said["args"] == calls[0]["function"]["arguments"]
        assert said["logprobs"] == choice["logprobs"]["content"]
        assert said["finish"] == choice["finish_reason"]


@given(answers())
def test_merging_changes_nothing_but_the_number_of_chunks(deltas: list[pb.Delta]) -> None:
    merged: dict[int, pb.Delta] = {}
    for delta in deltas:
        if delta.index in merged:
            merge(merged[delta.index], delta)
        else:
            merged[delta.index] = pb.Delta.FromString(delta.SerializeToString())
    for index in (0, 1):
        before, after = (joined(stream(ds, 2), index) for ds in (deltas, list(merged.values())))
        assert before == after


@given(answers())
def test_the_order_of_chunks(deltas: list[pb.Delta]) -> None:
    chunks = stream(deltas, n=2, include_usage=True)
    assert len({(c["id"], c["created"], c["model"], c["system_fingerprint"]) for c in chunks}) == 1
    *body, last = chunks
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 7
    assert all(chunk["usage"] is None for chunk in body)
    for index in (0, 1):
        own = [c["choices"][0] for c in body if c["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert [choice["finish_reason"] is not None for choice in own] == [False] * (
            len(own) - 1
        ) + [True]
        assert own[-1]["delta"] == {}


def test_no_usage_key_where_it_was_not_asked_for() -> None:
    assert all(list(chunk) == KEYS for chunk in stream([pb.Delta(text="x"), end()]))


def test_counting_deltas_make_no_chunk() -> None:
    assert Chunks(header()).delta(pb.Delta(completion_tokens=3, token_ids=[1])) == []


def test_a_choice_without_an_end_gets_one() -> None:
    assert stream([pb.Delta(text="x")])[-1]["choices"][0]["finish_reason"] == "stop"


CALLS = [
    pb.Delta(tool_calls=[pb.ToolCallDelta(index=0, id="c0", name="f")]),
    pb.Delta(tool_calls=[pb.ToolCallDelta(index=0, arguments_json='{"a":')]),
    pb.Delta(tool_calls=[pb.ToolCallDelta(index=0, arguments_json="1}")]),
    pb.Delta(tool_calls=[pb.ToolCallDelta(index=1, id="c1", name="g", arguments_json="{}")]),
    end(reason=pb.FINISH_REASON_TOOL_CALLS),
]


def test_tool_calls_whole() -> None:
    choice = whole(CALLS)["choices"][0]
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == [
        {"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_tool_calls_streamed_name_themselves_once() -> None:
    pieces = [
        call
        for chunk in stream(CALLS)
        for call in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert pieces[0] == {
        "index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}
    }  # fmt: skip
    assert pieces[1] == {"index": 0, "function": {"arguments": '{"a":'}}
    assert [piece["index"] for piece in pieces] == [0, 0, 0, 1]


def test_fragments_of_a_call_that_come_together_are_one() -> None:
    """The official client (2.x) takes the first list of calls as it is, one entry a call."""
    together = pb.Delta()
    for delta in CALLS[:4]:
        merge(together, delta)
    (calls,) = (
        chunk["choices"][0]["delta"]["tool_calls"]
        for chunk in stream([together])
        if "tool_calls" in chunk["choices"][0]["delta"]
    )
    assert calls == [
        {"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]  # fmt: skip


def test_functions_go_back_as_functions() -> None:
    choice = whole(CALLS[:3] + CALLS[4:], legacy=True)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"
    streamed = [
        chunk["choices"][0]["delta"]["function_call"]
        for chunk in stream(CALLS[:3], legacy=True)
        if "function_call" in chunk["choices"][0]["delta"]
    ]
    assert streamed[0] == {"name": "f", "arguments": ""}
    assert "".join(piece["arguments"] for piece in streamed) == '{"a":1}'


def test_all_keys_of_the_whole() -> None:
    answer = whole([pb.Delta(text="x", reasoning="r"), end()])
    assert list(answer) == [*KEYS, "usage"]
    choice = answer["choices"][0]
    assert list(choice) == ["index", "message", "logprobs", "finish_reason"]
    assert choice["message"]["reasoning_content"] == choice["message"]["reasoning"] == "r"
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 2
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_empty_text_is_text() -> None:
    assert whole([end()])["choices"][0]["message"]["content"] == ""


def entry(token: str) -> pb.TokenLogprob:
    return pb.TokenLogprob(token=token.encode(), logprob=-0.5)


def test_logprobs_are_those_of_the_content() -> None:
    deltas = [
        pb.Delta(logprobs=[entry("<think>")]),
        # Two letters of this token are certain; a third is held back.
        pb.Delta(reasoning="hm", logprobs=[entry("hm<")], in_text=[False]),
        pb.Delta(logprobs=[entry("/think>"), entry("\n\n")]),
        pb.Delta(logprobs=[entry("Yes")], in_text=[False] * 3),
        pb.Delta(text="Yes. ", logprobs=[entry(". ")], in_text=[True, True]),
        pb.Delta(logprobs=[entry("<call>")]),
        pb.Delta(tool_calls=[pb.ToolCallDelta(index=0, id="c", name="f")], in_text=[False]),
        pb.Delta(logprobs=[entry("<end>")], finish=end().finish),
    ]
    told = whole(deltas)["choices"][0]["logprobs"]["content"]
    assert [one["token"] for one in told] == ["Yes", ". "]
    assert joined(stream(deltas), 0)["logprobs"] == told


def test_logprobs_of_a_worker_that_does_not_say_which_are_the_contents() -> None:
    deltas = [
        pb.Delta(reasoning="hm", logprobs=[entry("hm")]),
        pb.Delta(logprobs=[entry("Y")]),
        pb.Delta(text="Yes", logprobs=[entry("es")]),
        pb.Delta(logprobs=[entry("<end>")], finish=end().finish),
    ]
    told = whole(deltas)["choices"][0]["logprobs"]["content"]
    assert [one["token"] for one in told] == ["Y", "es", "<end>"]


def test_a_worker_may_begin_late_to_say_which_logprobs_are_the_contents() -> None:
    deltas = [
        pb.Delta(reasoning="h", logprobs=[entry("hm")]),
        pb.Delta(reasoning="m", logprobs=[entry("<end>")], in_text=[False, False]),
        pb.Delta(text="Yes", logprobs=[entry("Yes")], in_text=[True]),
    ]
    told = whole([*deltas, end()])["choices"][0]["logprobs"]["content"]
    assert [one["token"] for one in told] == ["Yes"]


def test_logprobs_of_parts_of_characters() -> None:
    entry = pb.TokenLogprob(token="é".encode()[:1], logprob=float("-inf"))
    deltas = [pb.Delta(logprobs=[entry]), pb.Delta(text="é", in_text=[True]), end()]
    token = whole(deltas)["choices"][0]["logprobs"]["content"][0]
    assert token == {"token": "\ufffd", "logprob": -9999.0, "bytes": [195], "top_logprobs": []}


def test_fingerprints_tell_models_apart() -> None:
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")
