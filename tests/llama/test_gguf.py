from __future__ import annotations

import struct
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import gguf as gguf_py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.llama.runtime import gguf
from services.worker.backend import StartupError


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def write(
    path: Path,
    metadata: dict[str, tuple[int, bytes]] | None = None,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    data: bytes = bytes(range(256)),
    tensor: str = "weight",
    kind: int = 0,
    row: int = 8,
    architecture: bool = True,
) -> Path:
    """A file with one tensor of 8 rows, F32 of 8 x 8: 256 bytes."""
    own = {"general.architecture": (8, string("llama"))} if architecture else {}
    entries = {**own, **(metadata or {})}
    body = magic + struct.pack("<IQQ", version, 1, len(entries))
    for key, (value_type, value) in entries.items():
        body += string(key) + struct.pack("<I", value_type) + value
    body += string(tensor) + struct.pack("<IQQIQ", 2, row, 8, kind, 0)
    body += bytes(-len(body) % 32)
    path.write_bytes(body + data)
    return path


def test_reads_what_the_file_says(tmp_path):
    header = gguf.read(
        write(
            tmp_path / "m.gguf",
            {
                "llama.context_length": (4, struct.pack("<I", 2048)),
                "general.name": (8, string("Täst")),
                "list": (9, struct.pack("<IQ", 8, 2) + string("a") + string("b")),
                "layers": (9, struct.pack("<IQ", 4, 100) + struct.pack("<100I", *range(100))),
                "long": (9, struct.pack("<IQ", 6, 2000) + bytes(8000)),
                "words": (9, struct.pack("<IQ", 8, 65) + 65 * string("w")),
                "flag": (7, b"\1"),
            },
        )
    )
    assert header.architecture == "llama"
    assert header.setting("context_length") == 2048
    assert header.metadata["general.name"] == "Täst"
    assert header.metadata["list"] == ["a", "b"]
    assert header.metadata["layers"] == list(range(100))
    assert header.metadata["long"] == []
    assert header.metadata["words"] == []
    assert header.metadata["flag"] is True
    assert (header.parameters, header.quantization) == (64, "F32")


def test_identity_depends_on_metadata_and_weights_not_on_place(tmp_path):
    def identity(name: str, **fields: Any) -> str:
        return gguf.read(write(tmp_path / name, **fields)).identity

    first = identity("a")
    assert first.startswith("sha256:")
    assert len(first) == 7 + 64
    assert identity("b") == first
    assert identity("c", metadata={"x": (7, b"\0")}) != first
    assert identity("d", data=bytes(range(255)) + b"x") != first


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"magic": b"GGML"}, "not a GGUF file"),
        ({"version": 1}, "version 1 is not supported"),
        ({"data": bytes(100)}, "it has .* bytes and says that it has"),
        ({"metadata": {"x": (99, b"")}}, "value type 99"),
        ({"metadata": {"general.architecture": (7, b"\0")}}, "architecture is missing"),
        ({"metadata": {"x": (8, struct.pack("<Q", 2**60))}}, "cut off or damaged"),
        ({"metadata": {"x": (9, struct.pack("<IQ", 4, 2**60))}}, "cut off or damaged"),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path, fields, fault):
    path = write(tmp_path / "m.gguf", **fields)
    with pytest.raises(StartupError, match=fault) as caught:
        gguf.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_truncation_is_noticed(tmp_path):
    whole = write(tmp_path / "m.gguf").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(StartupError):
            gguf.read(tmp_path / "cut.gguf")


def test_no_such_file_and_no_file(tmp_path):
    with pytest.raises(StartupError, match="no such file"):
        gguf.read(tmp_path / "none.gguf")
    with pytest.raises(StartupError):
        gguf.read(tmp_path)


def u16(value: int) -> tuple[int, bytes]:
    return 2, struct.pack("<H", value)


def part(path: Path, number: int, count: int, *, tensors: int = 2, weight: str = "weight") -> Path:
    """As llama.cpp's splitter writes it: the metadata in the first part alone."""
    split = {
        "split.no": u16(number),
        "split.count": u16(count),
        "split.tensors.count": (5, struct.pack("<i", tensors)),
    }
    if number == 0:
        return write(path, {"general.name": (8, string("in parts")), **split}, tensor=weight)
    return write(path, split, tensor=weight, architecture=False)


def two_parts(folder: Path) -> list[Path]:
    names = [f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    return [part(folder / name, at, 2, weight=f"blk.{at}.weight") for at, name in enumerate(names)]


def test_a_split_model_is_read_whole_whichever_part_is_named(tmp_path):
    parts = two_parts(tmp_path)
    first, second = (gguf.read(path) for path in parts)
    assert first == second
    assert first.parts == tuple(parts)
    assert first.metadata["general.name"] == "in parts"
    assert list(first.tensors) == ["blk.0.weight", "blk.1.weight"]
    assert first.parameters == 128
    assert first.size == sum(path.stat().st_size for path in parts)


def test_the_identity_of_a_split_model_covers_every_part(tmp_path):
    parts = two_parts(tmp_path)
    before = gguf.read(parts[0]).identity
    data = bytearray(parts[1].read_bytes())
    data[-1] ^= 1
    parts[1].write_bytes(data)
    assert gguf.read(parts[0]).identity != before


def test_missing_parts_are_named_in_one_line(tmp_path):
    parts = two_parts(tmp_path)
    parts[1].unlink()
    for named in parts:
        with pytest.raises(StartupError, match=r"1 of its 2 parts missing: m-00002-of-00002\.gguf"):
            gguf.read(named)
    parts[0].unlink()
    with pytest.raises(StartupError, match="no such file"):
        gguf.read(parts[0])


def test_parts_in_the_wrong_place(tmp_path):
    parts = two_parts(tmp_path)
    whole = tmp_path / "whole.gguf"
    whole.write_bytes(parts[1].read_bytes())
    with pytest.raises(StartupError, match=r"architecture is missing"):
        gguf.read(whole)
    whole.write_bytes(parts[0].read_bytes())
    with pytest.raises(StartupError, match=r"must keep its name \(…-00001-of-00002\.gguf\)"):
        gguf.read(whole)
    parts[1].write_bytes(parts[0].read_bytes())
    with pytest.raises(StartupError, match="another part"):
        gguf.read(parts[0])


def test_parts_of_two_models(tmp_path):
    first, second = two_parts(tmp_path)
    part(first, 0, 2, tensors=3)
    with pytest.raises(StartupError, match="have 2 tensors together, not 3"):
        gguf.read(second)


@pytest.mark.parametrize(
    ("start", "fault"),
    [
        (b"", "it is empty"),
        (b"PK\3\4" + bytes(30), "a zip archive"),
        (b"<!DOCTYPE html>" + bytes(30), "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 4, 1, 1), "version 4 is not supported"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**40, 1), "counts are absurd"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**40), "counts are absurd"),
    ],
)
def test_what_else_is_no_model(tmp_path, start, fault):
    path = tmp_path / "m.gguf"
    path.write_bytes(start)
    with pytest.raises(StartupError, match=fault):
        gguf.read(path)


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"general.alignment": (4, struct.pack("<I", 0))}, "power of two"),
        ({"general.alignment": (4, struct.pack("<I", 24))}, "power of two"),
        ({"general.alignment": (8, string("32"))}, "power of two"),
        ({"x": (9, struct.pack("<IQIQ", 9, 1, 4, 0))}, "type 9 in an array"),
        ({"general.type": (8, string("adapter"))}, "name it with --lora"),
        ({"": (7, b"\0")}, "empty or there twice"),
        ({"k" * 70_000: (7, b"\0")}, "absurdly long"),
    ],
)
def test_hostile_metadata(tmp_path, metadata, fault):
    with pytest.raises(StartupError, match=fault):
        gguf.read(write(tmp_path / "m.gguf", metadata))


@pytest.mark.parametrize(("kind", "count"), [(8, 2**35), (8, 2**63), (4, 2**35), (10, 2**61)])
def test_an_absurd_array_in_a_huge_file_costs_neither_time_nor_memory(tmp_path, kind, count):
    path = tmp_path / "m.gguf"
    array = {"x": (9, struct.pack("<IQ", kind, count))}
    start = write(path, array).read_bytes().index(b"weight") - 8
    with path.open("r+b") as file:
        file.truncate(start)
        file.truncate(2**40)  # zeros, without a block on the disk
    tracemalloc.start()
    try:
        with pytest.raises(StartupError, match="broken GGUF file"):
            gguf.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_tensor_of_rows_that_are_no_blocks(tmp_path):
    with pytest.raises(StartupError, match="rows of 8 Q4_0"):
        gguf.read(write(tmp_path / "m.gguf", kind=2))


# Q8_1 is for activations: never in a file.
@pytest.mark.parametrize("kind", [k for k in gguf_py.GGMLQuantizationType if k.name != "Q8_1"])
def test_every_type_of_weights_has_its_name_and_size(tmp_path, kind):
    row, size = gguf_py.GGML_QUANT_SIZES[kind]
    path = write(tmp_path / "m.gguf", kind=kind, row=row, data=bytes(8 * size))
    assert gguf.read(path).quantization == kind.name
    write(path, kind=kind, row=row, data=bytes(8 * size - 1))
    with pytest.raises(StartupError, match=r"it has \d+ bytes and says that it has"):
        gguf.read(path)


@given(at=st.integers(0, 300), change=st.binary(min_size=1, max_size=12))
@settings(max_examples=200)
def test_a_damaged_header_is_one_line_or_a_header(at, change):
    with tempfile.TemporaryDirectory() as folder:
        path = write(
            Path(folder, "m.gguf"),
            {
                "list": (9, struct.pack("<IQ", 8, 2) + string("a") + string("b")),
                "numbers": (9, struct.pack("<IQ", 4, 2) + bytes(8)),
            },
        )
        data = bytearray(path.read_bytes())
        data[at : at + len(change)] = change
        path.write_bytes(data)
        try:
            assert gguf.read(path).architecture
        except StartupError as error:
            message = str(error)
            assert "\n" not in message
