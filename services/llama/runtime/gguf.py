"""Reads a GGUF file's header: metadata, tensor table, identity; checks it before llama.cpp does.

Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.worker.backend import StartupError

# Values of arrays longer than this are not kept: token tables, not settings.
_KEPT_ARRAY = 64
_SAMPLES, _SAMPLE_BYTES = 64, 4096

_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip

# ggml_type: (name, values per block, bytes per block). A type that is not here is not checked.
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4),
    27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about itself."""

    metadata: dict[str, Any]
    # Number of weights.
    parameters: int
    # Type of most of the weights, `Q4_0` …
    quantization: str
    # Size of the file, bytes.
    size: int
    # `sha256:…` of header, size and samples of the contents.
    identity: str

    @property
    def architecture(self) -> str:
        """`llama`, `qwen3` and so on."""
        return str(self.metadata["general.architecture"])

    def setting(self, key: str) -> Any:
        """The architecture's own value for a key such as `context_length`; None: not said."""
        return self.metadata.get(f"{self.architecture}.{key}")


class _DamagedError(Exception):
    """The file is not a GGUF file, or not a whole one."""


def read(path: Path) -> Header:
    """Reads the header. Raises StartupError, one line that names the file and the fault."""
    try:
        size = path.stat().st_size
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _read(data, size)
    except _DamagedError as error:
        raise StartupError(f"{path}: {error}") from None
    except (struct.error, IndexError, UnicodeDecodeError):
        raise StartupError(f"{path}: broken GGUF file: its header is cut off or damaged") from None
    except FileNotFoundError:
        raise StartupError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise StartupError(f"{path}: {error}") from None


def _read(data: mmap.mmap, size: int) -> Header:
    if data[:4] != b"GGUF":
        raise _DamagedError("not a GGUF file")
    reader = _Reader(data)
    version = reader.scalar("<I")
    if version not in (2, 3):
        raise _DamagedError(f"GGUF version {version} is not supported")
    tensors, keys = reader.scalar("<Q"), reader.scalar("<Q")
    if tensors > size or keys > size:
        raise _DamagedError("broken GGUF file: its counts are absurd")
    metadata = {}
    for _ in range(keys):
        key = reader.string()
        metadata[key] = reader.value(reader.scalar("<I"))
    if not isinstance(metadata.get("general.architecture"), str):
        raise _DamagedError("broken GGUF file: general.architecture is missing")
    table = [_tensor(reader) for _ in range(tensors)]
    alignment = int(metadata.get("general.alignment", 32)) or 32
    start = -(-reader.at // alignment) * alignment
    end = start + max((offset + length for _, _, offset, length in table), default=0)
    if end > size:
        raise _DamagedError(f"broken GGUF file: it has {size} bytes and says that it has {end}")
    weights: dict[str, int] = {}
    for count, kind, _, _ in table:
        weights[kind] = weights.get(kind, 0) + count
    return Header(
        metadata=metadata,
        parameters=sum(weights.values()),
        quantization=max(weights, key=lambda kind: weights[kind], default=""),
        size=size,
        identity=_identity(data, start, size),
    )


def _tensor(reader: _Reader) -> tuple[int, str, int, int]:
    """Number of weights, type, offset and length in bytes of the next tensor of the table."""
    reader.string()
    count = 1
    for _ in range(reader.scalar("<I")):
        count *= reader.scalar("<Q")
    kind = reader.scalar("<I")
    offset = reader.scalar("<Q")
    name, block, block_bytes = _TYPES.get(kind, (f"type {kind}", 1, 0))
    return count, name, offset, count // block * block_bytes


def _identity(data: mmap.mmap, start: int, size: int) -> str:
    digest = hashlib.sha256(data[:start])
    digest.update(struct.pack("<Q", size))
    step = max(_SAMPLE_BYTES, (size - start) // _SAMPLES)
    for at in range(start, size, step):
        digest.update(data[at : at + _SAMPLE_BYTES])
    digest.update(data[max(start, size - _SAMPLE_BYTES) : size])
    return f"sha256:{digest.hexdigest()}"


class _Reader:
    """A cursor over the header, after the magic."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = 4

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self) -> str:
        length: int = self.scalar("<Q")
        if self.at + length > len(self._data):
            raise IndexError
        raw = self._data[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise _DamagedError(f"broken GGUF file: value type {kind} is not known")
        return self.scalar(_SCALARS[kind])

    def _array(self) -> list[Any]:
        kind, count = self.scalar("<I"), self.scalar("<Q")
        if count > len(self._data):
            raise IndexError
        if count > _KEPT_ARRAY and kind in _SCALARS:
            self.at += count * struct.calcsize(_SCALARS[kind])
            return []
        values = [self.value(kind) for _ in range(count)]
        return values if count <= _KEPT_ARRAY else []
