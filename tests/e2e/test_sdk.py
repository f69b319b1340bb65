"""The official OpenAI SDK against a real edge, a real worker and the real demo model."""

from __future__ import annotations

import concurrent.futures
import json
from typing import Any

import openai
import pytest

from tests.e2e.stack import MODEL_NAME, Stack, get


def chat(client: openai.OpenAI, text: str, **extra: Any) -> Any:
    return client.chat.completions.create(
        model=MODEL_NAME, messages=[{"role": "user", "content": text}], temperature=0, **extra
    )


def test_answer_and_usage(client: openai.OpenAI) -> None:
    answer = chat(client, "What is the capital of France?")
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    assert answer.object == "chat.completion"
    assert answer.model == MODEL_NAME
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_stream_equals_whole(client: openai.OpenAI) -> None:
    whole = chat(client, "Count from 1 to 20").choices[0].message.content
    chunks = list(
        chat(client, "Count from 1 to 20", stream=True, stream_options={"include_usage": True})
    )
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-2].choices[0].finish_reason == "stop"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole
    assert "7" in text


def test_conversation(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL_NAME,
        temperature=0,
        messages=[
            {"role": "user", "content": "What is the capital of France?"},
            {"role": "assistant", "content": "The capital of France is Paris."},
            {"role": "user", "content": "and of Italy?"},
        ],
    )
    assert "Rome" in (answer.choices[0].message.content or "")


def test_echo_of_what_sdk_tests_say(client: openai.OpenAI) -> None:
    said = chat(client, "Say this is a test").choices[0].message.content
    assert "this is a test" in said.lower()


def test_max_tokens(client: openai.OpenAI) -> None:
    answer = chat(client, "Count from 1 to 20", max_tokens=5)
    assert answer.usage.completion_tokens == 5
    assert answer.choices[0].finish_reason == "length"


def test_stop_string_is_not_in_the_text(client: openai.OpenAI) -> None:
    whole = chat(client, "Count from 1 to 20").choices[0].message.content
    answer = chat(client, "Count from 1 to 20", stop=["9"])
    assert answer.choices[0].message.content == whole.split("9")[0]
    assert answer.choices[0].finish_reason == "stop"


def test_seed_repeats(client: openai.OpenAI) -> None:
    def draw(seed: int) -> str | None:
        answer = client.chat.completions.create(
            model=MODEL_NAME,
            messages=[
                {"role": "user", "content": "Say something about gravity and zebras, please"}
            ],
            temperature=2.0,
            seed=seed,
            max_tokens=60,
            # The model is sure of its first words; what comes after its end is anybody's guess.
            extra_body={"ignore_eos": True},
        )
        return answer.choices[0].message.content

    assert draw(7) == draw(7)
    assert len({draw(seed) for seed in range(4)}) > 1


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL_NAME]
    assert client.models.retrieve(MODEL_NAME).object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/knows")


def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "model_not_found"


def test_prompt_longer_than_the_context(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, "word " * 20_000)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"


def test_many_at_once(client: openai.OpenAI) -> None:
    questions = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Spain": "Madrid"}
    asked = [country for country in questions for _ in range(3)]
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        answers = pool.map(
            lambda country: chat(client, f"What is the capital of {country}?"), asked
        )
    for country, answer in zip(asked, answers, strict=True):
        assert questions[country] in answer.choices[0].message.content


def test_health_and_metrics(stack: Stack) -> None:
    assert get(f"{stack.url}/health")[0] == 200
    status, body = get(f"{stack.url}/health/ready")
    assert status == 200
    assert json.loads(body)
    assert "# TYPE" in get(f"{stack.url}/metrics")[1]


def test_request_id_reaches_the_worker(stack: Stack, client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(
        model=MODEL_NAME,
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=4,
        extra_headers={"x-request-id": "trace-me-7"},
    )
    assert answer.headers["x-request-id"] == "trace-me-7"
    worker = next(p for p in stack.processes if p.name.startswith("worker"))
    assert "trace-me-7" in worker.output()
    assert stack.edge is not None
    assert "trace-me-7" in stack.edge.output()
    assert "Hello" not in stack.edge.output() + worker.output()
