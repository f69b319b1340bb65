"""Every rule of the contract that needs no model: what is refused, and under which path."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from protos.inference.v1 import inference_pb2 as pb
from services.worker import checks, validation
from services.worker.errors import ContextLengthExceeded, InvalidField
from tests.fakes.scripted import VOCABULARY, model_info

MODEL = model_info(adapters=["known"])
NAN, INF = float("nan"), float("inf")


def chat(*messages: pb.Message, **fields: Any) -> pb.GenerateRequest:
    user = pb.Message(role=pb.ROLE_USER, content=[pb.ContentPart(text="Hello")])
    return pb.GenerateRequest(chat=pb.ChatInput(messages=messages or [user], **fields))


def text(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(text=pb.TextInput(text="a"), **fields)


def user(**fields: Any) -> pb.Message:
    return pb.Message(role=pb.ROLE_USER, **fields)


def assistant(**fields: Any) -> pb.Message:
    return pb.Message(role=pb.ROLE_ASSISTANT, **fields)


def sampling(**fields: Any) -> pb.GenerateRequest:
    return text(sampling=pb.SamplingParams(**fields))


def call(**fields: Any) -> pb.GenerateRequest:
    given_fields = {"id": "1", "name": "f", "arguments_json": "{}", **fields}
    return chat(assistant(tool_calls=[pb.ToolCall(**given_fields)]))


def media(**fields: Any) -> pb.GenerateRequest:
    given_fields = {"mime_type": "image/png", "data": b"x", **fields}
    return chat(user(content=[pb.ContentPart(media=pb.Media(**given_fields))]))


def tools(*names: str, choice: pb.ToolChoice | None = None, **fields: Any) -> pb.GenerateRequest:
    declared = [pb.Tool(name=name, **fields) for name in names]
    return chat(tools=declared, tool_choice=choice)


def constraint(**fields: Any) -> pb.GenerateRequest:
    return text(constraint=pb.Constraint(**fields))


def resume(
    *choices: pb.ResumeChoice, n: int | None = None, seed: int | None = 1
) -> pb.GenerateRequest:
    return text(resume=pb.Resume(choices=choices), n=n, sampling=pb.SamplingParams(seed=seed))


def every(milliseconds: int) -> pb.GenerateRequest:
    made = text()
    made.output.min_delta_interval.FromMilliseconds(milliseconds)
    return made


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


MODE = pb.ToolChoice

INVALID: list[tuple[str, pb.GenerateRequest]] = [
    ("input", pb.GenerateRequest()),
    ("text.text", pb.GenerateRequest(text=pb.TextInput(add_bos=False))),
    ("tokens.ids", pb.GenerateRequest(tokens=pb.TokenInput())),
    ("tokens.ids[0]", pb.GenerateRequest(tokens=pb.TokenInput(ids=[-1]))),
    ("tokens.ids[2]", pb.GenerateRequest(tokens=pb.TokenInput(ids=[0, 1, VOCABULARY, -1]))),
    ("chat.messages", pb.GenerateRequest(chat=pb.ChatInput())),
    ("chat.messages[1].role", chat(user(), pb.Message())),
    ("chat.messages[0].role", chat(pb.Message(role=99))),  # type: ignore[arg-type]
    ("chat.messages[0].content[0]", chat(user(content=[pb.ContentPart()]))),
    ("chat.messages[0].name", chat(user(name="x" * 65))),
    ("chat.messages[0].tool_calls", chat(user(tool_calls=[pb.ToolCall(id="1", name="f")]))),
    ("chat.messages[0].reasoning", chat(user(reasoning="hm"))),
    ("chat.messages[0].tool_call_id", chat(pb.Message(role=pb.ROLE_TOOL))),
    ("chat.messages[0].tool_call_id", chat(user(tool_call_id="1"))),
    ("chat.messages[0].tool_calls[0].id", call(id="")),
    ("chat.messages[0].tool_calls[0].id", call(id="x" * 65)),
    ("chat.messages[0].tool_calls[0].name", call(name="")),
    ("chat.messages[0].tool_calls[0].arguments_json", call(arguments_json="[]")),
    ("chat.messages[0].tool_calls[0].arguments_json", call(arguments_json="{")),
    ("chat.messages[0].tool_calls[0].arguments_json", call(arguments_json=nested(65))),
    ("chat.messages[0].content[0].media.mime_type", media(mime_type="text/html")),
    ("chat.messages[0].content[0].media.mime_type", media(mime_type="")),
    ("chat.messages[0].content[0].media.data", media(data=b"")),
    ("chat.messages[0].content[0].media.detail", media(detail="very")),
    ("chat.tools", tools(*(f"f{at}" for at in range(129)))),
    ("chat.tools[0].name", tools("")),
    ("chat.tools[0].name", tools("a b")),
    ("chat.tools[0].name", tools("x" * 65)),
    ("chat.tools[0].name", tools("name\n")),
    ("chat.tools[1].name", tools("f", "f")),
    ("chat.tools[0].parameters_json_schema", tools("f", parameters_json_schema="true")),
    ("chat.tools[0].parameters_json_schema", tools("f", parameters_json_schema="[" * 10_000)),
    (
        "chat.tools[0].parameters_json_schema",
        tools("f", parameters_json_schema='{"a":"' + "x" * 65_536 + '"}'),
    ),
    ("chat.tool_choice.mode", tools("f", choice=MODE(mode=99))),  # type: ignore[arg-type]
    ("chat.tool_choice.mode", tools(choice=MODE(mode=MODE.MODE_REQUIRED))),
    ("chat.tool_choice.allowed_names[1]", tools("f", choice=MODE(allowed_names=["f", "g"]))),
    ("chat.template_args_json", chat(template_args_json="[]")),
    ("chat.documents_json", chat(documents_json="{}")),
    ("chat.continue_final_message", chat(continue_final_message=True)),
    (
        "chat.add_generation_prompt",
        chat(assistant(), continue_final_message=True, add_generation_prompt=True),
    ),
    ("sampling.temperature", sampling(temperature=-0.1)),
    ("sampling.temperature", sampling(temperature=2.1)),
    ("sampling.temperature", sampling(temperature=NAN)),
    ("sampling.temperature", sampling(temperature=1e300)),
    ("sampling.top_p", sampling(top_p=1.1)),
    ("sampling.min_p", sampling(min_p=-0.1)),
    ("sampling.typical_p", sampling(typical_p=NAN)),
    ("sampling.min_p", sampling(min_p=1.1)),
    ("sampling.typical_p", sampling(typical_p=1.1)),
    ("sampling.repetition_penalty", sampling(repetition_penalty=0)),
    ("sampling.repetition_penalty", sampling(repetition_penalty=INF)),
    ("sampling.presence_penalty", sampling(presence_penalty=2.1)),
    ("sampling.presence_penalty", sampling(presence_penalty=-2.1)),
    ("sampling.frequency_penalty", sampling(frequency_penalty=-2.1)),
    ("sampling.frequency_penalty", sampling(frequency_penalty=2.1)),
    ("sampling.logit_bias[7]", sampling(logit_bias={7: -101})),
    ("sampling.logit_bias[7]", sampling(logit_bias={7: 101})),
    ("sampling.logit_bias[7]", sampling(logit_bias={7: NAN})),
    ("sampling.logit_bias[-1]", sampling(logit_bias={-1: 1})),
    (f"sampling.logit_bias[{VOCABULARY}]", sampling(logit_bias={VOCABULARY: 1})),
    ("sampling.logit_bias", sampling(logit_bias=dict.fromkeys(range(1025), 1.0))),
    ("sampling.dry.multiplier", sampling(dry=pb.Dry(multiplier=-1))),
    ("sampling.dry.base", sampling(dry=pb.Dry(multiplier=1, base=0.9))),
    ("sampling.dry.sequence_breakers", sampling(dry=pb.Dry(sequence_breakers=["a"] * 17))),
    ("sampling.xtc.probability", sampling(xtc=pb.Xtc(probability=1.1))),
    ("sampling.xtc.threshold", sampling(xtc=pb.Xtc(threshold=-1))),
    ("sampling.xtc.threshold", sampling(xtc=pb.Xtc(threshold=1.1))),
    ("sampling.mirostat.version", sampling(mirostat=pb.Mirostat(version=3))),
    ("sampling.mirostat.tau", sampling(mirostat=pb.Mirostat(version=1, tau=0))),
    ("sampling.mirostat.eta", sampling(mirostat=pb.Mirostat(version=1, eta=NAN))),
    ("stop.strings", text(stop=pb.StopConditions(strings=["a"] * 17))),
    ("stop.strings[1]", text(stop=pb.StopConditions(strings=["a", ""]))),
    ("stop.strings[0]", text(stop=pb.StopConditions(strings=["a" * 257]))),
    ("stop.token_ids", text(stop=pb.StopConditions(token_ids=[1] * 65))),
    ("stop.token_ids[0]", text(stop=pb.StopConditions(token_ids=[VOCABULARY]))),
    ("output.top_logprobs", text(output=pb.OutputOptions(logprobs=True, top_logprobs=21))),
    ("output.top_logprobs", text(output=pb.OutputOptions(top_logprobs=1))),
    ("output.min_delta_interval", every(milliseconds=5500)),
    ("output.min_delta_interval", every(milliseconds=-500)),
    ("constraint", constraint()),
    ("constraint.json_object", constraint(json_object=False)),
    ("constraint.json_schema", constraint(json_schema="")),
    ("constraint.json_schema", constraint(json_schema="1")),
    ("constraint.json_schema", constraint(json_schema=nested(17))),
    ("constraint.json_schema", constraint(json_schema='{"a":"' + "x" * 65_536 + '"}')),
    ("constraint.regex", constraint(regex="")),
    ("constraint.regex", constraint(regex="a" * 65_537)),
    ("constraint.gbnf", constraint(gbnf="ä" * 32_769)),
    ("constraint.lark", constraint(lark="")),
    ("constraint.choice.values", constraint(choice=pb.ChoiceList())),
    ("constraint.choice.values", constraint(choice=pb.ChoiceList(values=["a"] * 1025))),
    ("constraint.choice.values[0]", constraint(choice=pb.ChoiceList(values=[""]))),
    ("constraint.choice.values[1]", constraint(choice=pb.ChoiceList(values=["a", "b" * 4097]))),
    ("n", text(n=0)),
    ("n", text(n=129)),
    ("best_of", text(n=3, best_of=2)),
    ("best_of", text(best_of=0)),
    ("best_of", text(best_of=129)),
    ("tenant", text(tenant="ä" * 65)),
    ("priority", text(priority=-101)),
    ("priority", text(priority=101)),
    ("cache_namespace", text(cache_namespace="x" * 129)),
    ("adapter", text(adapter="unknown")),
    ("speculation.max_draft_tokens", text(speculation=pb.Speculation(max_draft_tokens=0))),
    ("speculation.max_draft_tokens", text(speculation=pb.Speculation(max_draft_tokens=65))),
    ("speculation.max_ngram", text(speculation=pb.Speculation(max_ngram=17))),
    ("sampling.seed", resume(seed=None)),
    ("resume.choices[0].index", resume(pb.ResumeChoice(index=1))),
    ("resume.choices[1].index", resume(pb.ResumeChoice(), pb.ResumeChoice(), n=2)),
    ("resume.choices[0].token_ids[1]", resume(pb.ResumeChoice(token_ids=[0, -1]))),
]

VALID: list[pb.GenerateRequest] = [
    text(),
    chat(),
    pb.GenerateRequest(text=pb.TextInput()),
    pb.GenerateRequest(text=pb.TextInput(suffix="b", add_bos=False)),
    pb.GenerateRequest(text=pb.TextInput(fill=True, add_bos=False)),
    pb.GenerateRequest(text=pb.TextInput(text="a", add_bos=False)),
    pb.GenerateRequest(text=pb.TextInput(add_bos=True)),
    pb.GenerateRequest(tokens=pb.TokenInput(ids=[0, VOCABULARY - 1])),
    # The context, but for a token to come.
    pb.GenerateRequest(tokens=pb.TokenInput(ids=[0] * 4095)),
    chat(user(name="x" * 64), assistant(reasoning="hm")),
    call(arguments_json=""),
    call(arguments_json=nested(64)),
    media(detail="high"),
    media(mime_type="audio/wav"),
    tools("f", "x" * 64, choice=MODE(mode=MODE.MODE_REQUIRED, allowed_names=["f"])),
    chat(pb.Message(role=pb.ROLE_TOOL, tool_call_id="1")),
    chat(assistant(), continue_final_message=True, add_generation_prompt=False),
    sampling(temperature=0, top_p=0, min_p=1, typical_p=0, presence_penalty=-2),
    sampling(temperature=2, top_p=1, repetition_penalty=0.1, frequency_penalty=2),
    sampling(logit_bias=dict.fromkeys(range(1024), -100.0)),
    sampling(mirostat=pb.Mirostat(version=2, tau=5, eta=0.1), seed=2**64 - 1),
    sampling(mirostat=pb.Mirostat(version=1, tau=0.5), dry=pb.Dry(multiplier=1, base=1)),
    sampling(mirostat=pb.Mirostat(version=0)),
    text(stop=pb.StopConditions(strings=["ä" * 256] * 16, token_ids=[0] * 64, max_tokens=0)),
    text(output=pb.OutputOptions(logprobs=True, top_logprobs=20)),
    every(milliseconds=5000),
    every(milliseconds=1500),
    constraint(json_schema=nested(16)),
    constraint(json_schema="true"),
    constraint(regex="a" * 65_536),
    constraint(choice=pb.ChoiceList(values=["b" * 4096] * 1024)),
    text(n=128, best_of=128),
    text(best_of=1, speculation=pb.Speculation(max_draft_tokens=1, max_ngram=1)),
    text(best_of=2, tenant="ä" * 64, priority=100, adapter="known"),
    resume(pb.ResumeChoice()),
    resume(pb.ResumeChoice(index=1, token_ids=[5]), pb.ResumeChoice(index=0), n=2),
]


def refused(validate: Callable[[Any, pb.ModelInfo], None], request: Any) -> str:
    with pytest.raises(InvalidField) as caught:
        validate(request, MODEL)
    return caught.value.metadata["field"]


@pytest.mark.parametrize(("field", "request_"), INVALID, ids=[field for field, _ in INVALID])
def test_a_wrong_field_is_named(field: str, request_: pb.GenerateRequest):
    assert refused(validation.generate, request_) == field


@pytest.mark.parametrize("request_", VALID)
def test_what_the_contract_allows_is_allowed(request_: pb.GenerateRequest):
    validation.generate(request_, MODEL)


def test_a_vocabulary_that_is_not_known_bounds_nothing():
    model = model_info(vocabulary_size=0)
    validation.generate(pb.GenerateRequest(tokens=pb.TokenInput(ids=[2**31 - 1])), model)


def test_adapters_are_not_judged_where_there_are_none():
    validation.generate(text(adapter="any"), model_info(capabilities=[]))


@pytest.mark.parametrize("count", [4096, 2_000_000])
def test_more_tokens_than_the_context_takes_are_not_looked_at(count: int):
    tokens = pb.TokenInput(ids=[-1] * count)
    with pytest.raises(ContextLengthExceeded):
        validation.generate(pb.GenerateRequest(tokens=tokens), MODEL)
    with pytest.raises(ContextLengthExceeded):
        over = pb.EmbedInput(tokens=pb.TokenInput(ids=[-1] * (count % 4096 + 4097)))
        validation.embed(pb.EmbedRequest(inputs=[over]), MODEL)


def test_token_ids_are_counted_before_they_are_looked_at():
    ids = [-1] * (checks.MOST_TOKEN_IDS + 1)
    unknown = model_info(context_length=0)
    prompt = pb.GenerateRequest(tokens=pb.TokenInput(ids=ids))
    assert refused(lambda r, _: validation.generate(r, unknown), prompt) == "tokens.ids"
    half = pb.EmbedInput(tokens=pb.TokenInput(ids=ids[: len(ids) // 2 + 1]))
    both = pb.EmbedRequest(inputs=[half, half], truncate=True)
    assert refused(validation.embed, both) == "inputs"
    resumed = resume(pb.ResumeChoice(token_ids=ids))
    assert refused(validation.generate, resumed) == "resume.choices"
    assert refused(validation.detokenize, pb.DetokenizeRequest(token_ids=ids)) == "token_ids"


LARGE: list[tuple[str, pb.GenerateRequest]] = [
    ("chat.messages", chat(*[pb.Message()] * 4097)),
    ("chat.messages", chat(*[user(content=[pb.ContentPart()] * 4097)] * 2)),
    ("chat.messages", chat(user(tool_calls=[pb.ToolCall()] * 8193))),
    ("chat.tool_choice.allowed_names", tools("a", choice=pb.ToolChoice(allowed_names=["b"] * 129))),
    ("chat", chat(pb.Message(), documents_json="x" * (2**21 + 1))),
    ("chat", chat(*[assistant(tool_calls=[pb.ToolCall(arguments_json="x" * 2**20)])] * 3)),
    ("resume.choices", resume(*[pb.ResumeChoice(index=999)] * 129)),
]


@pytest.mark.parametrize(("field", "request_"), LARGE)
def test_all_is_counted_before_it_is_looked_at(field: str, request_: pb.GenerateRequest):
    assert refused(validation.generate, request_) == field


def test_refusals_never_repeat_the_value():
    with pytest.raises(InvalidField) as caught:
        validation.generate(tools("secret word"), MODEL)
    assert "secret" not in str(caught.value)


def test_messages_name_the_range():
    with pytest.raises(InvalidField, match=r"^must be 0 to 2$"):
        validation.generate(sampling(temperature=3), MODEL)


EMBED: list[tuple[str, pb.EmbedRequest]] = [
    ("inputs", pb.EmbedRequest()),
    ("inputs", pb.EmbedRequest(inputs=[pb.EmbedInput(text="a")] * 2049)),
    ("inputs[1]", pb.EmbedRequest(inputs=[pb.EmbedInput(text="a"), pb.EmbedInput()])),
    ("inputs[0].text", pb.EmbedRequest(inputs=[pb.EmbedInput(text="")])),
    (
        "inputs[0].tokens.ids",
        pb.EmbedRequest(inputs=[pb.EmbedInput(tokens=pb.TokenInput())]),
    ),
    ("dimensions", pb.EmbedRequest(inputs=[pb.EmbedInput(text="a")], dimensions=0)),
    ("dimensions", pb.EmbedRequest(inputs=[pb.EmbedInput(text="a")], dimensions=9)),
    ("priority", pb.EmbedRequest(inputs=[pb.EmbedInput(text="a")], priority=200)),
]


@pytest.mark.parametrize(("field", "request_"), EMBED)
def test_embed(field: str, request_: pb.EmbedRequest):
    assert refused(validation.embed, request_) == field


RERANK: list[tuple[str, pb.RerankRequest]] = [
    ("query", pb.RerankRequest(documents=["a"])),
    ("documents", pb.RerankRequest(query="a")),
    ("documents", pb.RerankRequest(query="a", documents=["a"] * 1025)),
    ("documents[1]", pb.RerankRequest(query="a", documents=["a", ""])),
    ("top_n", pb.RerankRequest(query="a", documents=["a"], top_n=0)),
    ("tenant", pb.RerankRequest(query="a", documents=["a"], tenant="x" * 129)),
]


@pytest.mark.parametrize(("field", "request_"), RERANK)
def test_rerank(field: str, request_: pb.RerankRequest):
    assert refused(validation.rerank, request_) == field


def test_what_may_be_embedded_and_ranked():
    for length, truncate in ((4096, False), (4097, True)):
        tokens = pb.TokenInput(ids=[0] * length)
        inputs = [pb.EmbedInput(tokens=tokens)]
        validation.embed(pb.EmbedRequest(inputs=inputs, truncate=truncate, dimensions=1), MODEL)
    validation.rerank(pb.RerankRequest(query="a", documents=["a"], top_n=1), MODEL)


def test_render_prompt():
    assert refused(validation.render_prompt, pb.RenderPromptRequest()) == "chat"
    empty = pb.RenderPromptRequest(chat=pb.ChatInput())
    assert refused(validation.render_prompt, empty) == "chat.messages"


def test_detokenize():
    request = pb.DetokenizeRequest(token_ids=[1, -5])
    assert refused(validation.detokenize, request) == "token_ids[1]"


@given(st.binary(max_size=200))
def test_no_request_makes_validation_fail_otherwise(data: bytes):
    request = pb.GenerateRequest()
    with suppress(DecodeError):
        request.MergeFromString(data)
    with suppress(InvalidField):
        validation.generate(request, MODEL)
