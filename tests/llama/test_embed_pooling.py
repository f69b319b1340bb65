"""Pooling, normalisation, scores, and what a model's metadata says of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llama.pooling import (
    EmbeddingKind,
    Pool,
    Pooling,
    kind,
    normalised,
    rank_score,
    similarity_scores,
)
from services.llama.runtime.gguf import Header

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (Pooling.MEAN, [5, 6]),
        (Pooling.CLS, [0, 1]),
        (Pooling.LAST, [10, 11]),
        (Pooling.RANK, [10, 11]),
    ],
)
@pytest.mark.parametrize("parts", [[6], [1, 5], [2, 2, 2]])
def test_parts_pool_to_what_the_whole_does(pooling, expected, parts):
    pool, at = Pool(pooling), 0
    for length in parts:
        rows = ROWS[at : at + length].copy()
        pool.add(rows)
        # The runtime's memory is used again.
        rows[:] = np.nan
        at += length
    assert list(pool.vector()) == expected


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number_is_no_vector(value):
    pool = Pool(Pooling.MEAN)
    pool.add(np.array([[1, value]], np.float32))
    with pytest.raises(ValueError, match="finite"):
        pool.vector()


def test_cut_then_normalised():
    vector = np.array([3, 4, 12], np.float32)
    assert list(normalised(vector, 2)) == pytest.approx([0.6, 0.8])
    assert np.linalg.norm(normalised(vector)) == pytest.approx(1)
    with pytest.raises(ValueError, match="zeros"):
        normalised(np.zeros(3, np.float32))


def test_cosines_become_scores():
    query = np.array([1, 0], np.float32)
    documents = [np.array(values, np.float32) for values in ([5, 0], [0, 2], [-1, 0])]
    assert similarity_scores(query, documents) == pytest.approx([1, 0.5, 0])


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=4))
def test_a_rank_score_is_a_probability_that_grows_with_its_logit(logits):
    score = rank_score(np.array(logits, np.float32), probabilities=False)
    assert 0 <= score <= 1
    more = np.array([logits[0] + 1, *logits[1:]], np.float32)
    assert rank_score(more, probabilities=False) >= score


def test_rank_scores():
    one = np.array([0.0], np.float32)
    assert rank_score(one, probabilities=False) == 0.5
    assert rank_score(np.array([2.0], np.float32), probabilities=False) == pytest.approx(0.880797)
    assert rank_score(np.array([1.0, 1.0], np.float32), probabilities=False) == 0.5
    assert rank_score(np.array([0.25, 0.75], np.float32), probabilities=True) == 0.25


def header(architecture: str, **settings: object) -> Header:
    said = {f"{architecture}.{name}": value for name, value in settings.items()}
    metadata = {"general.architecture": architecture, **said}
    return Header(metadata=metadata, parameters=0, quantization="", size=0, identity="")


def test_a_model_that_generates():
    assert kind(header("llama")) == EmbeddingKind(Pooling.MEAN, whole=False, generates=True)
    assert kind(header("llama", pooling_type=0)).generates


def test_a_pooling_type_makes_an_embedding_model():
    made = kind(header("llama", pooling_type=3))
    assert made == EmbeddingKind(Pooling.LAST, whole=False, generates=False)


def test_so_does_attention_that_looks_ahead():
    made = kind(header("bert", **{"attention.causal": False}))
    assert made == EmbeddingKind(Pooling.MEAN, whole=True, generates=False)
    assert kind(header("t5encoder")).whole
    assert kind(header("gemma-embedding", pooling_type=1)).whole


def test_a_reranker_whose_graph_ends_in_probabilities():
    assert kind(header("qwen3", pooling_type=4)).probabilities
    assert not kind(header("bert", pooling_type=4)).probabilities


def test_a_pooling_type_that_is_not_known():
    with pytest.raises(ValueError, match="9"):
        kind(header("llama", pooling_type=9))
