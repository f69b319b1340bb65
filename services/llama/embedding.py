"""Embed and Rerank above the embedder: texts to tokens, vectors to the contract's answers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from protos.inference.v1 import inference_pb2 as pb
from services.llama import pooling
from services.llama.embed_inputs import Inputs
from services.llama.embedder import Embedder, EmbedMetrics
from services.llama.pooling import EmbeddingKind, Pooling, Tokens, Vector
from services.worker.backend import Call
from services.worker.errors import EngineFailed, InvalidField, QueueFull, TemplateFailed

# Work that is handed to a prompt thread at once: others wait for that long, and no longer.
_SLICE_BYTES = 32 * 2**10
_SLICE_INPUTS = 64
_LEAST_RETRY, _MOST_RETRY = 0.5, 30.0
_UNKNOWN_RATE = 1000.0

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class EmbeddingService:
    """The two RPCs of one model."""

    def __init__(
        self,
        kind: EmbeddingKind,
        inputs: Inputs,
        embedder: Embedder,
        in_thread: InThread,
        *,
        places: int,
        metrics: EmbedMetrics,
    ) -> None:
        """`in_thread` runs what takes milliseconds; `places` is the number of requests at once."""
        self._kind = kind
        self._inputs = inputs
        self._embedder = embedder
        self._in_thread = in_thread
        self._places = places
        self._metrics = metrics
        # Calls from their arrival to their end.
        self._live = 0

    def load(self) -> pb.LoadReport:
        """The embedder's load as of its last batch, without limits."""
        load = self._embedder.load
        return pb.LoadReport(
            running=load.running,
            waiting=load.waiting,
            waiting_tokens=load.pending_tokens,
            prefill_tokens_per_second=load.rate,
        )

    async def stop(self) -> None:
        """Ends the embedder's thread and frees its context; the model's weights must still be there."""
        await self._embedder.stop()

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        """Vectors of norm 1, in the order of the inputs."""
        makers = [
            (len(item.text), _of_input(self._inputs, at, item, truncate=request.truncate))
            for at, item in enumerate(request.inputs)
        ]
        with self._place("embed"):
            tokens = await self._tokens("inputs", makers)
            vectors = await self._evaluate(tokens, request, call)
            dimensions = request.dimensions if request.HasField("dimensions") else None
            answer: pb.EmbedResponse = await self._in_thread(
                lambda: _embeddings(vectors, dimensions)
            )
        answer.usage.prompt_tokens = sum(map(len, tokens))
        return answer

    async def rerank(self, request: pb.RerankRequest, call: Call) -> pb.RerankResponse:
        """Scores 0..1, best first; equal ones in the order of the documents.

        A reranker's classifier reads query and document together: its score is the sigmoid of the
        logit, or the probability of its first class. An embedding model without one gives
        (1 + cosine) / 2 of query and document. Documents that are the same are evaluated once: the
        kernels would give them scores that differ in the last bits.
        """
        ranks = self._kind.pooling is Pooling.RANK
        # By text, where it stands first.
        first: dict[str, int] = {}
        for at, text in enumerate(request.documents):
            first.setdefault(text, at)
        with self._place("rerank"):
            tokens = await self._tokens("documents", self._to_rank(request.query, first, ranks))
            vectors = await self._evaluate(tokens, request, call)
            try:
                if ranks:
                    scores = [
                        pooling.rank_score(vector, probabilities=self._kind.probabilities)
                        for vector in vectors
                    ]
                else:
                    query, *documents = vectors
                    scores = await self._in_thread(
                        lambda: pooling.similarity_scores(query, documents)
                    )
            except ValueError as error:
                raise EngineFailed from error
        answer = pb.RerankResponse()
        of_text = dict(zip(first, scores, strict=True))
        ranked = [of_text[text] for text in request.documents]
        best = sorted(range(len(ranked)), key=lambda at: (-ranked[at], at))
        for at in best[: request.top_n if request.HasField("top_n") else None]:
            answer.results.add(index=at, score=ranked[at])
        lengths = dict(zip(first, map(len, tokens[-len(first) :]), strict=True))
        of_query = 0 if ranks else len(tokens[0])
        answer.usage.prompt_tokens = of_query + sum(lengths[text] for text in request.documents)
        return answer

    def _to_rank(
        self, query: str, documents: Mapping[str, int], pairs: bool
    ) -> list[tuple[int, Callable[[], Tokens]]]:
        """`documents`: texts, and at which places errors name them."""
        inputs = self._inputs
        texts = [(f"documents[{at}]", text) for text, at in documents.items()]
        if not pairs:
            texts = [("query", query), *texts]

        def maker(field: str, text: str) -> Callable[[], Tokens]:
            if pairs:
                return lambda: inputs.pair(field, query, text)
            return lambda: inputs.text(field, text, truncate=False)

        more = len(query) if pairs else 0
        return [(len(text) + more, maker(field, text)) for field, text in texts]

    async def _tokens(
        self, field: str, makers: list[tuple[int, Callable[[], Tokens]]]
    ) -> list[Tokens]:
        """Every input's tokens, in slices: between two of them others have their turn."""
        tokens: list[Tokens] = []
        while len(tokens) < len(makers):
            end, size = len(tokens), 0
            while end < len(makers) and end - len(tokens) < _SLICE_INPUTS and size < _SLICE_BYTES:
                size += makers[end][0]
                end += 1
            todo = [make for _, make in makers[len(tokens) : end]]
            try:
                tokens += await self._in_thread(functools.partial(_call_all, todo))
            except TemplateFailed as error:  # what a prompt that takes too long is called
                raise InvalidField(field, str(error)) from None
        return tokens

    async def _evaluate(
        self, tokens: list[Tokens], request: pb.EmbedRequest | pb.RerankRequest, call: Call
    ) -> list[Vector]:
        return await self._embedder.evaluate(
            tokens, tenant=request.tenant, priority=request.priority, deadline=call.deadline
        )

    @contextmanager
    def _place(self, rpc: str) -> Iterator[None]:
        """Encloses a call. Raises QueueFull."""
        if self._live >= self._places:
            load = self._embedder.load
            seconds = load.pending_tokens / (load.rate or _UNKNOWN_RATE) / self._places
            retry_after = min(_MOST_RETRY, max(_LEAST_RETRY, seconds))
            raise QueueFull("the waiting queue is full", retry_after=retry_after)
        self._live += 1
        self._metrics.requests.labels(rpc).inc()
        try:
            yield
        finally:
            self._live -= 1


def _call_all(makers: list[Callable[[], Tokens]]) -> list[Tokens]:
    return [make() for make in makers]


def _of_input(
    inputs: Inputs, at: int, item: pb.EmbedInput, *, truncate: bool
) -> Callable[[], Tokens]:
    if item.HasField("text"):
        return lambda: inputs.text(f"inputs[{at}].text", item.text, truncate=truncate)
    return lambda: inputs.token_ids(f"inputs[{at}].tokens.ids", item.tokens.ids, truncate=truncate)


def _embeddings(vectors: Sequence[Vector], dimensions: int | None) -> pb.EmbedResponse:
    """Raises EngineFailed."""
    answer = pb.EmbedResponse()
    for vector in vectors:
        try:
            unit = pooling.normalised(vector, dimensions)
        except ValueError as error:
            raise EngineFailed from error
        answer.embeddings.add(values=unit.tolist())
    return answer
