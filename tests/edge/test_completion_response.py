"""Events of the contract as a text completion, streamed and whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edge.openai.completion_response import Chunks, Gathered, Header
from edge.openai.schemas.completions import Completion, CompletionChunk
from edge.stream import merge
from protos.inference.v1 import inference_pb2 as pb

STARTED = pb.Started(model_identity="sha256:x")
FINISHED = pb.Finished(usage=pb.Usage(prompt_tokens=3, completion_tokens=2))


def header(**fields: Any) -> Header:
    return Header(**{"id": "cmpl-1", "created": 5, "model": "m", **fields})


def token(text: bytes, logprob: float | None = -0.5, *top: tuple[bytes, float]) -> pb.TokenLogprob:
    others = [pb.TokenLogprob(token=piece, logprob=value) for piece, value in top]
    return pb.TokenLogprob(token=text, logprob=logprob, top=others)


def delta(index: int = 0, text: str = "", *tokens: pb.TokenLogprob, **fields: Any) -> pb.Delta:
    return pb.Delta(index=index, text=text, logprobs=tokens, **fields)


def end(index: int = 0, reason: Any = pb.FINISH_REASON_STOP) -> pb.Delta:
    return pb.Delta(index=index, finish=pb.ChoiceFinish(reason=reason))


def streamed(head: Header, *deltas: pb.Delta, **fields: Any) -> list[dict[str, Any]]:
    chunks = Chunks(head, **fields)
    found = list(chunks.started(STARTED))
    for one in deltas:
        found += chunks.delta(one)
    found += chunks.finished(FINISHED)
    for chunk in found:
        TypeAdapter(CompletionChunk).validate_python(chunk, strict=True)
    return found


def whole(head: Header, *deltas: pb.Delta) -> dict[str, Any]:
    gathered = Gathered(head)
    gathered.started(STARTED)
    for one in deltas:
        gathered.delta(one)
    gathered.finished(FINISHED)
    body = gathered.json()
    TypeAdapter(Completion).validate_python(body, strict=True)
    return body


def choices(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice for chunk in chunks for choice in chunk["choices"]]


def joined(chunks: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The chunks' choices as a whole answer would have them."""
    made: list[dict[str, Any]] = [
        {"text": "", "index": index, "logprobs": None, "finish_reason": None}
        for index in range(count)
    ]
    for choice in choices(chunks):
        into = made[choice["index"]]
        into["text"] += choice["text"]
        assert into["finish_reason"] is None
        into["finish_reason"] = choice["finish_reason"]
        if choice["logprobs"] is not None:
            known = into["logprobs"] or {name: [] for name in choice["logprobs"]}
            into["logprobs"] = {
                name: known[name] + values for name, values in choice["logprobs"].items()
            }
    return made


def test_whole() -> None:
    assert whole(header(), delta(0, "Hi"), delta(0, " you"), end()) == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 5,
        "model": "m",
        "system_fingerprint": "fp_" + whole(header())["system_fingerprint"][3:],
        "choices": [{"text": "Hi you", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }


def test_stream_with_usage() -> None:
    found = streamed(
        header(), delta(0, "Hi"), delta(0), end(reason=pb.FINISH_REASON_LENGTH), include_usage=True
    )
    assert [choice["text"] for choice in choices(found)] == ["Hi", ""]
    assert [choice["finish_reason"] for choice in choices(found)] == [None, "length"]
    assert [chunk["usage"] for chunk in found[:-1]] == [None, None]
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] == 5
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in found}) == 1


def test_an_echo_comes_first_and_once_a_choice() -> None:
    head = header(n=2, echo=("a", "b"))
    deltas = [delta(index, str(index)) for index in (2, 0, 3, 1)]
    found = streamed(head, *deltas)
    assert [(c["index"], c["text"]) for c in choices(found)][:4] == [
        (0, "a"),
        (1, "a"),
        (2, "b"),
        (3, "b"),
    ]
    assert [choice["text"] for choice in whole(head, *deltas)["choices"]] == [
        "a0",
        "a1",
        "b2",
        "b3",
    ]


def test_logprobs_of_what_was_written() -> None:
    made = whole(
        header(logprobs=2),
        delta(0, "Hi", token(b"Hi", -0.5, (b"Hi", -0.5), (b"Ho", -1), (b"He", -2))),
        delta(0, " you", token(b" you", -3, (b" me", -0.25), (b" we", -0.5), (b" you", -3))),
        delta(0, "", token(b"<|end|>", -0.125)),
        end(),
    )
    assert made["choices"][0]["logprobs"] == {
        "tokens": ["Hi", " you", "<|end|>"],
        "token_logprobs": [-0.5, -3.0, -0.125],
        # As many as were asked for, and the one that was chosen.
        "top_logprobs": [
            {"Hi": -0.5, "Ho": -1.0},
            {" me": -0.25, " we": -0.5, " you": -3.0},
            {"<|end|>": -0.125},
        ],
        "text_offset": [0, 2, 6],
    }


def test_none_but_the_chosen() -> None:
    made = whole(header(logprobs=0), delta(0, "a", token(b"a", -1)), end())
    assert made["choices"][0]["logprobs"]["top_logprobs"] == [{"a": -1.0}]
    assert whole(header(), delta(0, "a"), end())["choices"][0]["logprobs"] is None


def test_what_json_cannot_say() -> None:
    made = whole(
        header(logprobs=1),
        delta(0, "", token(b"\xf0\x9f", float("-inf"), (b"\xf0\x9f", float("-inf")))),
        delta(0, "😀", token(b"\x98\x80")),
        end(),
    )
    logprobs = made["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["bytes:\\xf0\\x9f", "bytes:\\x98\\x80"]
    assert logprobs["token_logprobs"] == [-9999.0, -0.5]
    assert logprobs["text_offset"] == [0, 0]


PROMPT = [token(b"<s>", None), token(b"Say", -4, (b"So", -1)), token(b" hi", -2, (b" hi", -2))]


def test_echo_with_logprobs_of_a_text() -> None:
    """The BOS token is nobody's: the first of the text's own has no logprob, as at OpenAI's."""
    head = header(echo=("Say hi",), logprobs=1, of_prompt=True)
    made = whole(head, delta(0, "!", token(b"!", -1), prompt_logprobs=PROMPT), end())
    choice = made["choices"][0]
    assert choice["text"] == "Say hi!"
    assert choice["logprobs"] == {
        "tokens": ["Say", " hi", "!"],
        "token_logprobs": [None, -2.0, -1.0],
        "top_logprobs": [None, {" hi": -2.0}, {"!": -1.0}],
        "text_offset": [0, 3, 6],
    }


def test_echo_with_logprobs_of_tokens() -> None:
    """All of them are the client's own, and the text is what they are."""
    head = header(echo=(None,), logprobs=1, of_prompt=True)
    deltas = [
        delta(0, "", prompt_logprobs=PROMPT),
        end(reason=pb.FINISH_REASON_LENGTH),
    ]
    choice = whole(head, *deltas)["choices"][0]
    assert choice["text"] == "<s>Say hi"
    assert choice["logprobs"]["tokens"] == ["<s>", "Say", " hi"]
    assert choice["logprobs"]["token_logprobs"] == [None, -4.0, -2.0]
    assert choice["logprobs"]["top_logprobs"] == [None, {"So": -1.0, "Say": -4.0}, {" hi": -2.0}]
    assert choice["logprobs"]["text_offset"] == [0, 3, 6]
    assert choice["finish_reason"] == "length"
    assert joined(streamed(head, *deltas), 1) == [choice]


def test_an_empty_text_has_no_tokens_of_its_own() -> None:
    head = header(echo=("",), logprobs=0, of_prompt=True)
    made = whole(head, delta(0, "a", token(b"a"), prompt_logprobs=PROMPT[:1]), end())
    assert made["choices"][0]["logprobs"]["tokens"] == ["a"]


def test_all_choices_of_a_prompt_tell_its_tokens() -> None:
    """One choice brings them; the others wait for it, those of other prompts do not."""
    head = header(n=2, echo=("Say hi", "x"), logprobs=0, of_prompt=True)
    deltas = [
        delta(1, "1", token(b"1")),
        delta(2, "2", token(b"2"), prompt_logprobs=[token(b"x", None)]),
        end(1),
        delta(0, "0", token(b"0"), prompt_logprobs=PROMPT),
        delta(3, "3", token(b"3")),
        *map(end, (0, 2, 3)),
    ]
    texts = [choice["text"] for choice in whole(head, *deltas)["choices"]]
    assert texts == ["Say hi0", "Say hi1", "x2", "x3"]
    for choice in whole(head, *deltas)["choices"]:
        assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert joined(streamed(head, *deltas), 4) == whole(head, *deltas)["choices"]


def test_a_worker_that_tells_no_prompt_loses_no_text() -> None:
    head = header(echo=("Say hi",), logprobs=0, of_prompt=True)
    choice = whole(head, delta(0, "!", token(b"!")), end())["choices"][0]
    assert choice["text"] == "Say hi!"
    assert choice["logprobs"]["text_offset"] == [6]


def test_what_a_worker_must_not_send_changes_nothing() -> None:
    assert whole(header(), delta(5, "x"), delta(0, "a"), end(), delta(0, "b"))["choices"] == [
        {"text": "a", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]


def test_an_end_that_did_not_come() -> None:
    assert choices(streamed(header(n=2), delta(0, "a"), end(0)))[-1] == {
        "text": "",
        "index": 1,
        "logprobs": None,
        "finish_reason": "stop",
    }


@st.composite
def answers(draw: st.DrawFn) -> tuple[Header, list[pb.Delta]]:
    """Any answer: choices of several prompts interleaved, text behind or ahead of tokens."""
    n, count = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    logprobs = draw(st.none() | st.integers(0, 2))
    echo = draw(st.booleans())
    texts = draw(st.lists(st.sampled_from(["", "p", "öß"]), min_size=count, max_size=count))
    head = header(
        n=n,
        echo=tuple(texts) if echo else ("",) * count,
        logprobs=logprobs,
        of_prompt=echo and logprobs is not None,
    )
    queues: list[list[pb.Delta]] = []
    for index in range(head.choices):
        words = draw(st.lists(st.sampled_from(["a", " b", "ü", "<|x|>"]), max_size=4))
        queue = []
        for word in words:
            hidden = word == "<|x|>"
            entries = [] if logprobs is None else [token(word.encode(), -1, (b"a", -0.5))]
            queue.append(delta(index, "" if hidden else word, *entries))
        queue.append(end(index))
        if head.of_prompt and index % n == 0:
            data = texts[index // n].encode()
            first = queue[0].prompt_logprobs
            first.append(token(b"<s>", None))
            first.extend(token(bytes((byte,)), -2) for byte in data)
        queues.append(queue)
    deltas = []
    while any(queues):
        deltas.append(draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
    return head, deltas


@given(answers(), st.integers(1, 4))
def test_a_stream_is_the_whole_in_pieces(
    answer: tuple[Header, list[pb.Delta]], merged: int
) -> None:
    head, deltas = answer
    found = whole(head, *deltas)["choices"]
    assert joined(streamed(head, *deltas), head.choices) == found
    # As a slow client gets it: runs of deltas of one choice at once.
    slow: list[pb.Delta] = []
    for at, one in enumerate(deltas):
        if at % merged and slow and slow[-1].index == one.index:
            merge(slow[-1], one)
        else:
            slow.append(pb.Delta.FromString(one.SerializeToString()))
    assert whole(head, *slow)["choices"] == found


@pytest.mark.parametrize("n", [1, 2])
def test_every_choice_ends_once(n: int) -> None:
    ended = [c["index"] for c in choices(streamed(header(n=n))) if c["finish_reason"]]
    assert sorted(ended) == list(range(n))
