"""Completions by the official SDK, and /infill, over a real worker with the demo model."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import openai
import pytest

from tests.e2e.stack import MODEL_NAME, Stack, get, running_stack

CONTEXT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
CONTINUATION = "The capital of France is Paris."


def complete(client: openai.OpenAI, prompt: Any, **fields: Any) -> Any:
    return client.completions.create(
        model=MODEL_NAME, prompt=prompt, **{"temperature": 0, **fields}
    )


def post(stack: Stack, path: str, **body: Any) -> Any:
    request = urllib.request.Request(
        stack.url + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def tokens_of(stack: Stack, text: str) -> list[int]:
    """As the model's own tokenizer has them, control tokens included, no BOS."""
    found = post(
        stack, "/v1/tokenize", model=MODEL_NAME, content=text, add_special=False, parse_special=True
    )
    tokens: list[int] = found["tokens"]
    return tokens


def test_control_tokens_of_a_text_are_the_models(client: openai.OpenAI) -> None:
    """A chat that a client rendered itself is answered like a chat."""
    answer = complete(client, CONTEXT, max_tokens=24)
    assert "Paris" in answer.choices[0].text
    assert answer.choices[0].finish_reason == "stop"


def test_stream_equals_whole_for_several_prompts(client: openai.OpenAI) -> None:
    prompts = [CONTEXT, CONTEXT.replace("France", "Italy"), "Count from 1 to"]
    fields: dict[str, Any] = {"echo": True, "n": 2, "max_tokens": 12, "logprobs": 1}
    whole = complete(client, prompts, **fields)
    texts = [""] * 6
    logprobs: list[list[float | None]] = [[] for _ in range(6)]
    for chunk in complete(client, prompts, stream=True, **fields):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            if choice.logprobs is not None:
                logprobs[choice.index] += choice.logprobs.token_logprobs
    assert texts == [choice.text for choice in whole.choices]
    for index, choice in enumerate(whole.choices):
        assert choice.text.startswith(prompts[index // 2])
        assert len(logprobs[index]) == len(choice.logprobs.tokens)
        assert logprobs[index][0] is None
    assert "Rome" in texts[2]


@pytest.mark.parametrize("as_tokens", [True, False])
@pytest.mark.parametrize("max_tokens", [0, 1])
def test_offsets_are_places_in_the_text(
    stack: Stack, client: openai.OpenAI, as_tokens: bool, max_tokens: int
) -> None:
    text = "Zürich, 東京 and 😀"
    prompt = tokens_of(stack, text) if as_tokens else text
    choice = complete(client, prompt, echo=True, logprobs=0, max_tokens=max_tokens).choices[0]
    told = choice.logprobs
    assert choice.text.startswith(text)
    assert told.text_offset[0] == 0
    assert told.token_logprobs[0] is None
    assert all(value < 0 for value in told.token_logprobs[1:])
    places = [*told.text_offset, len(choice.text)]
    for token, (here, following) in zip(told.tokens, pairwise(places), strict=True):
        assert here <= following
        if not token.startswith("bytes:"):
            assert choice.text[here:following] == token or token.startswith("<|")


def test_as_evaluation_harnesses_ask(stack: Stack, client: openai.OpenAI) -> None:
    """lm-eval's request: tokens, echo, one token more; and its sums, against those of generation.

    What the prompt's logprobs say of a continuation is what generating it would have said.
    """
    context, continuation = tokens_of(stack, CONTEXT), tokens_of(stack, CONTINUATION)
    wrong = tokens_of(stack, "The capital of France is Madrid.")
    answer = complete(
        client, [context + continuation, context + wrong], echo=True, logprobs=1, max_tokens=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    sums, greedy = [], []
    for choice, given in zip(answer.choices, (continuation, wrong), strict=True):
        told = choice.logprobs
        # One entry a token, and one for the token that was generated.
        assert len(told.token_logprobs) == len(context) + len(given) + 1
        logprobs = told.token_logprobs[len(context) : -1]
        tops = told.top_logprobs[len(context) : -1]
        sums.append(sum(logprobs))
        greedy.append(
            all(logprob == max(top.values()) for logprob, top in zip(logprobs, tops, strict=True))
        )
    assert sums[0] > sums[1] + 3
    assert greedy == [True, False]
    written = complete(client, context, logprobs=1, max_tokens=len(continuation)).choices[0]
    assert written.text == CONTINUATION
    assert sum(written.logprobs.token_logprobs) == pytest.approx(sums[0], abs=0.05)


def test_best_of(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"temperature": 1.5, "seed": 3, "max_tokens": 8, "logprobs": 0}
    drawn = complete(client, "Once", n=4, **fields)

    def mean(choice: Any) -> float:
        values = choice.logprobs.token_logprobs
        return float(sum(values) / len(values))

    best = complete(client, "Once", best_of=4, **fields)
    assert mean(best.choices[0]) == pytest.approx(max(map(mean, drawn.choices)), abs=0.05)
    assert best.usage.completion_tokens == drawn.usage.completion_tokens


def test_suffix(client: openai.OpenAI) -> None:
    answer = complete(client, "The capital of France", suffix=" Paris.", max_tokens=24)
    assert answer.choices[0].text.strip() == "is"


def test_sampling_and_structure(client: openai.OpenAI) -> None:
    answer = complete(client, "x", max_tokens=8, extra_body={"guided_regex": "[0-9]{3}"})
    assert answer.choices[0].text.isdecimal()
    stopped = complete(client, "Count from 1 to", extra_body={"stop_sequence": ["e"]})
    assert "e" not in stopped.choices[0].text


def test_errors_name_the_prompt(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, ["short", "word " * 20_000])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt[1]")
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, [10**6])
    assert caught.value.param == "prompt[0]"


def test_infill(stack: Stack) -> None:
    fields: dict[str, Any] = {
        "input_prefix": "The capital",
        "prompt": " of France",
        "input_suffix": " Paris.",
        "n_predict": 24,
        "temperature": 0,
    }
    answer = post(stack, "/infill", **fields)
    assert answer["content"].strip() == "is"
    assert answer["stop_type"] == "eos"
    assert answer["timings"]["predicted_ms"] > 0
    extra = [{"filename": "a.txt", "text": "The capital of Italy is Rome."}]
    more = post(stack, "/infill", input_extra=extra, **fields)
    assert more["tokens_evaluated"] > answer["tokens_evaluated"] + 5
    assert post(stack, "/infill", **{**fields, "n_predict": 0})["content"] == ""


@pytest.fixture(scope="module")
def greedy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose operator wants the likeliest tokens."""
    directory = tmp_path_factory.mktemp("greedy")
    with running_stack(directory, 1, "--sampling-defaults", "top_k=1,min_p=0.25") as running:
        yield running


def test_defaults_of_the_operator(greedy: Stack) -> None:
    """Where the request is silent, and shown to who asks for the model."""
    with openai.OpenAI(base_url=greedy.base_url, api_key="none", max_retries=0) as client:

        def answers(**extra: Any) -> set[str]:
            # Without a seed equal prompts are answered differently, if chance has a say.
            answer = complete(
                client,
                ["Say something about gravity and zebras"] * 6,
                temperature=2,
                # Few: batches are not computed alike, and later on there may be ties.
                max_tokens=8,
                extra_body={"ignore_eos": True, **extra},
            )
            return {choice.text for choice in answer.choices}

        assert len(answers()) == 1
        assert len(answers(top_k=0, min_p=0)) > 1
    status, shown = get(f"{greedy.base_url}/models/{MODEL_NAME}")
    assert status == 200
    assert '"top_k":1' in shown.replace(" ", "")
    assert '"min_p":0.25' in shown.replace(" ", "")
