"""How a text's vector comes of a model's hidden states, and what a model needs for that; pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.llama.runtime.gguf import Header

# Token ids of one input, kept as compact as they come in thousands.
Tokens = NDArray[np.int32]
# Hidden states, shape (tokens, width). A view that the next evaluation overwrites.
Rows = NDArray[np.float32]
# One text's result, shape (width,).
Vector = NDArray[np.float32]


class Pooling(enum.Enum):
    """Which hidden states make the vector; the values are llama.cpp's, as GGUF files say it."""

    MEAN = 1
    CLS = 2
    LAST = 3
    # The classifier of a reranker: scores of a query and a document, no vector.
    RANK = 4


# What llama.cpp keeps no cache for: each token sees all others, whether or not the file says so.
CACHELESS = frozenset(
    {
        "bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert",
        "neo-bert", "nomic-bert", "nomic-bert-moe",
    }
)  # fmt: skip
# Encoders say nothing of causality, because they have none.
_ENCODERS = CACHELESS | {"t5encoder"}
_SOFTMAX_RANKERS = frozenset({"qwen3", "qwen3vl"})
_NONE = 0


@dataclass(frozen=True, slots=True)
class EmbeddingKind:
    """What a model's metadata says of embeddings."""

    pooling: Pooling
    # Whether each token sees all others: an input cannot be evaluated in parts.
    whole: bool
    # Whether the model was made to generate text, and its hidden states are a by-product.
    generates: bool
    # Whether a reranker's graph ends in a softmax, so that its scores are probabilities.
    probabilities: bool = False


def kind(header: Header) -> EmbeddingKind:
    """A pooling type in the file, or attention that looks ahead, make it an embedding model.

    Converters write the first for sentence-transformers and rerankers only. Raises ValueError
    for a pooling type that is not known.
    """
    said = header.setting("pooling_type")
    whole = header.setting("attention.causal") is False or header.architecture in _ENCODERS
    return EmbeddingKind(
        pooling=Pooling(said) if said not in (None, _NONE) else Pooling.MEAN,
        whole=whole,
        generates=not whole and said in (None, _NONE),
        probabilities=header.architecture in _SOFTMAX_RANKERS,
    )


class Pool:
    """Gathers one input's hidden states, part after part."""

    def __init__(self, pooling: Pooling) -> None:
        self._pooling = pooling
        self._sum: NDArray[np.float64] | None = None
        self._count = 0

    def add(self, rows: Rows) -> None:
        """The states of the next tokens; of a reranker the scores as they are by then."""
        if self._pooling is Pooling.MEAN:
            total = rows.sum(axis=0, dtype=np.float64)
            self._sum = total if self._sum is None else self._sum + total
            self._count += len(rows)
        elif self._pooling is not Pooling.CLS or self._sum is None:
            row = rows[0] if self._pooling is Pooling.CLS else rows[-1]
            self._sum, self._count = row.astype(np.float64), 1

    def vector(self) -> Vector:
        """The result; not normalised. Raises ValueError for one that is no vector."""
        if self._sum is None or not np.isfinite(self._sum).all():
            raise ValueError("the model gave no finite result")
        return (self._sum / self._count).astype(np.float32)


def normalised(vector: Vector, dimensions: int | None = None) -> Vector:
    """Cut to `dimensions`, then of L2 norm 1. Raises ValueError for a vector of zeros."""
    cut = vector[:dimensions].astype(np.float64)
    norm = float(np.linalg.norm(cut))
    if not norm > 0:
        raise ValueError("the model gave a vector of zeros")
    return (cut / norm).astype(np.float32)


def similarity_scores(query: Vector, documents: Sequence[Vector]) -> list[float]:
    """How close documents lie to the query, 0..1: the cosine, moved and halved.

    For rerank with a model that has no classifier: the order is that of the cosines, the values
    compare with nothing but one another.
    """
    unit = normalised(query).astype(np.float64)
    return [_within((1 + float(unit @ normalised(document))) / 2) for document in documents]


def rank_score(scores: Vector, *, probabilities: bool) -> float:
    """A reranker's result for one document, 0..1.

    One class: the sigmoid of its logit. Several: the probability of the first, which is `yes` for
    the models there are. `probabilities`: the model's graph has done that already.
    """
    logits = scores.astype(np.float64)
    if probabilities:
        return _within(float(logits[0]))
    if len(logits) == 1:
        return _within(float(0.5 * (1 + np.tanh(logits[0] / 2))))
    raised = np.exp(logits - logits.max())
    return _within(float(raised[0] / raised.sum()))


def _within(score: float) -> float:
    return min(1.0, max(0.0, score))


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of one input at positions start, start + 1, …, for one batch."""

    # Of the sequence whose cells the input has.
    slot: int
    start: int
    tokens: Tokens


class EmbeddingRuntime(Protocol):
    """A model's context for embeddings. One thread uses it."""

    @property
    def pooling(self) -> Pooling:
        """How an input's rows are to be pooled."""

    @property
    def whole(self) -> bool:
        """Whether an input must be in one batch, from its first token to its last."""

    @property
    def slots(self) -> int:
        """Inputs of one batch, and those that are between their parts: slots are 0..slots-1."""

    @property
    def batch_size(self) -> int:
        """Most tokens of one batch. More kill the process, so the runtime raises ValueError."""

    @property
    def step_size(self) -> int:
        """Tokens that a batch shall have at the most, where one input alone does not need more."""

    @property
    def context(self) -> int:
        """Longest input. Beside inputs of so many tokens a step of short ones has room."""

    def evaluate(self, parts: Sequence[Part]) -> list[Rows]:
        """Rows per part: one per token, or for RANK one with the classes' scores.

        Raises DecodeError: what the context holds is not known then, until `reset`.
        """

    def release(self, slot: int) -> None:
        """Gives back all cells of the slot."""

    def reset(self) -> None:
        """Gives back all cells."""

    def close(self) -> None:
        """Frees it; nothing may be called after it."""
