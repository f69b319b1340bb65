from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llama.config import LlamaSettings
from services.llama.description import model_name
from services.llama.runtime.gguf import Header
from services.llama.sizing import Shape, bytes_per_cell, choose, needs, usable_context
from services.worker.backend import StartupError

MIB = 2**20
PLAIN = Shape(cells=0, slots=8, ubatch=512)


def header(**metadata: Any) -> Header:
    shape = {
        "general.architecture": "llama",
        "llama.context_length": 4096,
        "llama.block_count": 10,
        "llama.embedding_length": 512,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 4,
        "llama.feed_forward_length": 1024,
        "llama.vocab_size": 1000,
    }
    return Header({**shape, **metadata}, 1000, "Q4_0", 100 * MIB, "sha256:0")


def fixed(model: Header, shape: Shape = PLAIN) -> int:
    """Bytes for everything but cells."""
    return math.ceil(needs(model, replace(shape, cells=0)).total)


def test_bytes_per_cell():
    assert bytes_per_cell(header(), "f16", "f16") == 10 * 4 * 64 * 4
    assert bytes_per_cell(header(), "q8_0", "f16") == 10 * 4 * 64 * (34 / 32 + 2)
    assert bytes_per_cell(header(**{"llama.attention.key_length": 128}), "f16", "f16") == (
        10 * 4 * (128 + 64) * 2
    )


def test_layers_need_not_be_alike():
    every_other = [4, 0] * 5
    model = header(**{"llama.attention.head_count_kv": every_other})
    assert bytes_per_cell(model, "f16", "f16") == 5 * 4 * 64 * 4


def test_latent_attention_keeps_one_vector():
    model = header(
        **{
            "llama.attention.head_count_kv": 1,
            "llama.attention.key_length": 576,
            "llama.attention.value_length": 512,
            "llama.attention.key_length_mla": 192,
        }
    )
    assert bytes_per_cell(model, "f16", "f16") == 10 * 576 * 2


def test_a_sliding_window_saves_cells_only_where_it_is_asked_to():
    window = {"llama.attention.sliding_window": 512}
    model = header(**window, **{"llama.attention.sliding_window_pattern": [True, False] * 5})
    shape = replace(PLAIN, cells=16384, swa_full=False)
    per_layer = bytes_per_cell(model, "f16", "f16") / 10
    record = 16384 * 96
    assert needs(model, shape).cache - record == 5 * per_layer * (16384 + 512 * 8 + 512)
    assert needs(model, replace(shape, swa_full=True)).cache - record == 10 * per_layer * 16384
    # Unknown which layers: as if none.
    unknown = header(**window)
    assert needs(unknown, shape).cache - record == 10 * per_layer * 16384


def test_a_recurrent_state_is_paid_for_each_sequence():
    model = header(**{"llama.ssm.inner_size": 1024, "llama.ssm.state_size": 16})
    one, eight = (needs(model, replace(PLAIN, slots=slots)).cache for slots in (1, 8))
    assert eight == 8 * one == 8 * 10 * 1024 * 16 * 4


def test_layers_with_a_state_keep_no_cells():
    state = {"llama.ssm.inner_size": 1024, "llama.ssm.state_size": 16}
    model = header(**state, **{"llama.full_attention_interval": 4})
    every = header(**state)
    # Of ten layers the fourth and the eighth keep cells, the others a state.
    assert bytes_per_cell(model, "f16", "f16") == bytes_per_cell(every, "f16", "f16") / 5
    assert needs(model, PLAIN).cache == needs(every, PLAIN).cache * 8 / 10
    # Where the state is not known, all keep cells.
    unknown = header(**{"llama.full_attention_interval": 4})
    assert bytes_per_cell(unknown, "f16", "f16") == bytes_per_cell(header(), "f16", "f16")


def test_an_encoder_keeps_no_cells():
    shape = replace(PLAIN, cells=8192)
    said = {name.replace("llama.", "bert."): value for name, value in header().metadata.items()}
    encoder = replace(header(), metadata={**said, "general.architecture": "bert"})
    assert needs(header(), shape).cache > 40 * MIB
    assert needs(encoder, shape).cache < MIB


def test_without_flash_attention_the_scores_of_all_heads_are_held():
    shape = replace(PLAIN, cells=4096)
    without = needs(header(), replace(shape, flash_attention=False)).compute
    assert without - needs(header(), shape).compute > 4096 * 512 * 8 * 4 * 0.9


@pytest.mark.parametrize("memory", [None, 4000 * MIB])
def test_by_default_every_sequence_has_room(memory):
    assert choose(header(), replace(PLAIN, slots=0), memory=memory) == replace(
        PLAIN, cells=8 * 4096, slots=8
    )
    long = header(**{"llama.context_length": 2**16})
    assert choose(long, PLAIN, memory=memory).cells == 2**16
    short = header(**{"llama.context_length": 1000})
    assert choose(short, PLAIN, memory=memory).cells == 8000
    untold = header(**{"llama.context_length": 0})
    assert choose(untold, PLAIN, memory=memory).cells == 8 * 4096


def test_half_of_what_the_rest_leaves_where_memory_is_short():
    model = header()
    chosen = choose(model, PLAIN, memory=fixed(model) + 100 * MIB)
    assert 46 * MIB < needs(model, chosen).total - fixed(model) <= 50 * MIB


@pytest.mark.parametrize(("spare", "slots"), [(1, 1), (10, 1), (17, 2), (60, 8)])
def test_fewer_sequences_where_cells_are_few(spare, slots):
    model = header()
    shape = replace(PLAIN, slots=0)
    if spare == 1:
        with pytest.raises(StartupError, match="needs"):
            choose(model, shape, memory=fixed(model) + spare * MIB)
        return
    chosen = choose(model, shape, memory=fixed(model) + spare * MIB)
    assert chosen.slots == slots <= max(1, chosen.cells // 256)
    assert choose(model, PLAIN, memory=fixed(model) + spare * MIB).slots == 8


def test_not_enough_for_the_weights():
    with pytest.raises(
        StartupError, match=r"the model needs .* of memory there are 90 MiB; a smal"
    ):
        choose(header(), PLAIN, memory=90 * MIB)


def test_adapters_are_weights_too():
    model = header()
    memory = math.ceil(needs(model, replace(PLAIN, cells=1024)).total)
    assert choose(model, replace(PLAIN, cells=1024), memory=memory)
    with pytest.raises(StartupError, match="needs"):
        choose(model, replace(PLAIN, cells=1024), memory=memory, adapters=2 * MIB)


@given(
    cells=st.integers(256, 10**7),
    memory=st.integers(0, 3000),
    kind=st.sampled_from(["f16", "q8_0", "f32"]),
    flash=st.booleans(),
)
def test_what_is_asked_for_or_a_sentence_that_says_what_fits(cells, memory, kind, flash):
    model = header()
    shape = replace(PLAIN, cells=cells, type_k=kind, flash_attention=flash)
    try:
        assert choose(model, shape, memory=memory * MIB) == shape
    except StartupError as error:
        message = str(error)
    else:
        return
    assert "\n" not in message
    for said in re.findall(r"--ctx-size (\d+)(?=,|$)", message.partition("fit: ")[2]):
        choose(model, replace(shape, cells=int(said)), memory=memory * MIB)
    for said in re.findall(r"--ctx-size (\d+) --cache-type-k q8_0", message):
        smaller = replace(shape, type_k="q8_0", type_v="q8_0", flash_attention=True)
        choose(model, replace(smaller, cells=int(said)), memory=memory * MIB)


def test_the_sentence():
    with pytest.raises(StartupError) as caught:
        choose(header(), replace(PLAIN, cells=100_000), memory=700 * MIB)
    assert re.fullmatch(
        r"--ctx-size 100000 needs 1,\d+ MiB \(weights 100 MiB, KV cache \d+ MiB, compute \d+ MiB\), "
        r"of memory there are 700 MiB; what would fit: --ctx-size \d+, or "
        r"--ctx-size \d+ --cache-type-k q8_0 --cache-type-v q8_0",
        str(caught.value),
    )


def test_unknown_memory_refuses_nothing():
    shape = replace(PLAIN, cells=10**9)
    assert choose(header(), shape, memory=None) == shape


def test_the_longest_sequence_is_the_trained_context_unless_it_is_stretched():
    assert usable_context(header(), 10_000) == 4096
    assert usable_context(header(), 10_000, 2.0) == 8192
    assert usable_context(header(), 1000, 2.0) == 1000
    assert usable_context(header(**{"llama.context_length": 0}), 1000) == 1000
    assert choose(header(), replace(PLAIN, slots=1, stretch=4.0), memory=None).cells == 4 * 4096


@pytest.mark.parametrize("value", [4096.0, "4096", True, -1, 2**31, [4096]])
def test_a_context_that_is_no_length_is_a_sentence(value: object):
    with pytest.raises(StartupError, match="context_length"):
        choose(header(**{"llama.context_length": value}), PLAIN, memory=None)


@pytest.mark.parametrize("value", [0, -1, 513, 2**31 - 1, "12", 1.5])
def test_so_is_a_number_of_layers_that_llama_cpp_dies_of(value: object):
    with pytest.raises(StartupError, match="block_count is no number of layers"):
        choose(header(**{"llama.block_count": value}), PLAIN, memory=None)


def test_model_name_operator_then_model_then_file(tmp_path):
    path = tmp_path / "file.gguf"
    named = header(**{"general.name": "own"})
    assert model_name(LlamaSettings(model="m", model_name="mine"), path, named) == "mine"
    assert model_name(LlamaSettings(model="m"), path, named) == "own"
    assert model_name(LlamaSettings(model="m"), path, header()) == "file"


def test_gpu_layers_by_number_or_all():
    assert LlamaSettings.read("x", ["--model", "m", "--gpu-layers", "all"]).gpu_layers > 1000
    assert LlamaSettings.read("x", ["--model", "m", "--gpu-layers", "7"]).gpu_layers == 7
