"""POST /v1/rerank over a scripted worker, and its rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.openai import rerank_request, rerank_response
from edge.openai.schemas.rerank import Ranking
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import ContextLengthExceeded, InvalidField
from tests.edge.asking import Asked, error_of, is_a, post
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.scripted import model_info
from tests.fakes.worker import scripted_worker

PATH = "/v1/rerank"
DOCUMENTS = ["red", "red green", "blue", "red green blue"]


@pytest.fixture
async def backend() -> Asked:
    return Asked()


async def ranks(edge: RunningEdge, **body: Any) -> dict[str, Any]:
    status, answer = await post(
        edge, PATH, **{"query": "red green blue", "documents": DOCUMENTS, **body}
    )
    assert status == 200, answer
    assert is_a(Ranking, answer)
    return answer


def order(answer: dict[str, Any]) -> list[int]:
    return [result["index"] for result in answer["results"]]


async def test_best_first(edge: RunningEdge, backend: Asked) -> None:
    answer = await ranks(edge)
    assert order(answer) == [3, 1, 0, 2]
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1
    assert "document" not in answer["results"][0]
    assert answer["usage"] == {"prompt_tokens": 12, "total_tokens": 12}
    assert answer["meta"]["tokens"]["input_tokens"] == 12
    assert answer["model"] == "scripted"
    assert backend.questions[0].model_identity == backend.info.identity


async def test_its_other_addresses(edge: RunningEdge) -> None:
    for path in ("/v2/rerank", "/v1/reranking", "/rerank", "/reranking"):
        status, answer = await post(edge, path, query="red", documents=DOCUMENTS)
        assert status == 200, path
        assert is_a(Ranking, answer)


async def test_the_best_few(edge: RunningEdge) -> None:
    assert order(await ranks(edge, top_n=2)) == [3, 1]
    assert order(await ranks(edge, top_n=99)) == [3, 1, 0, 2]


async def test_documents_come_back_as_they_were(edge: RunningEdge) -> None:
    documents = ["red", {"text": "red green blue", "id": 7}]
    answer = await ranks(edge, documents=documents, return_documents=True)
    assert [result["document"] for result in answer["results"]] == [documents[1], {"text": "red"}]


@pytest.mark.parametrize(
    "fields",
    [
        {"max_chunks_per_doc": 10, "rank_fields": ["text"]},
        {"max_tokens_per_doc": 4096, "priority": 0, "user": "u"},
        {"return_documents": False, "top_n": None, "other": 1},
    ],
)
async def test_what_is_accepted(edge: RunningEdge, fields: dict[str, Any]) -> None:
    assert order(await ranks(edge, **fields)) == [3, 1, 0, 2]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"query": None}, "query", "missing_required_parameter"),
        ({"query": ""}, "query", "empty_string"),
        ({"query": ["a"]}, "query", "invalid_type"),
        ({"documents": None}, "documents", "missing_required_parameter"),
        ({"documents": []}, "documents", "empty_array"),
        ({"documents": "red"}, "documents", "invalid_type"),
        ({"documents": ["a", ""]}, "documents[1]", "empty_string"),
        ({"documents": ["a", 1]}, "documents[1]", "invalid_type"),
        ({"documents": [{}]}, "documents[0].text", "missing_required_parameter"),
        ({"documents": [{"text": 1}]}, "documents[0].text", "invalid_type"),
        ({"documents": ["a"] * 1025}, "documents", "array_above_max_length"),
        ({"top_n": 0}, "top_n", "integer_below_min_value"),
        ({"rank_fields": ["title"]}, "rank_fields", "unsupported_value"),
        ({"return_documents": "yes"}, "return_documents", "invalid_type"),
    ],
)
async def test_mistakes(
    edge: RunningEdge, backend: Asked, fields: dict[str, Any], param: str, code: str
) -> None:
    answer = await post(edge, PATH, **{"query": "q", "documents": ["d"], **fields})
    assert error_of(answer) == (400, param, code)
    assert not backend.questions


async def test_what_workers_find_has_the_clients_names(edge: RunningEdge, backend: Asked) -> None:
    body = {"query": "q", "documents": ["a", "b"]}
    backend.fault = InvalidField("documents[1]", "is odd")
    assert error_of(await post(edge, PATH, **body)) == (400, "documents[1]", "invalid_value")
    backend.fault = InvalidField("query", "is odd")
    assert error_of(await post(edge, PATH, **body)) == (400, "query", "invalid_value")
    backend.fault = ContextLengthExceeded(900, 512)
    assert error_of(await post(edge, PATH, **body)) == (
        400,
        "documents",
        "context_length_exceeded",
    )


async def test_names_of_later_documents() -> None:
    assert rerank_request.names(40).field("documents[1]") == "documents[41]"


async def test_a_model_that_ranks_nothing() -> None:
    async with (
        scripted_worker(model=model_info(capabilities=[pb.CAPABILITY_CHAT])) as worker,
        running_edge(worker.address) as edge,
    ):
        answer = await post(edge, PATH, query="q", documents=["d"])
        assert error_of(answer) == (400, "model", "unsupported_parameter")


async def test_many_documents_are_shared_out() -> None:
    a, b = Asked(), Asked()
    documents = [DOCUMENTS[at % 4] for at in range(60)]
    async with (
        scripted_worker(backend=a) as one,
        scripted_worker(backend=b) as two,
        running_edge(one.address, two.address) as edge,
    ):
        shared = await ranks(edge, documents=documents, top_n=20)
        assert min(len(each.questions[0].documents) for each in (a, b)) > 20
        async with running_edge(one.address) as alone:
            assert order(await ranks(alone, documents=documents, top_n=20)) == order(shared)


def best_of(scores: list[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda at: (-scores[at], at))


@given(
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20), min_size=1, max_size=5),
    st.integers(1, 120),
)
def test_merged_is_as_if_one_had_ranked_all(parts: list[list[float]], top_n: int) -> None:
    answers = []
    first = 0
    for scores in parts:
        answer = pb.RerankResponse(usage=pb.Usage(prompt_tokens=len(scores)))
        for at in best_of(scores)[:top_n]:
            answer.results.add(index=at, score=scores[at])
        answers.append((first, answer))
        first += len(scores)
    every = [score for scores in parts for score in scores]
    merged = rerank_response.merge(answers, top_n)
    best = best_of(every)[:top_n]
    assert [result.index for result in merged.results] == best
    assert [result.score for result in merged.results] == [every[at] for at in best]
    assert merged.usage.prompt_tokens == len(every)
