"""LoRA adapters of the bundled model: what is loaded, and what is refused before llama.cpp dies."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf as gguf_py
import numpy as np
import pytest
from llama_cpp import llama_cpp as raw

from services.llama.description import describe
from services.llama.interface import Chunk
from services.llama.runtime import adapters, gguf
from services.llama.runtime.adapters import AdapterFile
from services.llama.runtime.llama import LlamaRuntime
from services.worker.backend import SettingError, StartupError
from tests.llama.test_loading import MODEL, PLAIN, planned, settings

VOCABULARY = gguf.read(MODEL).tensors["token_embd.weight"].shape[1]


def lora(
    path: Path,
    tensors: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] | None = None,
    *,
    numbers: Any = np.float32,
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
            writer.add_tensor(f"{name}.lora_{part}", random.normal(size=shape).astype(numbers))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


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
        ({"tensors": {"blk.0.attn_q.weight": ((2, 4, 256), (2, 256, 4))}}, "another shape"),
        (
            {"tensors": {"token_embd.weight": ((VOCABULARY, 4), (256, 4))}},
            "the model's output, too",
        ),
        ({"tensors": {"blk.0.attn_norm.weight": ((4, 256), (256, 4))}}, "is no matrix"),
        ({"numbers": np.int8}, "of type I8, which are no weights"),
        ({"numbers": np.float64}, "of type F64, which are no weights"),
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


def test_the_two_halves_of_an_adapted_embedding_must_fit(tmp_path):
    base = gguf.read(MODEL)
    embedding = base.tensors["token_embd.weight"]
    untied = replace(base, tensors={**base.tensors, "output.weight": embedding})
    for rank, fits in ((4, True), (8, False)):
        shapes = ((VOCABULARY, 4), (256, rank))
        path = lora(tmp_path / f"{rank}.gguf", {"token_embd.weight": shapes})
        with nullcontext() if fits else pytest.raises(SettingError, match="another shape"):
            adapters.check(AdapterFile("one", path), untied)


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
