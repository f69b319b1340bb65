"""Embed and Rerank over llama.cpp: the bundled models, and tiny random ones of the other kinds."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama.backend import LlamaBackend
from services.worker.backend import Call, StartupError
from services.worker.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineFailed,
    QueueFull,
)
from tests.llama import embed_models

pytestmark = pytest.mark.real

MODELS = Path(__file__).parents[2] / "models"
CHAT, EMBED = MODELS / "caravan-demo.gguf", MODELS / "caravan-demo-embed.gguf"
FRANCE, PARAPHRASE = "What is the capital of France?", "Tell me the capital city of France."
COW = "What sound does a cow make?"
RANK = gguf.PoolingType.RANK


@pytest.fixture
def serve(serve):
    async def make(model: Path = EMBED, **settings: Any) -> LlamaBackend:
        backend: LlamaBackend = await serve(model=str(model), **settings)
        return backend

    return make


def call(seconds: float | None = None) -> Call:
    return Call("test", None if seconds is None else time.monotonic() + seconds)


async def embed(backend: LlamaBackend, *inputs: str | list[int], **fields: Any) -> pb.EmbedResponse:
    request = pb.EmbedRequest(**fields)
    for one in inputs:
        if isinstance(one, str):
            request.inputs.add(text=one)
        else:
            request.inputs.add().tokens.ids.extend(one)
    return await backend.embed(request, call())


def array(response: pb.EmbedResponse) -> Any:
    return np.array([list(embedding.values) for embedding in response.embeddings])


async def rerank(backend: LlamaBackend, query: str, *documents: str, **fields: Any) -> Any:
    request = pb.RerankRequest(query=query, documents=documents, **fields)
    return await backend.rerank(request, call())


def scores(response: pb.RerankResponse) -> dict[int, float]:
    return {result.index: result.score for result in response.results}


async def tokens(backend: LlamaBackend, text: str) -> list[int]:
    request = pb.TokenizeRequest(text=pb.TextInput(text=text))
    return list((await backend.tokenize(request, call())).token_ids)


# --------------------------------------------------------------------------- the bundled models


async def test_what_means_the_same_lies_close(serve):
    response = await embed(await serve(), FRANCE, PARAPHRASE, COW)
    france, paraphrase, cow = array(response)
    assert france @ paraphrase > 0.7
    assert france @ paraphrase > france @ cow + 0.3
    assert np.linalg.norm(array(response), axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


async def test_what_an_embedding_model_says_of_itself(serve):
    model = (await serve()).model()
    assert set(model.capabilities) == {
        pb.CAPABILITY_EMBED,
        pb.CAPABILITY_RERANK,
        pb.CAPABILITY_TOKENIZE,
    }
    assert model.embedding_dimensions == 192
    assert model.context_length == 512
    assert model.identity.startswith("sha256:")


async def test_what_a_chat_model_says_of_itself(serve):
    model = (await serve(CHAT)).model()
    assert {pb.CAPABILITY_CHAT, pb.CAPABILITY_GENERATE, pb.CAPABILITY_EMBED} <= set(
        model.capabilities
    )
    assert pb.CAPABILITY_RERANK not in model.capabilities
    assert model.embedding_dimensions == 256


async def test_many_together_are_as_one_by_one_and_in_order(serve):
    backend = await serve()
    texts = [f"Is {word} {'very ' * at}far away?" for at, word in enumerate(("Rome", "Oslo") * 20)]
    together = array(await embed(backend, *texts))
    for at in (0, 1, 17, 39):
        (alone,) = array(await embed(backend, texts[at]))
        assert together[at] == pytest.approx(alone, abs=2e-3)
    assert together[0] @ together[1] < 0.999


async def test_a_long_input_in_parts_is_as_in_one_piece(serve):
    parts, whole = await serve(ubatch_size=32), await serve(ubatch_size=512)
    text = "Tell me about the sea. " * 20
    assert len(await tokens(parts, text)) > 64
    one, other = array(await embed(parts, text)), array(await embed(whole, text))
    assert one[0] == pytest.approx(other[0], abs=2e-3)


async def test_dimensions_are_cut_and_normalised_again(serve):
    backend = await serve()
    (whole,) = array(await embed(backend, FRANCE))
    (cut,) = array(await embed(backend, FRANCE, dimensions=20))
    assert len(cut) == 20
    assert cut == pytest.approx(whole[:20] / np.linalg.norm(whole[:20]), abs=1e-5)


async def test_token_ids_are_what_their_text_is_and_usage_counts_them(serve):
    backend = await serve()
    ids = await tokens(backend, FRANCE)
    response = await embed(backend, FRANCE, ids)
    text, same = array(response)
    assert text == pytest.approx(same, abs=2e-3)
    assert response.usage == pb.Usage(prompt_tokens=2 * len(ids))


async def test_longer_than_the_context(serve):
    backend = await serve()
    text = "word " * 2000
    with pytest.raises(ContextLengthExceeded) as caught:
        await embed(backend, FRANCE, text)
    assert caught.value.metadata["context_length"] == "512"
    response = await embed(backend, text, truncate=True)
    assert response.usage.prompt_tokens == 512
    ids = (await tokens(backend, text[:2000]))[:512]
    assert array(response)[0] == pytest.approx(array(await embed(backend, ids))[0], abs=2e-3)


async def test_a_big_request_does_not_stop_a_small_one(serve):
    backend = await serve()
    big = asyncio.create_task(embed(backend, *["Tell me about the sea. " * 8] * 1000))
    while not backend.load().running:
        await asyncio.sleep(0.001)
    await embed(backend, FRANCE)
    assert not big.done()
    big.cancel()
    await asyncio.wait([big])


async def test_cancelling_stops_the_work(serve):
    backend = await serve()
    running = asyncio.create_task(embed(backend, *["Tell me about the sea. " * 8] * 1000))
    while not backend.load().running:
        await asyncio.sleep(0.001)
    before = backend.load().waiting_tokens
    running.cancel()
    await asyncio.wait([running])
    while backend.load().running:
        await asyncio.sleep(0.001)
    assert before > 0
    assert backend.load().waiting_tokens == 0


async def test_a_deadline(serve):
    backend = await serve()
    request = pb.EmbedRequest()
    for _ in range(2000):
        request.inputs.add(text="Tell me about the sea. " * 8)
    with pytest.raises(DeadlineExceeded):
        await backend.embed(request, call(0.01))


async def test_the_queue_is_bounded(serve):
    backend = await serve(parallel=1, max_waiting=0)
    running = asyncio.create_task(embed(backend, *[FRANCE] * 100))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as caught:
        await embed(backend, FRANCE)
    assert caught.value.retry_after
    await running
    await embed(backend, FRANCE)


async def test_stopping_in_the_middle(serve):
    backend = await serve()
    running = asyncio.create_task(embed(backend, *["Tell me about the sea. " * 8] * 1000))
    while not backend.load().running:
        await asyncio.sleep(0.001)
    await backend.stop()
    with pytest.raises(EngineFailed):
        await running


async def test_a_chat_model_embeds_beside_its_chats(serve):
    backend = await serve(CHAT)
    made = pb.GenerateRequest(stop=pb.StopConditions(max_tokens=30, ignore_eos=True))
    made.text.text = FRANCE

    async def generate() -> int:
        responses = [response async for response in backend.generate(made, call())]
        return int(responses[-1].finished.usage.completion_tokens)

    counts = await asyncio.gather(generate(), embed(backend, FRANCE, PARAPHRASE, COW), generate())
    assert counts[0] == counts[2] == 30
    vectors = array(counts[1])
    assert vectors.shape == (3, 256)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


async def test_the_limit_of_a_chat_model_is_its_own_setting(serve):
    backend = await serve(CHAT, embed_ctx_size=64)
    with pytest.raises(ContextLengthExceeded) as caught:
        await embed(backend, "word " * 100)
    assert caught.value.metadata["context_length"] == "64"


async def test_a_chat_worker_pays_nothing_before_the_first_embed(serve):
    backend = await serve(CHAT)
    embedder = backend._residence.resident.embedding._embedder
    assert embedder._runtime is None
    await embed(backend, FRANCE)
    assert embedder._runtime is not None


async def test_vectors_rank_documents_by_their_cosine(serve):
    backend = await serve()
    response = await rerank(backend, FRANCE, COW, PARAPHRASE, "Count to ten.")
    assert response.results[0].index == 1
    france, paraphrase = array(await embed(backend, FRANCE, PARAPHRASE))
    assert response.results[0].score == pytest.approx((1 + france @ paraphrase) / 2, abs=2e-3)
    ranked = [result.score for result in response.results]
    assert ranked == sorted(ranked, reverse=True)
    best = await rerank(backend, FRANCE, COW, PARAPHRASE, "Count to ten.", top_n=1)
    assert len(best.results) == 1


# ------------------------------------------------------------------------------ other kinds of models


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embed")
    kinds = gguf.PoolingType
    return {
        "mean": embed_models.bert(folder / "mean.gguf", kinds.MEAN),
        "cls": embed_models.bert(folder / "cls.gguf", kinds.CLS),
        "rank": embed_models.bert(folder / "rank.gguf", RANK, classes=1),
        "classes": embed_models.bert(folder / "classes.gguf", RANK, classes=3),
        "silent": embed_models.gemma(folder / "silent.gguf"),
        "last": embed_models.qwen3(folder / "last.gguf", kinds.LAST),
        "judge": embed_models.qwen3(
            folder / "judge.gguf", RANK, template=embed_models.RERANK_TEMPLATE
        ),
    }


async def test_an_encoder_embeds_whole_inputs_of_up_to_its_context(serve, files):
    backend = await serve(files["mean"], ubatch_size=32)
    longest = embed_models.words(embed_models.CONTEXT - 2)
    response = await embed(backend, longest, "a mat", longest)
    first, short, second = array(response)
    assert response.usage.prompt_tokens == 2 * embed_models.CONTEXT + 4
    assert first == pytest.approx(second, abs=1e-4)
    assert first @ short < 0.999
    with pytest.raises(ContextLengthExceeded):
        await embed(backend, embed_models.words(embed_models.CONTEXT - 1))
    cut = await embed(backend, embed_models.words(300), truncate=True)
    assert array(cut)[0] == pytest.approx(first, abs=1e-4)


async def test_an_encoder_need_not_say_that_it_is_one(serve, files):
    backend = await serve(files["silent"], ubatch_size=32)
    longest = "a" * (embed_models.CONTEXT - 1)
    response = await embed(backend, longest, "a mat", longest)
    first, short, second = array(response)
    assert first == pytest.approx(second, abs=1e-4)
    assert first @ short < 0.999


async def test_an_encoders_text_stands_between_its_control_tokens(serve, files):
    backend = await serve(files["cls"])
    bare = await tokens(backend, "the cat")
    control = [embed_models.CLS, *bare[-2:], embed_models.SEP]
    text, same = array(await embed(backend, "the cat", control))
    assert text == pytest.approx(same, abs=1e-4)


async def test_pooling_is_the_files(serve, files):
    by_mean = array(await embed(await serve(files["mean"]), "the cat sat"))
    by_cls = array(await embed(await serve(files["cls"]), "the cat sat"))
    # The same weights.
    assert abs(float(by_mean[0] @ by_cls[0])) < 0.999


async def test_the_last_state_is_that_of_the_end_token(serve, files):
    backend = await serve(files["last"])
    ids = await tokens(backend, "tea")
    with_end, same, without = array(await embed(backend, "tea", [*ids, 2], ids))
    assert with_end == pytest.approx(same, abs=2e-3)
    assert float(with_end @ without) < 0.999


async def test_a_reranker_is_that_and_nothing_else(serve, files):
    model = (await serve(files["rank"])).model()
    assert set(model.capabilities) == {pb.CAPABILITY_RERANK, pb.CAPABILITY_TOKENIZE}
    assert model.embedding_dimensions == 0


@pytest.mark.parametrize("name", ["rank", "classes", "judge"])
async def test_a_reranker_scores_documents_alike_alone_and_together(serve, files, name):
    backend = await serve(files[name])
    documents = ["a mat", "the dog ran", "tea", "a far away cat"][: 4 if name != "judge" else 3]
    response = await rerank(backend, "the cat", *documents)
    together = scores(response)
    assert len(together) == len(documents)
    assert len(set(together.values())) == len(documents)
    assert all(0 < score < 1 for score in together.values())
    ranked = [result.score for result in response.results]
    assert ranked == sorted(ranked, reverse=True)
    for at, document in enumerate(documents):
        alone = scores(await rerank(backend, "the cat", document))[0]
        assert together[at] == pytest.approx(alone, abs=5e-3)
    assert response.usage.prompt_tokens > 4 * len(documents)


@pytest.mark.parametrize("name", ["mean", "rank", "judge"])
async def test_equal_documents_are_ranked_in_their_order(serve, files, name):
    backend = await serve(files[name])
    same = ["a mat", "tea", "a mat", "tea", "a mat"] * 20
    response = await rerank(backend, "the cat", *same)
    results = response.results
    five = (await rerank(backend, "the cat", *same[:5])).usage.prompt_tokens
    none = len(await tokens(backend, "the cat")) + 1 if name == "mean" else 0
    assert response.usage.prompt_tokens - none == 20 * (five - none)
    assert len({result.score for result in results}) == 2
    indices = [result.index for result in results]
    mats, teas = ([at for at in indices if same[at] == text] for text in ("a mat", "tea"))
    assert indices in (mats + teas, teas + mats)
    assert (mats, teas) == (sorted(mats), sorted(teas))


async def test_a_reranker_tells_query_from_document(serve, files):
    backend = await serve(files["rank"])
    one = scores(await rerank(backend, "the cat", "a mat"))[0]
    other = scores(await rerank(backend, "a mat", "the cat"))[0]
    assert abs(one - other) > 1e-4


async def test_a_pair_longer_than_the_context_is_refused(serve, files):
    backend = await serve(files["rank"])
    with pytest.raises(ContextLengthExceeded):
        await rerank(backend, "the cat", "a mat", embed_models.words(70))


async def test_a_pooling_type_that_is_not_known_is_one_clear_line(serve, tmp_path):
    model = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(model, "llama")
    writer.add_context_length(64)
    writer.add_uint32("llama.pooling_type", 9)
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    embed_models._close(writer, model)
    with pytest.raises(StartupError, match="pooling type is not known"):
        await serve(model)
