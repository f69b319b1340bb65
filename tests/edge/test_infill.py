"""POST /v1/infill in the form of llama.cpp's server: bodies, answers, and over a real edge."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from pydantic import TypeAdapter

from edge.errors import ApiError
from edge.hurried import Hurried
from edge.openai import infill_request, jsonbody
from edge.openai.infill_response import Asked, Chunks, Gathered, selected
from edge.openai.schemas.infill import Infill, InfillEvent
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import ContextLengthExceeded, InvalidField
from tests.edge.running import EventReader, RunningEdge
from tests.fakes.script import ADMISSION, Script
from tests.fakes.scripted import ALL_CAPABILITIES, model_info
from tests.fakes.worker import ScriptedWorker

SEED = 7
ASKED = Asked(model="m", context_length=100, seed=SEED)


def read(**fields: Any) -> infill_request.InfillRequest:
    body = json.dumps({"model": "m", "input_prefix": "a", "input_suffix": "b", **fields}).encode()
    return infill_request.read(jsonbody.parse(body))


def to_proto(**fields: Any) -> pb.GenerateRequest:
    return infill_request.translate(read(**fields), SEED)


# -------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": ""}, None, None),
        ({"input_prefix": 5}, "input_prefix", "invalid_type"),
        ({"input_extra": {}}, "input_extra", "invalid_type"),
        ({"input_extra": [{}]}, "input_extra[0].text", "missing_required_parameter"),
        ({"input_extra": [{"text": ""}] * 257}, "input_extra", "array_above_max_length"),
        ({"n_predict": -2}, "n_predict", "integer_below_min_value"),
        ({"n_probs": 21}, "n_probs", "integer_above_max_value"),
        ({"n": 2}, "n", "unsupported_value"),
        ({"response_fields": "content"}, "response_fields", "invalid_type"),
        ({"stop": ["x"], "stop_sequence": "y"}, "stop_sequence", "invalid_parameter_combination"),
    ],
)
def test_refused(fields: dict[str, Any], param: str | None, code: str | None) -> None:
    with pytest.raises(ApiError) as error:
        read(**fields)
    assert (error.value.status, error.value.param, error.value.code) == (400, param, code)


def test_in_the_contract() -> None:
    assert to_proto(
        prompt="c",
        input_extra=[{"text": "x", "filename": "f.py"}, {"text": "y"}],
        n_predict=0,
        n_probs=3,
        stop=["\n"],
        top_k=5,
        samplers=["top_k"],
        cache_prompt=True,
    ) == pb.GenerateRequest(
        text=pb.TextInput(
            text="ac",
            suffix="b",
            fill=True,
            files=[pb.SourceFile(name="f.py", text="x"), pb.SourceFile(text="y")],
        ),
        sampling=pb.SamplingParams(top_k=5, seed=SEED),
        stop=pb.StopConditions(max_tokens=0, strings=["\n"]),
        output=pb.OutputOptions(logprobs=True, top_logprobs=3),
    )


def test_without_a_limit_and_without_a_seed() -> None:
    for fields in ({}, {"n_predict": -1, "seed": -1}):
        made = to_proto(**fields)
        assert not made.stop.HasField("max_tokens")
        assert made.sampling.seed == SEED


def test_nothing_around_the_gap_is_text_all_the_same() -> None:
    made = to_proto(input_prefix=None, input_suffix=None)
    assert (made.text.text, made.text.suffix, made.text.fill) == ("", "", True)


@pytest.mark.parametrize(
    ("fields", "capability", "param"),
    [
        ({}, pb.CAPABILITY_INFILL, "model"),
        ({"n_probs": 1}, pb.CAPABILITY_LOGPROBS, "n_probs"),
        ({"grammar": 'root ::= "a"'}, pb.CAPABILITY_CONSTRAINT, "guided_grammar"),
    ],
)
def test_what_the_model_must_be_able_to_do(
    fields: dict[str, Any], capability: pb.Capability.ValueType, param: str
) -> None:
    wanted = to_proto(**fields)
    infill_request.check_model(wanted, model_info())
    rest = [other for other in ALL_CAPABILITIES if other != capability]
    with pytest.raises(ApiError) as error:
        infill_request.check_model(wanted, model_info(capabilities=rest))
    assert (error.value.param, error.value.code) == (param, "unsupported_parameter")


# ------------------------------------------------------------------------------------- answers


def delta(text: str = "", tokens: int = 1, **fields: Any) -> pb.Delta:
    return pb.Delta(text=text, completion_tokens=tokens, **fields)


def end(reason: Any, matched: str = "", tokens: int = 1) -> pb.Delta:
    finish = pb.ChoiceFinish(reason=reason, matched_stop=matched)
    return pb.Delta(completion_tokens=tokens, finish=finish)


def whole(asked: Asked, *deltas: pb.Delta, **finished: Any) -> dict[str, Any]:
    gathered = Gathered(asked)
    gathered.started(pb.Started(prompt_tokens=9))
    for one in deltas:
        gathered.delta(one)
    gathered.finished(pb.Finished(**finished))
    answer = gathered.json()
    TypeAdapter(Infill).validate_python(answer, strict=True)
    return answer


def test_whole() -> None:
    answer = whole(
        ASKED,
        delta("x\n", 1),
        delta("y", 2),
        end(pb.FINISH_REASON_STOP, tokens=3),
        usage=pb.Usage(cached_tokens=5, draft_tokens=4, accepted_draft_tokens=1),
        timings=pb.Timings(prefill=Duration(nanos=8_000_000), decode=Duration(seconds=1)),
    )
    assert answer == {
        "index": 0,
        "content": "x\ny",
        "tokens": [],
        "id_slot": -1,
        "stop": True,
        "model": "m",
        "tokens_predicted": 3,
        "tokens_evaluated": 9,
        "generation_settings": {"n_ctx": 100, "n_predict": -1, "seed": SEED},
        "has_new_line": True,
        "truncated": False,
        "stop_type": "eos",
        "stopping_word": "",
        "tokens_cached": 5,
        "timings": {
            "cache_n": 5,
            "prompt_n": 4,
            "prompt_ms": 8.0,
            "prompt_per_token_ms": 2.0,
            "prompt_per_second": 500.0,
            "predicted_n": 3,
            "predicted_ms": 1000.0,
            "predicted_per_token_ms": pytest.approx(333.33, abs=0.01),
            "predicted_per_second": 3.0,
            "draft_n": 4,
            "draft_n_accepted": 1,
        },
    }


@pytest.mark.parametrize(
    ("finish", "n_predict", "found"),
    [
        (end(pb.FINISH_REASON_STOP), -1, ("eos", "", False)),
        (end(pb.FINISH_REASON_STOP, "x"), -1, ("word", "x", False)),
        (end(pb.FINISH_REASON_LENGTH, tokens=5), 5, ("limit", "", False)),
        (end(pb.FINISH_REASON_LENGTH, tokens=5), 9, ("limit", "", True)),
        (end(pb.FINISH_REASON_LENGTH, tokens=5), -1, ("limit", "", True)),
        (delta("x"), -1, ("limit", "", False)),
    ],
)
def test_why_it_ended(finish: pb.Delta, n_predict: int, found: tuple[str, str, bool]) -> None:
    asked = Asked(model="m", context_length=100, seed=SEED, n_predict=n_predict)
    answer = whole(asked, finish)
    assert (answer["stop_type"], answer["stopping_word"], answer["truncated"]) == found


def test_tokens_and_their_likelihood() -> None:
    asked = Asked(model="m", context_length=100, seed=SEED, logprobs=True, tokens=True)
    top = [pb.TokenLogprob(token_id=4, token=b"y", logprob=-0.25)]
    entry = pb.TokenLogprob(token_id=3, token=b"x", logprob=-0.5, top=top)
    answer = whole(asked, delta("x", token_ids=[3], logprobs=[entry]))
    assert answer["tokens"] == [3]
    assert answer["completion_probabilities"] == [
        {
            "id": 3,
            "token": "x",
            "logprob": -0.5,
            "bytes": [120],
            "top_logprobs": [{"id": 4, "token": "y", "logprob": -0.25, "bytes": [121]}],
        }
    ]


def test_some_of_the_fields() -> None:
    answer = {"a": {"b": 1, "c": {"d": 2}}, "e": None}
    assert selected(answer, ["a/b", "a/c/d", "e", "x", "a/x", "e/x", "a/b/x"]) == {
        "a/b": 1,
        "a/c/d": 2,
        "e": None,
    }


def test_streamed() -> None:
    chunks = Chunks(ASKED)
    found = list(chunks.started(pb.Started(prompt_tokens=9)))
    for one in (delta("x", 1, token_ids=[3]), delta("", 2), end(pb.FINISH_REASON_STOP, tokens=2)):
        found += chunks.delta(one)
    found += chunks.finished(pb.Finished())
    for event in found:
        TypeAdapter(InfillEvent).validate_python(event, strict=True)
    assert found[0] == {
        "index": 0,
        "content": "x",
        "tokens": [3],
        "stop": False,
        "id_slot": -1,
        "tokens_predicted": 1,
        "tokens_evaluated": 9,
    }
    assert len(found) == 2
    assert (found[1]["content"], found[1]["stop"], found[1]["tokens_predicted"]) == ("", True, 2)


# ------------------------------------------------------------------------------- the end in time


class Events:
    """A source of events, which take no time but the seconds among them."""

    def __init__(self, *events: pb.Delta | pb.Finished | float) -> None:
        self.left = list(events)

    def apart(self, milliseconds: int) -> None:
        raise AssertionError(milliseconds)

    async def start(self) -> pb.Started:
        return pb.Started(prompt_tokens=9)

    async def next(self) -> pb.Delta | pb.Finished:
        event = self.left.pop(0)
        if isinstance(event, float):
            await asyncio.sleep(event)
            return await self.next()
        return event


async def hurried(seconds: float, *events: pb.Delta | pb.Finished | float) -> list[Any]:
    source = Events(*events)
    reader = Hurried(source, seconds)
    await reader.start()
    found: list[Any] = []
    while not found or isinstance(found[-1], pb.Delta):
        found.append(await reader.next())
    return found


LAST = pb.Finished(usage=pb.Usage(completion_tokens=99))


async def test_in_time_nothing_is_changed() -> None:
    events: list[Any] = [delta("a\n", 1), delta("b", 2), end(pb.FINISH_REASON_STOP), LAST]
    assert await hurried(60, *events) == events


async def test_out_of_time_it_ends_with_the_line() -> None:
    found = await hurried(0, delta("a", 1), delta("b\nc", 2), delta("d", 3), LAST)
    assert [event.text for event in found[:-1]] == ["a", "b\nc"]
    assert found[-1].usage == pb.Usage(prompt_tokens=9, completion_tokens=2)


async def test_a_line_that_ended_in_time_is_enough_when_it_is_over() -> None:
    found = await hurried(0.01, delta("a\nb", 1), 0.05, delta("c", 2), delta("d", 3), LAST)
    assert [event.text for event in found[:-1]] == ["a\nb", "c"]


async def test_an_end_of_its_own_is_not_taken_from_it() -> None:
    last = delta("a\n", 1, finish=pb.ChoiceFinish(reason=pb.FINISH_REASON_STOP))
    assert await hurried(0, last, LAST) == [last, LAST]


# ----------------------------------------------------------------------------------- over HTTP


BODY = {"input_prefix": "def f(", "input_suffix": "):\n", "n_predict": 8}


async def post(edge: RunningEdge, path: str = "/infill", **fields: Any) -> tuple[int, Any]:
    return await edge.post(json.dumps({**BODY, **fields}).encode(), path)


@pytest.mark.parametrize("path", ["/infill", "/v1/infill", "/infill/"])
async def test_the_only_model_needs_no_name(edge: RunningEdge, path: str) -> None:
    status, answer = await post(edge, path)
    assert status == 200
    assert (answer["content"], answer["stop"], answer["model"]) == (
        "Hello, world!",
        True,
        "scripted",
    )


async def test_a_stream_ends_with_stop(edge: RunningEdge) -> None:
    async with edge.http.post(edge.url + "/infill", json={**BODY, "stream": True}) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        found = await EventReader(answer).rest()
    assert "".join(event["content"] for event in found) == "Hello, world!"
    assert [event["stop"] for event in found] == [False] * 4 + [True]


async def test_only_some_fields(edge: RunningEdge) -> None:
    fields = ["content", "timings/predicted_n", "generation_settings/n_ctx"]
    _, answer = await post(edge, response_fields=fields)
    assert answer == {
        "content": "Hello, world!",
        "timings/predicted_n": 4,
        "generation_settings/n_ctx": 4096,
    }


async def test_when_the_time_is_over_the_work_stops(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script(tokens=("a\n", "b"), endless=True, interval=0.002)
    _, answer = await post(edge, n_predict=-1, t_max_predict_ms=30)
    assert answer["stop_type"] == "limit"
    assert answer["tokens_predicted"] >= 2
    assert answer["content"].startswith("a\nb")
    await worker.backend.until(lambda: worker.backend.running == 0)


@pytest.mark.parametrize(
    ("error", "param"),
    [
        (ContextLengthExceeded(9, 8), "input_prefix"),
        (InvalidField("text.files[3].name", "is odd"), "input_extra[3].filename"),
        (InvalidField("text.suffix", "is odd"), "input_suffix"),
    ],
)
async def test_errors_have_its_names(
    edge: RunningEdge, worker: ScriptedWorker, error: Exception, param: str
) -> None:
    worker.backend.script = Script(errors={ADMISSION: error})
    status, answer = await post(edge)
    assert (status, answer["error"]["param"]) == (400, param)
