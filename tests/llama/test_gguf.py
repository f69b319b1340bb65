from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

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
) -> Path:
    """A file with one tensor, F32 of 8 x 8: 256 bytes."""
    entries = {"general.architecture": (8, string("llama")), **(metadata or {})}
    body = magic + struct.pack("<IQQ", version, 1, len(entries))
    for key, (kind, value) in entries.items():
        body += string(key) + struct.pack("<I", kind) + value
    body += string("weight") + struct.pack("<IQQIQ", 2, 8, 8, 0, 0)
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
                "long": (9, struct.pack("<IQ", 6, 100) + bytes(400)),
                "flag": (7, b"\1"),
            },
        )
    )
    assert header.architecture == "llama"
    assert header.setting("context_length") == 2048
    assert header.metadata["general.name"] == "Täst"
    assert header.metadata["list"] == ["a", "b"]
    assert header.metadata["long"] == []
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
