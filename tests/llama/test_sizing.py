from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from services.llama.config import LlamaSettings
from services.llama.description import default_sampling, model_name
from services.llama.runtime.gguf import Header
from services.llama.sizing import bytes_per_cell, choose_cells
from services.worker.backend import StartupError

MIB = 2**20
F16 = {"type_k": "f16", "type_v": "f16"}


def header(**metadata: Any) -> Header:
    shape = {
        "general.architecture": "llama",
        "llama.context_length": 4096,
        "llama.block_count": 10,
        "llama.embedding_length": 512,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 4,
    }
    return Header({**shape, **metadata}, 1000, "Q4_0", 100 * MIB, "sha256:0")


def cells(wanted: int, memory: int | None, *, gpu: bool = False) -> int:
    return choose_cells(header(), wanted, **F16, memory=memory, gpu=gpu)


def test_bytes_per_cell():
    assert bytes_per_cell(header(), "f16", "f16") == 10 * 4 * 64 * 4
    assert bytes_per_cell(header(), "q8_0", "f16") == 10 * 4 * 64 * (34 / 32 + 2)
    assert bytes_per_cell(header(**{"llama.attention.key_length": 128}), "f16", "f16") == (
        10 * 4 * (128 + 64) * 2
    )


def test_the_trained_context_where_memory_allows():
    assert cells(0, 1000 * MIB) == 4096


def test_less_where_memory_is_short():
    assert cells(0, 110 * MIB) == 5 * MIB // 10240


@pytest.mark.parametrize("memory", [90 * MIB, 101 * MIB])
def test_not_enough_for_anything(memory):
    with pytest.raises(StartupError, match="memory"):
        cells(0, memory)


def test_what_is_asked_for_or_a_sentence():
    assert cells(5000, 1000 * MIB) == 5000
    with pytest.raises(StartupError, match="--ctx-size 5000 needs 49 MiB"):
        cells(5000, 110 * MIB)


@pytest.mark.parametrize(("memory", "gpu"), [(None, False), (1, True)])
def test_unknown_memory_is_not_guessed(memory, gpu):
    assert cells(0, memory, gpu=gpu) == 4096


def test_sampling_defaults_operator_then_model_then_openai():
    settings = LlamaSettings(model="m", temperature=0.5)
    model = header(**{"general.sampling.temp": 0.9, "general.sampling.top_k": 20})
    merged = default_sampling(settings, model)
    assert (merged.temperature, merged.top_k, merged.top_p) == (0.5, 20, 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temp", float("nan")), ("temp", -0.1), ("temp", "hot"), ("temp", True),
        ("top_k", -1), ("top_k", 40.0), ("top_k", 2**32), ("top_p", 1.5), ("min_p", float("inf")),
        ("penalty_repeat", 0.0), ("penalty_repeat", float("inf")), ("penalty_repeat", 10**400),
    ],
)  # fmt: skip
def test_a_recommendation_that_no_request_could_make_is_ignored(key: str, value: object):
    said = header(**{f"general.sampling.{key}": value})
    plain = default_sampling(LlamaSettings(model="m"), header())
    with capture_logs() as logs:
        assert default_sampling(LlamaSettings(model="m"), said) == plain
    assert [line["log_level"] for line in logs] == ["warning"]


@pytest.mark.parametrize("value", [4096.0, "4096", True, -1, 2**31, [4096]])
def test_a_context_that_is_no_length_is_a_sentence(value: object):
    with pytest.raises(StartupError, match="context_length"):
        choose_cells(header(**{"llama.context_length": value}), 0, **F16, memory=None, gpu=False)


def test_model_name_operator_then_model_then_file(tmp_path):
    path = tmp_path / "file.gguf"
    named = header(**{"general.name": "own"})
    assert model_name(LlamaSettings(model="m", model_name="mine"), path, named) == "mine"
    assert model_name(LlamaSettings(model="m"), path, named) == "own"
    assert model_name(LlamaSettings(model="m"), path, header()) == "file"


def test_gpu_layers_by_number_or_all():
    assert LlamaSettings.read("x", ["--model", "m", "--gpu-layers", "all"]).gpu_layers > 1000
    assert LlamaSettings.read("x", ["--model", "m", "--gpu-layers", "7"]).gpu_layers == 7
