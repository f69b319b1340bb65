"""The RPCs that answer once: model info, tokens, prompts, vectors, scores."""

from __future__ import annotations

import math
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from tests.contract.calling import Stub, failure_of, needs


async def test_the_model_describes_itself(model: pb.ModelInfo):
    assert model.identity
    assert model.name
    assert model.kind
    assert model.version
    assert model.owned_by
    assert model.context_length > 0
    assert pb.CAPABILITY_UNSPECIFIED not in model.capabilities
    assert len(set(model.capabilities)) == len(model.capabilities)
    assert (model.embedding_dimensions > 0) == (pb.CAPABILITY_EMBED in model.capabilities)


async def test_tokens_make_their_text_again(stub: Stub, model: pb.ModelInfo):
    needs(model, pb.CAPABILITY_TOKENIZE)
    text = "Hello wörld, 你好 🦙"
    tokens = await stub.Tokenize(
        pb.TokenizeRequest(
            model_identity=model.identity,
            text=pb.TextInput(text=text, add_bos=False),
            with_pieces=True,
        )
    )
    again = await stub.Detokenize(pb.DetokenizeRequest(token_ids=tokens.token_ids))

    assert again.text == text
    assert len(tokens.pieces) == len(tokens.token_ids)
    assert all(0 <= token < model.vocabulary_size for token in tokens.token_ids)


async def test_a_token_outside_the_vocabulary_is_named(stub: Stub, model: pb.ModelInfo):
    needs(model, pb.CAPABILITY_TOKENIZE)

    failure = await failure_of(
        stub.Detokenize(pb.DetokenizeRequest(token_ids=[0, model.vocabulary_size]))
    )

    assert failure.metadata == {"field": "token_ids[1]"}


async def test_a_prompt_is_rendered_and_nothing_generated(stub: Stub, model: pb.ModelInfo):
    needs(model, pb.CAPABILITY_CHAT)
    request = pb.RenderPromptRequest(with_token_ids=True)
    request.chat.messages.add(role=pb.ROLE_USER).content.add(text="Say this is a test")

    answer = await stub.RenderPrompt(request)

    assert "Say this is a test" in answer.prompt
    assert answer.token_ids


async def test_vectors_are_normal_and_in_order(stub: Stub, model: pb.ModelInfo):
    needs(model, pb.CAPABILITY_EMBED)
    texts = ("one", "two", "one")

    answer = await stub.Embed(pb.EmbedRequest(inputs=[pb.EmbedInput(text=t) for t in texts]))

    vectors = [tuple(embedding.values) for embedding in answer.embeddings]
    assert [len(vector) for vector in vectors] == [model.embedding_dimensions] * 3
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-4) for vector in vectors)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-4)
    assert vectors[0] != vectors[1]
    assert answer.usage.prompt_tokens > 0


async def test_documents_are_ranked(stub: Stub, model: pb.ModelInfo):
    needs(model, pb.CAPABILITY_RERANK)
    documents = ("blue fish", "the red llama", "a llama")

    answer = await stub.Rerank(pb.RerankRequest(query="red llama", documents=documents, top_n=2))

    assert [result.index for result in answer.results] == [1, 2]
    assert 1 >= answer.results[0].score >= answer.results[1].score >= 0


# An RPC, a request for it, and the capability it needs.
OTHERS: tuple[tuple[str, Any, str], ...] = (
    ("Embed", pb.EmbedRequest(inputs=[pb.EmbedInput(text="a")]), "EMBED"),
    ("Rerank", pb.RerankRequest(query="a", documents=["b"]), "RERANK"),
    ("Tokenize", pb.TokenizeRequest(), "TOKENIZE"),
    ("Detokenize", pb.DetokenizeRequest(), "TOKENIZE"),
    ("RenderPrompt", pb.RenderPromptRequest(), "CHAT"),
)


@pytest.mark.parametrize(("rpc", "request_", "name"), OTHERS, ids=lambda value: str(value)[:12])
async def test_an_rpc_that_is_not_listed_is_unimplemented(
    rpc: str, request_: Any, name: str, stub: Stub, model: pb.ModelInfo
):
    if pb.Capability.Value(f"CAPABILITY_{name}") in model.capabilities:
        pytest.skip("this kind has it")

    failure = await failure_of(getattr(stub, rpc)(request_))

    assert failure.code.name == "UNIMPLEMENTED"
    assert failure.metadata == {"capability": name}


@pytest.mark.parametrize(("rpc", "request_", "name"), OTHERS, ids=lambda value: str(value)[:12])
async def test_every_rpc_refuses_another_model(
    rpc: str, request_: Any, name: str, stub: Stub, model: pb.ModelInfo
):
    request = type(request_).FromString(request_.SerializeToString())
    request.model_identity = "sha256:another"

    failure = await failure_of(getattr(stub, rpc)(request))

    assert failure.reason == pb.ERROR_REASON_MODEL_MISMATCH
    assert failure.metadata["actual"] == model.identity
