"""Several choices, prompts' logprobs, resumption and reuse over llama.cpp and the bundled model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from tests.llama.real_kit import collect, request
from tests.llama.test_adapters import lora

pytestmark = pytest.mark.real


def texts(responses: list[pb.GenerateResponse]) -> dict[int, str]:
    found: dict[int, str] = {}
    for response in responses:
        if response.HasField("delta"):
            index = response.delta.index
            found[index] = found.get(index, "") + response.delta.text
    return found


def usage(responses: list[pb.GenerateResponse]) -> pb.Usage:
    return responses[-1].finished.usage


async def test_choices_of_one_prompt(serve):
    backend = await serve()
    made = request("Tell me a story about a lion.", max_tokens=40)
    # What it has not learnt by heart.
    made.constraint.regex = "[a-z]{12}"
    made.n = 3
    made.sampling.temperature, made.sampling.seed = 2.0, 3
    responses = await collect(backend, made)
    assert len(set(texts(responses).values())) > 1
    ends = [r.delta.index for r in responses if r.delta.HasField("finish")]
    assert sorted(ends) == [0, 1, 2]
    assert usage(responses).cached_tokens == 0
    assert usage(responses).completion_tokens <= 120
    # Two of the three had the prompt's cells from the first.
    counted = backend._metrics
    reused = counted.reused_tokens._value.get()
    assert reused >= 2 * (usage(responses).prompt_tokens - 17)


async def test_the_best_of_several(serve):
    backend = await serve()
    made = request("Tell me a story about a lion.", max_tokens=30)
    made.sampling.temperature, made.sampling.seed = 1.5, 8
    made.output.logprobs = True
    made.n = 4
    everyone = await collect(backend, made)
    means = {}
    for index in range(4):
        values = [
            entry.logprob
            for response in everyone
            if response.delta.index == index
            for entry in response.delta.logprobs
        ]
        means[index] = sum(values) / len(values)
    made.n, made.best_of = 2, 4
    made.output.logprobs = False
    best = await collect(backend, made)
    ranked = sorted(means, key=lambda index: -means[index])
    assert texts(best) == {n: texts(everyone)[ranked[n]] for n in range(2)}
    assert not any(response.delta.logprobs for response in best)
    assert usage(best).completion_tokens == usage(everyone).completion_tokens


async def test_logprobs_of_the_prompt(serve):
    backend = await serve()
    made = request("What is the capital of France?", max_tokens=1)
    made.output.prompt_logprobs = made.output.logprobs = True
    made.output.top_logprobs = 3
    await collect(backend, request("What is the capital of France?"))
    responses = await collect(backend, made)
    entries = responses[1].delta.prompt_logprobs
    assert len(entries) == responses[0].started.prompt_tokens
    assert not entries[0].HasField("logprob")
    assert all(entry.logprob <= 0 and len(entry.top) == 3 for entry in entries[1:])
    prompt = b"".join(entry.token for entry in entries).decode()
    assert "capital of France" in prompt


async def test_a_generation_goes_on_where_another_worker_left_it(serve):
    first, second = await serve(), await serve()
    made = request("Count from 1 to 12.", max_tokens=60)
    made.sampling.seed = 4
    made.output.token_ids = True
    whole = await collect(first, made)
    assert "11, 12" in texts(whole)[0]
    beginning = pb.GenerateRequest()
    beginning.CopyFrom(made)
    # Up to a comma: what an end flushes would be told again.
    beginning.stop.max_tokens = 8
    seen = await collect(first, beginning)
    deltas = [response.delta for response in seen if response.HasField("delta")]
    ids = [token for delta in deltas for token in delta.token_ids]
    assert len(ids) == 8
    delivered = deltas[-1].delivered_bytes
    made.resume.choices.add(index=0, token_ids=ids, delivered_bytes=delivered)
    rest = await collect(second, made)
    assert texts(seen)[0] + texts(rest)[0] == texts(whole)[0]
    assert usage(rest).completion_tokens == usage(whole).completion_tokens


async def test_a_second_turn_finds_the_first(serve):
    backend = await serve()
    made = request("What is the capital of France?")
    answer = await collect(backend, made)
    made.chat.messages.add(role=pb.ROLE_ASSISTANT).content.add(text=texts(answer)[0])
    made.chat.messages.add(role=pb.ROLE_USER).content.add(text="And of Italy?")
    second = await collect(backend, made)
    assert usage(second).cached_tokens >= usage(answer).prompt_tokens
    assert "Rome" in texts(second)[0]


async def test_requests_with_one_system_prompt_compute_it_once(serve):
    backend = await serve(prefill_budget=32)
    system = "You are a helpful assistant. " + "You know all capitals of the world. " * 12

    def asking(country: str) -> pb.GenerateRequest:
        made = pb.GenerateRequest(stop=pb.StopConditions(max_tokens=16))
        made.chat.messages.add(role=pb.ROLE_SYSTEM).content.add(text=system)
        made.chat.messages.add(role=pb.ROLE_USER).content.add(
            text=f"What is the capital of {country}?"
        )
        made.sampling.temperature = 0
        return made

    countries = ("France", "Italy", "Spain", "Japan", "Peru", "Kenya")
    results: list[Any] = await asyncio.gather(*(collect(backend, asking(c)) for c in countries))
    cached = sorted(usage(responses).cached_tokens for responses in results)
    assert cached[0] == 0
    assert min(cached[1:]) > 80
    found = [texts(responses)[0] for responses in results]
    assert "Paris" in found[0]
    assert "Tokyo" in found[3]


async def test_an_adapter_of_the_request(serve, tmp_path):
    adapter = lora(tmp_path / "one.gguf", {"blk.3.ffn_up.weight": ((4, 256), (640, 4))})
    backend = await serve(lora=[f"one={adapter}:3"])
    assert list(backend.model().adapters) == ["one"]
    # Long enough to be worth putting back, if it has been parked meanwhile.
    asked = "Count from 1 to 9. " * 6
    plain, adapted = request(asked), request(asked)
    adapted.adapter = "one"
    both = await asyncio.gather(collect(backend, plain), collect(backend, adapted))
    again = await collect(backend, plain)
    assert texts(both[0]) == texts(again)
    assert texts(both[0]) != texts(both[1])
    assert usage(both[1]).cached_tokens == 0
    assert usage(again).cached_tokens > 0
