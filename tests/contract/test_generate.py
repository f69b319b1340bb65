"""Generate as the contract has it: events, their order, usage, choices, resuming."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from tests.contract.calling import Stub, collect, generate_failure, needs
from tests.contract.kinds import short


async def test_events_come_in_order_and_agree(stub: Stub, model: pb.ModelInfo):
    events = await collect(stub.Generate(short(model)))

    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert set(kinds[1:-1]) == {"delta"}
    started, deltas = events[0].started, [event.delta for event in events[1:-1]]
    assert started.model_identity == model.identity
    assert started.prompt_tokens > 0
    assert started.seed == 7
    assert [delta.HasField("finish") for delta in deltas].count(True) == 1
    assert deltas[-1].finish.reason in {pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH}
    counts = [delta.completion_tokens for delta in deltas]
    assert counts == sorted(counts)
    usage = events[-1].finished.usage
    assert usage.prompt_tokens == started.prompt_tokens
    assert usage.completion_tokens == counts[-1]
    assert 0 < usage.completion_tokens <= 16
    assert usage.cached_tokens <= usage.prompt_tokens


async def test_max_tokens_ends_with_length(stub: Stub, model: pb.ModelInfo):
    request = short(model)
    request.stop.max_tokens = 3
    request.stop.ignore_eos = True

    events = await collect(stub.Generate(request))

    assert events[-2].delta.finish.reason == pb.FINISH_REASON_LENGTH
    assert events[-1].finished.usage.completion_tokens == 3


async def test_no_tokens_evaluate_the_prompt_only(stub: Stub, model: pb.ModelInfo):
    request = short(model)
    request.stop.max_tokens = 0

    events = await collect(stub.Generate(request))

    assert events[0].started.prompt_tokens > 0
    assert events[-2].delta.finish.reason == pb.FINISH_REASON_LENGTH
    assert events[-1].finished.usage.completion_tokens == 0


async def test_an_equal_request_gets_an_equal_answer(stub: Stub, model: pb.ModelInfo):
    request = short(model)
    request.sampling.temperature = 1

    answers = [
        "".join(event.delta.text for event in await collect(stub.Generate(request)))
        for _ in range(2)
    ]

    assert answers[0] == answers[1] != ""


async def test_a_drawn_seed_is_told(stub: Stub, model: pb.ModelInfo):
    request = short(model)
    request.sampling.ClearField("seed")

    events = await collect(stub.Generate(request))

    assert events[0].started.seed > 0


async def test_token_ids_come_when_asked_for(stub: Stub, model: pb.ModelInfo):
    request = short(model)
    request.output.token_ids = True

    events = await collect(stub.Generate(request))

    ids = [token for event in events for token in event.delta.token_ids]
    assert len(ids) == events[-1].finished.usage.completion_tokens
    assert all(0 <= token < model.vocabulary_size for token in ids)


async def test_logprobs_are_parallel_to_tokens(stub: Stub, model: pb.ModelInfo):
    needs(model, pb.CAPABILITY_LOGPROBS)
    request = short(model)
    request.output.token_ids = request.output.logprobs = True
    request.output.top_logprobs = 3

    events = await collect(stub.Generate(request))

    for event in events:
        assert [entry.token_id for entry in event.delta.logprobs] == list(event.delta.token_ids)
        for entry in event.delta.logprobs:
            assert entry.logprob <= 0
            assert len(entry.top) == 3
            tops = [top.logprob for top in entry.top]
            assert tops == sorted(tops, reverse=True)


async def test_the_tokens_of_a_chats_content_are_told(stub: Stub, model: pb.ModelInfo):
    needs(model, pb.CAPABILITY_LOGPROBS)
    needs(model, pb.CAPABILITY_CHAT)
    request = _chat()
    request.model_identity = model.identity
    request.stop.max_tokens = 16
    request.output.logprobs = True

    deltas = [event.delta for event in await collect(stub.Generate(request))]

    entries = [entry for delta in deltas for entry in delta.logprobs]
    own = [own for delta in deltas for own in delta.in_text]
    assert len(own) <= len(entries)
    told = b"".join(entry.token for entry, is_own in zip(entries, own, strict=False) if is_own)
    assert told.decode() == "".join(delta.text for delta in deltas)


async def test_every_choice_finishes_once(stub: Stub, model: pb.ModelInfo):
    needs(model, pb.CAPABILITY_MULTIPLE_CHOICES)
    request = short(model)
    request.n = 3

    events = await collect(stub.Generate(request))

    ends = [event.delta.index for event in events if event.delta.HasField("finish")]
    assert sorted(ends) == [0, 1, 2]
    last = {event.delta.index: event.delta.completion_tokens for event in events[1:-1]}
    assert events[-1].finished.usage.completion_tokens == sum(last.values())


async def test_a_generation_continues_where_it_stood(stub: Stub, model: pb.ModelInfo):
    needs(model, pb.CAPABILITY_RESUME)
    request = short(model)
    request.output.token_ids = True
    whole = [event.delta for event in await collect(stub.Generate(request))][1:-1]
    half = whole[: len(whole) // 2]
    choice = request.resume.choices.add(delivered_bytes=half[-1].delivered_bytes)
    for delta in half:
        choice.token_ids.extend(delta.token_ids)

    rest = await collect(stub.Generate(request))

    def text(deltas: list[pb.Delta]) -> str:
        return "".join(delta.text for delta in deltas)

    assert text(half) + text([event.delta for event in rest]) == text(whole)
    assert rest[-1].finished.usage.completion_tokens == whole[-1].completion_tokens


# What is wrong with a request whatever the model: the field's path, and how it gets so.
INVALID: dict[str, Callable[[Any], object]] = {
    "input": lambda request: request.ClearField("chat") or request.ClearField("text"),
    "chat.messages": lambda request: request.chat.ClearField("messages"),
    "chat.messages[0].role": lambda request: request.chat.messages.insert(0, pb.Message()),
    "tokens.ids": lambda request: request.tokens.SetInParent(),
    "tokens.ids[1]": lambda request: request.tokens.ids.extend((0, -1)),
    "n": lambda request: setattr(request, "n", 0),
    "best_of": lambda request: setattr(request, "best_of", 129),
    "priority": lambda request: setattr(request, "priority", 101),
    "tenant": lambda request: setattr(request, "tenant", "x" * 129),
    "sampling.temperature": lambda request: setattr(request.sampling, "temperature", 2.5),
    "sampling.top_p": lambda request: setattr(request.sampling, "top_p", float("nan")),
    "sampling.logit_bias[5]": lambda request: request.sampling.logit_bias.update({5: 101}),
    "stop.strings[0]": lambda request: request.stop.strings.append(""),
    "stop.strings": lambda request: request.stop.strings.extend("abcdefghijklmnopq"),
    "output.top_logprobs": lambda request: setattr(request.output, "top_logprobs", 21),
    "constraint": lambda request: request.constraint.SetInParent(),
    "constraint.json_schema": lambda request: setattr(request.constraint, "json_schema", "{"),
}


@pytest.mark.parametrize("field", INVALID)
async def test_a_wrong_field_is_named(field: str, stub: Stub, model: pb.ModelInfo):
    request = short(model)
    if field == "chat.messages":
        request.ClearField("text")
        request.chat.SetInParent()
    INVALID[field](request)

    failure = await generate_failure(stub, request)

    assert failure.code.name == "INVALID_ARGUMENT"
    assert failure.reason == pb.ERROR_REASON_INVALID_FIELD
    assert failure.metadata == {"field": field}


# What needs a capability: the capability, and how a request comes to need it.
NEEDS: dict[str, Callable[[Any], object]] = {
    "CHAT": lambda request: request.CopyFrom(_chat()),
    "TOOLS": lambda request: request.CopyFrom(_chat(tools=[pb.Tool(name="f")])),
    "REASONING": lambda request: request.CopyFrom(_chat(enable_thinking=True)),
    "LOGPROBS": lambda request: setattr(request.output, "logprobs", True),
    "PROMPT_LOGPROBS": lambda request: setattr(request.output, "prompt_logprobs", True),
    "CONSTRAINT": lambda request: setattr(request.constraint, "regex", "a+"),
    "RESUME": lambda request: request.resume.SetInParent(),
    "MULTIPLE_CHOICES": lambda request: setattr(request, "n", 2),
    "BEST_OF": lambda request: setattr(request, "best_of", 2),
    "INFILL": lambda request: request.text.MergeFrom(pb.TextInput(text="a", suffix="b")),
    "IMAGE": lambda request: request.CopyFrom(_media("image/png")),
    "AUDIO": lambda request: request.CopyFrom(_media("audio/wav")),
    "ADAPTERS": lambda request: setattr(request, "adapter", "none-such"),
    "EXTENDED_SAMPLING": lambda request: setattr(request.sampling.mirostat, "version", 2),
    "SPECULATION": lambda request: setattr(request.speculation, "enabled", True),
}


def _chat(**fields) -> pb.GenerateRequest:
    request = pb.GenerateRequest(chat=pb.ChatInput(**fields))
    request.chat.messages.add(role=pb.ROLE_USER).content.add(text="Hello")
    request.sampling.seed = 1
    return request


def _media(mime_type: str) -> pb.GenerateRequest:
    request = _chat()
    request.chat.messages[0].content.add(media=pb.Media(mime_type=mime_type, data=b"data"))
    return request


@pytest.mark.parametrize("name", NEEDS)
async def test_what_is_not_listed_is_unimplemented(name: str, stub: Stub, model: pb.ModelInfo):
    capability = pb.Capability.Value(f"CAPABILITY_{name}")
    if capability in model.capabilities:
        pytest.skip("this kind has it")
    request = short(model)
    NEEDS[name](request)

    failure = await generate_failure(stub, request)

    assert failure.code.name == "UNIMPLEMENTED"
    assert failure.reason == pb.ERROR_REASON_UNSUPPORTED
    # A thing can need two capabilities, of which the first that lacks is named.
    chat_lacks = pb.CAPABILITY_CHAT not in model.capabilities and request.HasField("chat")
    assert failure.metadata == {"capability": "CHAT" if chat_lacks else name}


async def test_another_model_is_refused(stub: Stub, model: pb.ModelInfo):
    request = short(model)
    request.model_identity = "sha256:another"

    failure = await generate_failure(stub, request)

    assert failure.code.name == "FAILED_PRECONDITION"
    assert failure.reason == pb.ERROR_REASON_MODEL_MISMATCH
    assert failure.metadata == {"expected": "sha256:another", "actual": model.identity}


async def test_any_model_will_do_when_none_is_named(stub: Stub, model: pb.ModelInfo):
    request = short(model)
    request.model_identity = ""

    assert (await collect(stub.Generate(request)))[-1].HasField("finished")
