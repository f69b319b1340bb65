"""What inputs to embed take of the memory, and what is done where there is too little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.llama import embedding_setup
from services.llama.embedding_setup import EmbeddingSetup, longest_input
from services.llama.pooling import kind
from services.llama.runtime.gguf import Header
from services.worker.backend import StartupError
from tests.llama.test_loading import PLAIN

GIB = 2**30
# As of BGE-M3: the rooms for its logits, which it has not, are larger than the model.
ENCODER = Header(
    {
        "general.architecture": "bert",
        "bert.context_length": 8192,
        "bert.block_count": 24,
        "bert.embedding_length": 1024,
        "bert.attention.head_count": 16,
        "bert.attention.causal": False,
        "bert.feed_forward_length": 4096,
        "bert.vocab_size": 250_002,
    },
    parameters=0,
    quantization="Q8_0",
    size=GIB // 2,
    identity="",
)
LOGITS = 4 * 8192 * 250_002


def memory(monkeypatch: pytest.MonkeyPatch, size: float | None) -> None:
    monkeypatch.setattr("services.llama.host.available_memory", lambda: size)


def longest(**options: Any) -> int:
    return longest_input(ENCODER, replace(PLAIN, **options), kind(ENCODER), 8192)


def test_inputs_are_as_long_as_half_of_the_memory_lets_them_be(monkeypatch):
    memory(monkeypatch, 64 * GIB)
    assert longest() == 8192
    memory(monkeypatch, LOGITS + GIB // 2)
    assert 512 < longest() < 8192 // 2
    memory(monkeypatch, GIB)
    assert longest() == 512
    assert longest(gpu_layers=1) == 8192
    memory(monkeypatch, None)
    assert longest() == 8192


def test_room_for_logits_that_nobody_computes_is_counted(monkeypatch):
    memory(monkeypatch, LOGITS)
    made: list[int] = []
    monkeypatch.setattr(embedding_setup, "LlamaEmbedding", lambda *given: made.append(given[3]))
    loaded: Any = None
    setup = EmbeddingSetup(kind(ENCODER), ENCODER, PLAIN, loaded, 8192, None)
    with pytest.raises(StartupError, match=r"inputs of 8192 tokens need .* see --embed-ctx-size"):
        setup.make()
    memory(monkeypatch, 2 * LOGITS)
    setup.make()
    assert made == [8192]
