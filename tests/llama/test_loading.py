"""Load options, as llama.cpp takes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf as gguf_py
import numpy as np
import pytest
from llama_cpp import llama_cpp as raw

from common.settings import ConfigError
from services.llama import plan, sizing
from services.llama.config import LlamaSettings
from services.llama.interface import Chunk
from services.llama.runtime import gguf, loading
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RopeOptions, RuntimeOptions, context_params, model_params
from services.llama.runtime.logs import LogCapture
from services.worker.backend import StartupError

MODEL = Path(__file__).parents[2] / "models" / "caravan-demo.gguf"
PLAIN = RuntimeOptions(
    cells=256, parallel=2, idle=0, batch_size=64, ubatch_size=64, outputs=2, threads=1
)


def settings(*arguments: str) -> LlamaSettings:
    return LlamaSettings.read("x", ["--model", str(MODEL), *arguments])


def planned(*arguments: str) -> plan.Plan:
    return plan.make(settings(*arguments), gguf.read(MODEL))


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({}, "load_mode", raw.LLAMA_LOAD_MODE_AUTO),
        ({"mmap": False}, "load_mode", raw.LLAMA_LOAD_MODE_NONE),
        ({"mlock": True}, "load_mode", raw.LLAMA_LOAD_MODE_MMAP_MLOCK),
        ({"mlock": True, "mmap": False}, "load_mode", raw.LLAMA_LOAD_MODE_MLOCK),
        ({"split_mode": "row"}, "split_mode", raw.LLAMA_SPLIT_MODE_ROW),
        ({"split_mode": "none"}, "split_mode", raw.LLAMA_SPLIT_MODE_NONE),
        ({}, "split_mode", raw.LLAMA_SPLIT_MODE_LAYER),
        ({"main_gpu": 3}, "main_gpu", 3),
        ({"gpu_layers": 7}, "n_gpu_layers", 7),
    ],
)
def test_options_of_the_model(options, field, value):
    assert getattr(model_params(replace(PLAIN, **options)), field) == value


YARN = RopeOptions("yarn", 4.0, 5e5, 2048, 0.5, 1.5, 16.0, 2.0)


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({}, "flash_attn_type", raw.LLAMA_FLASH_ATTN_TYPE_AUTO),
        ({"flash_attention": "on"}, "flash_attn_type", raw.LLAMA_FLASH_ATTN_TYPE_ENABLED),
        ({"flash_attention": "off"}, "flash_attn_type", raw.LLAMA_FLASH_ATTN_TYPE_DISABLED),
        ({}, "swa_full", True),
        ({"swa_full": False}, "swa_full", False),
        ({}, "rope_scaling_type", raw.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED),
        ({}, "rope_freq_scale", 0.0),
        ({}, "yarn_ext_factor", -1.0),
        ({"rope": RopeOptions("none")}, "rope_scaling_type", raw.LLAMA_ROPE_SCALING_TYPE_NONE),
        ({"rope": RopeOptions("linear")}, "rope_scaling_type", raw.LLAMA_ROPE_SCALING_TYPE_LINEAR),
        ({"rope": YARN}, "rope_scaling_type", raw.LLAMA_ROPE_SCALING_TYPE_YARN),
        ({"rope": YARN}, "rope_freq_scale", 0.25),
        ({"rope": YARN}, "rope_freq_base", 5e5),
        ({"rope": YARN}, "yarn_orig_ctx", 2048),
        ({"rope": YARN}, "yarn_ext_factor", 0.5),
        ({"rope": YARN}, "yarn_attn_factor", 1.5),
        ({"rope": YARN}, "yarn_beta_fast", 16.0),
        ({"rope": YARN}, "yarn_beta_slow", 2.0),
        ({"rope": RopeOptions(extrapolation=0.0)}, "yarn_ext_factor", 0.0),
    ],
)
def test_options_of_the_context(options, field, value):
    assert getattr(context_params(replace(PLAIN, **options)), field) == value


def test_the_numbers_are_llama_cpps():
    for name, number in loading.CACHE_TYPES.items():
        assert gguf_py.GGMLQuantizationType(number).name.lower() == name
    for name, number in loading.NUMA_STRATEGIES.items():
        known = {"off": "DISABLED"}.get(name, name.upper())
        assert getattr(raw, f"GGML_NUMA_STRATEGY_{known}") == number


def test_numa_is_said_once(monkeypatch):
    said: list[int] = []
    monkeypatch.setattr(loading, "_numa", [])
    monkeypatch.setattr(raw, "llama_numa_init", said.append)
    loading.initialise("auto")
    for strategy in ("off", "distribute", "isolate"):
        raw.llama_model_free(loading.load_model(MODEL, replace(PLAIN, numa=strategy)))
    assert said == [raw.GGML_NUMA_STRATEGY_DISTRIBUTE]


def test_more_idle_slots_where_idle_cells_cost_nothing():
    small = ("--ctx-size", "512", "--parallel", "3")
    assert planned(*small).options.idle == 7
    assert planned(*small, "--gpu-layers", "1").options.idle == 27


def test_settings_reach_the_options():
    made = planned(
        *("--flash-attention", "on", "--cache-type-v", "q8_0", "--no-mmap", "--no-swa-full"),
        *("--rope-scaling", "yarn", "--rope-scale", "4", "--rope-freq-base", "20000"),
        *("--yarn-orig-ctx", "1024", "--yarn-ext-factor", "0", "--yarn-beta-fast", "30"),
        *("--numa", "isolate", "--main-gpu", "1", "--split-mode", "row", "--tensor-split", "3,1"),
        *("--ctx-size", "512", "--parallel", "3", "--threads", "2"),
    )
    assert made.options == RuntimeOptions(
        cells=512,
        parallel=3,
        idle=3 + plan.IDLE_SLOTS,
        outputs=64,
        batch_size=2048,
        ubatch_size=512,
        threads=2,
        flash_attention="on",
        cache_type_v="q8_0",
        mmap=False,
        swa_full=False,
        rope=RopeOptions("yarn", 4.0, 20000.0, 1024, extrapolation=0.0, beta_fast=30.0),
        numa="isolate",
        main_gpu=1,
        split_mode="row",
        tensor_split=(3.0, 1.0),
    )


def test_defaults_are_chosen_from_the_memory_there_is(monkeypatch):
    monkeypatch.setattr("services.llama.host.available_memory", lambda: 2**33)
    assert (planned().options.cells, planned().options.parallel) == (8 * 2048, 8)
    monkeypatch.setattr("services.llama.host.available_memory", lambda: 48 * 2**20)
    small = planned().options
    assert small.cells < 2048
    assert small.parallel == small.cells // 256
    monkeypatch.setattr("services.llama.host.available_memory", lambda: 2**20)
    with pytest.raises(StartupError, match="the model needs"):
        planned()
    assert planned("--gpu-layers", "1").options.parallel == 8


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--cache-type-v", "q8_0", "--flash-attention", "off"], "needs flash attention"),
        (["--rope-scaling", "none", "--rope-scale", "2"], "no meaning"),
        (["--lora", "nameless.gguf"], "write name=path"),
        (["--lora", "a=x.gguf", "--lora", "a=y.gguf"], "two adapters are called a"),
        (["--tensor-split", "0,0"], "all shares are 0"),
        (["--tensor-split", "1,-1"], "tensor-split"),
        (["--rope-scale", "nan"], "rope-scale"),
        (["--rope-scale", "1e-300"], "rope-scale: a number from 1e-30 to"),
        (["--rope-freq-base", "1e300"], "rope-freq-base: a number from 1e-30 to 1e[+]30, or 0"),
        (["--rope-freq-base", "1e-300"], "rope-freq-base: a number from"),
        (["--yarn-beta-fast", "1e39"], "yarn-beta-fast: a number from"),
        (["--tensor-split", "1,1e39"], "tensor-split.*: a number from"),
        (["--lora", f"a=x.gguf:{10**39}"], "--lora a: the scale is a number from"),
        (["--tool-format", "nobody"], "not one of .*hermes"),
    ],
)
def test_settings_that_cannot_be(arguments, fault):
    with pytest.raises(ConfigError, match=fault) as caught:
        settings(*arguments)
    assert "\n" not in str(caught.value)


def test_too_many_shares():
    many = ",".join(["1"] * 1000)
    with pytest.raises(StartupError, match="1000 shares for at most"):
        loading.load_model(MODEL, planned("--tensor-split", many).options)


def test_a_stretched_context_is_longer_and_another_model():
    plain, stretched = planned(), planned("--rope-scaling", "yarn", "--rope-scale", "4")
    assert plain.context(100_000) == 2048
    assert stretched.context(100_000) == 8192
    assert plain.header.identity == gguf.read(MODEL).identity
    assert stretched.header.identity != plain.header.identity
    assert planned("--cache-type-k", "q8_0").header.identity == plain.header.identity


@pytest.mark.real
@pytest.mark.parametrize(
    "options",
    [
        {"mmap": False},
        {"flash_attention": "off"},
        {"swa_full": False},
        {"cache_type_k": "q8_0", "cache_type_v": "q8_0"},
        {"rope": RopeOptions("yarn", 4.0, original_context=2048)},
    ],
)
def test_the_model_loads_and_computes_with(options):
    runtime = LlamaRuntime(MODEL, replace(PLAIN, **options))
    try:
        ((row,),) = runtime.decode([Chunk(0, 0, [5, 6, 7], outputs=1)])
        assert np.isfinite(row).all()
    finally:
        runtime.close()


@pytest.mark.real
def test_a_batch_that_is_too_large_for_the_cells_is_no_end_of_the_process():
    runtime = LlamaRuntime(MODEL, replace(PLAIN, cells=40))
    try:
        assert runtime.batch_size == 40
        with pytest.raises(ValueError, match="batch"):
            runtime.decode([Chunk(0, 0, [5] * 41, outputs=1)])
    finally:
        runtime.close()


@pytest.mark.real
def test_a_missing_tensor_is_named(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(MODEL.read_bytes().replace(b"blk.3.ffn_up.weight", b"blk.3.ffn_no.weight"))
    with pytest.raises(StartupError, match=r"blk\.3\.ffn_up\.weight"):
        LlamaRuntime(path, PLAIN)


@pytest.mark.real
@pytest.mark.parametrize(("parallel", "idle", "outputs"), [(8, 0, 8), (8, 32, 64), (100, 124, 116)])
def test_the_estimate_is_not_below_what_llama_cpp_takes(monkeypatch, parallel, idle, outputs):
    lines: list[str] = []
    monkeypatch.setattr(LogCapture, "_write", lambda self, line: lines.append(line))
    options = replace(
        PLAIN,
        cells=4096,
        parallel=parallel,
        idle=idle,
        outputs=outputs,
        batch_size=2048,
        ubatch_size=512,
    )
    LlamaRuntime(MODEL, options).close()
    taken = {
        kind: sum(
            float(line.split("=")[1].split()[0])
            for line in lines
            if f"{kind} buffer size =" in line
        )
        for kind in ("KV", "compute", "output")
    }
    assert all(taken.values())
    spares = idle - parallel if idle else None
    shape = sizing.Shape(4096, parallel, 512, outputs=outputs, idle=spares)
    needed = sizing.needs(gguf.read(MODEL), shape)
    assert taken["KV"] <= needed.cache / 2**20 <= 1.1 * taken["KV"]
    total = taken["compute"] + taken["output"]
    spare = 32
    assert total - 0.1 <= needed.compute / 2**20 - spare <= 1.3 * total
