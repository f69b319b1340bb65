"""Vectors, ranks and tokens of the real demo models: by the OpenAI SDK, and as raw HTTP."""

from __future__ import annotations

import concurrent.futures
import json
import math
import struct
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.stack import MODEL_NAME, ROOT, Process, Stack, free_port, get, wait_until

EMBED_MODEL = ROOT / "models" / "caravan-demo-embed.gguf"
EMBED_NAME = "caravan-demo-embed"
MESSAGES = [
    {"role": "system", "content": "You are helpful."},
    {"role": "user", "content": "What is the capital of France?"},
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An edge in front of a chat model and two workers of an embedding model."""
    stack = Stack(tmp_path_factory.mktemp("vectors"))
    try:
        chat, _ = stack.start_worker()
        stack.start_edge(chat, *(start_embedder(stack)[0] for _ in range(2)))
        stack.wait_ready()
        wait_until(lambda: ready(stack) == 3, "all three workers are ready")
        yield stack
    finally:
        stack.stop()


def start_embedder(stack: Stack) -> tuple[int, Process]:
    """A llama worker on the embedding model; returns at once."""
    port = free_port()
    process = stack.spawn(
        f"embed-{port}",
        *("-m", "services.llama", "--model", str(EMBED_MODEL), "--port", str(port)),
        *("--threads", "1", "--model-name", EMBED_NAME),
    )
    return port, process


def ready(stack: Stack) -> int:
    workers = json.loads(get(f"{stack.url}/health/ready")[1])["workers"]
    return sum(worker["state"] == "ready" for worker in workers)


@pytest.fixture
def sdk(both: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=both.base_url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture
def http(both: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=both.url, timeout=60) as made:
        yield made


def post(http: httpx.Client, path: str, **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def same(a: list[float], b: list[float]) -> bool:
    """The last digits depend on what else is evaluated in the same batch."""
    return cosine(a, b) > 0.9998


def test_near_in_meaning_is_near_as_a_vector(sdk: openai.OpenAI) -> None:
    texts = [
        "What is the capital of France?",
        "Tell me the capital city of France",
        "What colour is the sky?",
    ]
    # The SDK asks for base64 by itself.
    answer = sdk.embeddings.create(model=EMBED_NAME, input=texts)
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert answer.model == EMBED_NAME
    a, b, c = (one.embedding for one in answer.data)
    assert math.isclose(math.hypot(*a), 1, rel_tol=1e-5)
    assert cosine(a, b) > cosine(a, c)
    alone = sdk.embeddings.create(model=EMBED_NAME, input=texts[1], encoding_format="float")
    assert same(alone.data[0].embedding, b)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > alone.usage.total_tokens > 0


def test_cut_vectors_have_length_one(sdk: openai.OpenAI) -> None:
    whole = sdk.embeddings.create(model=EMBED_NAME, input="hello").data[0].embedding
    cut = sdk.embeddings.create(model=EMBED_NAME, input="hello", dimensions=16).data[0].embedding
    assert len(cut) == 16 < len(whole)
    scale = math.hypot(*whole[:16])
    assert same(cut, [value / scale for value in whole[:16]])
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.embeddings.create(model=EMBED_NAME, input="hello", dimensions=len(whole) + 1)
    assert (caught.value.param, caught.value.code) == ("dimensions", "integer_above_max_value")


def test_token_ids_are_as_good_as_their_text(sdk: openai.OpenAI, http: httpx.Client) -> None:
    tokens = post(http, "/v1/tokenize", model=EMBED_NAME, prompt="hello there")["tokens"]
    by_ids = sdk.embeddings.create(model=EMBED_NAME, input=[tokens, tokens]).data
    by_text = sdk.embeddings.create(model=EMBED_NAME, input="hello there").data
    assert same(by_ids[0].embedding, by_text[0].embedding)
    assert same(by_ids[0].embedding, by_ids[1].embedding)
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.embeddings.create(model=EMBED_NAME, input=[[10**6]])
    assert caught.value.param == "input[0][0]"


def test_many_at_once_are_each_their_own(sdk: openai.OpenAI, http: httpx.Client) -> None:
    texts = [f"The number is {at}" for at in range(100)]
    answer = post(http, "/v1/embeddings", model=EMBED_NAME, input=texts, encoding_format="base64")
    vectors = [
        list(struct.unpack(f"<{len(data) // 4}f", data))
        for data in (b64decode(one["embedding"]) for one in answer["data"])
    ]
    for at in (0, 49, 50, 99):
        alone = sdk.embeddings.create(model=EMBED_NAME, input=texts[at]).data[0].embedding
        assert same(vectors[at], alone)
        assert at == max(range(100), key=lambda other: cosine(vectors[other], alone))


def test_too_long_is_refused_or_cut(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.embeddings.create(model=EMBED_NAME, input="word " * 5000)
    assert (caught.value.param, caught.value.code) == ("input", "context_length_exceeded")
    cut = sdk.embeddings.create(
        model=EMBED_NAME, input="word " * 5000, extra_body={"truncate": True}
    )
    assert cut.usage.prompt_tokens == sdk.models.retrieve(EMBED_NAME).max_model_len  # type: ignore[attr-defined]


def test_ranks_as_coheres_clients_ask(http: httpx.Client) -> None:
    documents = [
        "What colour is the sky?",
        "Tell me the capital city of France",
        {"text": "How do you spell zebra?", "id": 3},
    ]
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        answer = post(
            http,
            path,
            model=EMBED_NAME,
            query="What is the capital of France?",
            documents=documents,
            top_n=2,
            return_documents=True,
        )
        assert answer["results"][0]["index"] == 1
        assert len(answer["results"]) == 2
        scores = [result["relevance_score"] for result in answer["results"]]
        assert 1 >= scores[0] > scores[1] >= 0
        assert answer["results"][0]["document"] == {"text": documents[1]}
        assert answer["usage"]["total_tokens"] > 0


def test_tokens_there_and_back(http: httpx.Client) -> None:
    text = "Grüße, 世界 <|im_start|>"
    told = post(http, "/tokenize", model=MODEL_NAME, content=text, with_pieces=True)
    pieces = [one["piece"] for one in told["tokens"]]
    joined = b"".join(one.encode() if isinstance(one, str) else bytes(one) for one in pieces)
    # The vocabulary puts a space before a text.
    assert joined.decode().removeprefix(" ") == text
    assert told["count"] == len(pieces)
    ids = [one["id"] for one in told["tokens"]]
    back = post(http, "/detokenize", model=MODEL_NAME, tokens=ids)["content"]
    assert back.removeprefix(" ") == text
    strings = post(http, "/v1/tokenize", model=MODEL_NAME, prompt="Hi", return_token_strs=True)
    assert len(strings["token_strs"]) == strings["count"] == len(strings["tokens"])


def test_a_conversations_tokens_are_those_of_its_answer(
    http: httpx.Client, sdk: openai.OpenAI
) -> None:
    told = post(http, "/v1/tokenize", model=MODEL_NAME, messages=MESSAGES)
    answer = sdk.chat.completions.create(
        model=MODEL_NAME,
        messages=MESSAGES,  # type: ignore[arg-type]
        max_tokens=1,
    )
    assert answer.usage is not None
    assert told["count"] == answer.usage.prompt_tokens
    prompt = post(http, "/apply-template", model=MODEL_NAME, messages=MESSAGES)["prompt"]
    assert "What is the capital of France?" in prompt
    assert prompt.endswith("<|im_start|>assistant\n")
    again = post(http, "/tokenize", model=MODEL_NAME, prompt=prompt)
    assert again["tokens"] == told["tokens"]


def test_models_tell_what_they_are(sdk: openai.OpenAI, http: httpx.Client) -> None:
    found: dict[str, Any] = {model.id: model.model_dump() for model in sdk.models.list()}
    assert set(found) == {MODEL_NAME, EMBED_NAME}
    chat, embed = found[MODEL_NAME], found[EMBED_NAME]
    assert {"chat", "generate", "tools"} <= set(chat["capabilities"])
    assert chat["context_length"] == 2048
    assert chat["meta"]["architecture"] == "llama"
    assert chat["meta"]["n_params"] > 10**6
    assert chat["default_parameters"]["temperature"] == 1
    assert "embed" in embed["capabilities"]
    assert "chat" not in embed["capabilities"]
    assert embed["embedding_dimensions"] == 192
    assert embed["workers"] == {"ready": 2, "known": 2}
    props = http.get("/props", params={"model": MODEL_NAME}).json()
    assert props["default_generation_settings"]["n_ctx"] == 2048


def test_a_model_is_asked_for_what_it_cannot(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(
            model=EMBED_NAME, messages=[{"role": "user", "content": "Hello"}]
        )
    assert caught.value.code == "unsupported_parameter"
    with pytest.raises(openai.NotFoundError):
        sdk.moderations.create(input="x")


def test_a_worker_that_dies_loses_nothing(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    try:
        (first, dying), (second, _) = start_embedder(stack), start_embedder(stack)
        stack.start_edge(first, second)
        stack.wait_ready()
        wait_until(lambda: ready(stack) == 2, "both workers are ready")
        texts = ["What is the capital of France? " * 8] * 40

        def ask(_: int) -> int:
            body = {"model": EMBED_NAME, "input": texts}
            answer = httpx.post(f"{stack.base_url}/embeddings", json=body, timeout=60)
            assert answer.status_code == 200, answer.text
            return len(answer.json()["data"])

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asked = pool.map(ask, range(24))
            wait_until(lambda: at_work(stack, first), "the one that dies is at work")
            dying.popen.kill()
            assert list(asked) == [40] * 24
    finally:
        stack.stop()


def at_work(stack: Stack, port: int) -> bool:
    workers = json.loads(get(f"{stack.url}/health/ready")[1])["workers"]
    return any(one["in_flight"] for one in workers if one["address"].endswith(f":{port}"))
