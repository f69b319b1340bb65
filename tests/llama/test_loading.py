"""Load options, as llama.cpp takes them, and LoRA adapters on the bundled model."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf as gguf_py
import numpy as np
import pytest
from llama_cpp import llama_cpp as raw

from common.settings import ConfigError
from services.llama import plan, sizing
from services.llama.config import LlamaSettings
from services.llama.description import describe
from services.llama.interface import Chunk
from services.llama.runtime import adapters, gguf, loading
from services.llama.runtime.adapters import AdapterFile
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RopeOptions, RuntimeOptions, context_params, model_params
from services.llama.runtime.logs import LogCapture
from services.worker.backend import SettingError, StartupError

MODEL = Path(__file__).parents[2] / "models" / "caravan-demo.gguf"
PLAIN = RuntimeOptions(
    cells=256, parallel=2, idle=0, batch_size=64, ubatch_size=64, outputs=2, threads=1
)


def settings(*arguments: str) -> LlamaSettings:
    return LlamaSettings.read("x", ["--model", str(MODEL), *arguments])


def planned(*arguments: str) -> plan.Plan:
    return plan.make(settings(*arguments), gguf.read(MODEL))


def lora(
    path: Path,
    tensors: dict[str, tuple[tuple[int, int], tuple[int, int]]] | None = None,
    *,
    architecture: str = "llama",
    kind: str = "adapter",
    adapter: str = "lora",
    more: Any = None,
    seed: int = 0,
) -> Path:
    """A random adapter: by tensor, numpy's shapes of A and B."""
    writer = gguf_py.GGUFWriter(path, architecture)
    writer.add_type(kind)
    writer.add_string("adapter.type", adapter)
    writer.add_float32("adapter.lora.alpha", 8.0)
    if more is not None:
        more(writer)
    random = np.random.default_rng(seed)
    for name, shapes in (tensors or {"blk.0.attn_q.weight": ((4, 256), (256, 4))}).items():
        for part, shape in zip("ab", shapes, strict=True):
            writer.add_tensor(f"{name}.lora_{part}", random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


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
def test_adapters_are_loaded_and_change_the_output(tmp_path):
    file = AdapterFile("one", lora(tmp_path / "one.gguf"), 2.0)
    runtime = LlamaRuntime(MODEL, replace(PLAIN, adapters=(file,)))
    try:
        loaded = runtime.adapters["one"]
        assert loaded.scale == 2.0
        rows = []
        for active in (False, True, False):
            handles = (raw.llama_adapter_lora_p_ctypes * 1)(loaded.handle)
            scales = (ctypes.c_float * 1)(loaded.scale)
            assert raw.llama_set_adapters_lora(runtime._context, handles, int(active), scales) == 0
            ((row,),) = runtime.decode([Chunk(0, 0, [5, 6, 7], outputs=1)])
            rows.append(row.copy())
            runtime.reset()
        assert np.abs(rows[0] - rows[1]).max() > 1e-3
        assert np.array_equal(rows[0], rows[2])
    finally:
        runtime.close()
    assert runtime.adapters == {}


def test_adapters_are_listed_and_part_of_the_identity(tmp_path):
    first, second = lora(tmp_path / "1.gguf"), lora(tmp_path / "2.gguf", seed=1)
    made = planned("--lora", f"one={first}", "--lora", f"two={second}:0.5")
    assert made.options.adapters == (
        AdapterFile("one", first, 1.0),
        AdapterFile("two", second, 0.5),
    )
    said = settings("--lora", f"one={first}", "--lora", f"two={second}:0.5")
    info = describe(said, MODEL, made.header, vocabulary=1, context=1)
    assert list(info.adapters) == ["one", "two"]
    assert info.size_bytes == sum(path.stat().st_size for path in (MODEL, first, second))
    others = [
        (),
        ("--lora", f"one={first}"),
        ("--lora", f"one={first}", "--lora", f"two={second}"),
        ("--lora", f"two={first}", "--lora", f"one={second}:0.5"),
    ]
    identities = {planned(*other).header.identity for other in others} | {made.header.identity}
    assert len(identities) == 5
    again = planned("--lora", f"two={second}:0.5", "--lora", f"one={first}")
    assert again.header.identity == made.header.identity


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"architecture": "qwen2"}, "made for 'qwen2', the model is 'llama'"),
        ({"kind": "model"}, "no adapter but a model"),
        ({"adapter": "control_vector"}, "of type 'control_vector', not 'lora'"),
        (
            {"tensors": {"blk.99.attn_q.weight": ((4, 256), (256, 4))}},
            r"no tensor blk\.99\.attn_q\.weight: made for another model\?",
        ),
        ({"tensors": {"blk.0.attn_q.weight": ((4, 128), (256, 4))}}, "another shape"),
        ({"tensors": {"blk.0.attn_q.weight": ((4, 256), (256, 8))}}, "another shape"),
        ({"tensors": {"blk.0.attn_norm.weight": ((4, 256), (256, 4))}}, "is no matrix"),
        (
            {"more": lambda w: w.add_array("adapter.alora.invocation_tokens", [1, 2])},
            "activated LoRA",
        ),
    ],
)
def test_a_bad_adapter_is_one_line(tmp_path, fields, fault):
    path = lora(tmp_path / "bad.gguf", **fields)
    with pytest.raises(SettingError, match=fault) as caught:
        planned("--lora", f"bad={path}")
    assert str(caught.value).startswith(f"--lora bad: {path}: ")
    assert "\n" not in str(caught.value)


def test_an_adapter_that_is_not_there(tmp_path):
    path = tmp_path / "none.gguf"
    with pytest.raises(SettingError) as caught:
        planned("--lora", f"bad={path}")
    assert str(caught.value) == f"--lora bad: {path}: no such file"


def test_an_adapter_that_llama_cpp_would_die_of_is_refused(tmp_path):
    path = lora(tmp_path / "bad.gguf")
    data = path.read_bytes()
    alpha = b"adapter.lora.alpha" + struct.pack("<If", 6, 8.0)
    assert alpha in data
    number = b"adapter.lora.alpha" + struct.pack("<II", 4, 8)
    path.write_bytes(data.replace(alpha, number))
    with pytest.raises(StartupError, match=r"adapter\.lora\.alpha is no number"):
        planned("--lora", f"bad={path}")


@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_damaged_adapter(tmp_path, change):
    path = lora(tmp_path / "bad.gguf")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(StartupError, match=r"bad\.gguf: .*GGUF file"):
        planned("--lora", f"bad={path}")
    with pytest.raises(StartupError, match="no such file"):
        planned("--lora", "bad=none.gguf")


@pytest.mark.real
def test_what_only_llama_cpp_finds_wrong_is_one_line_too(tmp_path):
    path = lora(
        tmp_path / "bad.gguf",
        more=lambda writer: writer.add_tensor("stray", np.zeros(4, np.float32)),
    )
    file = AdapterFile("bad", path)
    adapters.check(file, gguf.read(MODEL))
    with pytest.raises(StartupError, match="LoRA tensor 'stray' has unexpected suffix"):
        LlamaRuntime(MODEL, replace(PLAIN, adapters=(file,)))


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
