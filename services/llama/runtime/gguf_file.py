"""Parses the header of one GGUF file, written by anybody: nothing in it costs memory or time.

Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian. What
llama.cpp would answer with an assertion, and so with the end of the process, is refused here.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from services.worker.backend import StartupError

# Values of arrays longer than these are not kept: token tables, not settings. Numbers may be one
# per layer.
_KEPT_STRINGS, _KEPT_NUMBERS = 64, 1024
_SAMPLES, _SAMPLE_BYTES = 64, 4096

# The largest models have some thousand tensors, some hundred keys and a header of 20 MiB, most of
# it the vocabulary's 300,000 tokens and as many merges.
_MOST_KEYS, _MOST_TENSORS = 2**16, 2**18
_MOST_HEADER, _MOST_STRINGS = 2**27, 2**21
_LONGEST_KEY, _LONGEST_NAME, _MOST_DIMENSIONS = 2**16, 63, 4

_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")
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
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """A line of the tensor table."""

    # As ggml counts them: the length of a row first.
    shape: tuple[int, ...]
    # `Q4_0` …
    kind: str
    values: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What one file says, and a digest of it."""

    metadata: dict[str, Any]
    tensors: Mapping[str, Tensor]
    # Bytes.
    size: int
    # SHA-256, hexadecimal, of the header, the size and samples of the contents.
    digest: str


class _DamagedError(Exception):
    """The file is not a GGUF file, or not a whole one."""


def parse(path: Path) -> GgufFile:
    """Reads the header. Raises StartupError, one line that names the file and the fault."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file, _mapped(file, size) as data:
            return _parse(data, size)
    except _DamagedError as error:
        raise StartupError(f"{path}: {error}") from None
    except (struct.error, IndexError, UnicodeDecodeError):
        raise StartupError(f"{path}: broken GGUF file: its header is cut off or damaged") from None
    except FileNotFoundError:
        raise StartupError(f"{path}: no such file") from None
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise StartupError(f"{path}: {error}") from None


def _mapped(file: BinaryIO, size: int) -> mmap.mmap:
    if size == 0:
        raise _DamagedError("not a GGUF file: it is empty")
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _parse(data: mmap.mmap, size: int) -> GgufFile:
    if data[:4] != b"GGUF":
        raise _DamagedError(_foreign(data[:16]))
    reader = _Reader(data)
    version = reader.scalar("<I")
    if version not in (2, 3):
        raise _DamagedError(_unsupported(version))
    tensors, keys = reader.scalar("<Q"), reader.scalar("<Q")
    if tensors > _MOST_TENSORS or keys > _MOST_KEYS:
        raise _DamagedError("broken GGUF file: its counts are absurd")
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key = reader.string(_LONGEST_KEY)
        if not key or key in metadata:
            raise _DamagedError(f"broken GGUF file: key {key!r} is empty or there twice")
        metadata[key] = reader.value(reader.scalar("<I"))
    table: dict[str, Tensor] = {}
    end = 0
    for _ in range(tensors):
        name, tensor, tensor_end = _tensor(reader)
        if name in table:
            raise _DamagedError(f"broken GGUF file: tensor {name!r} is there twice")
        table[name] = tensor
        end = max(end, tensor_end)
    start = _aligned(reader.at, metadata.get("general.alignment", 32))
    if start + end > size:
        raise _DamagedError(
            f"broken GGUF file: it has {size} bytes and says that it has {start + end}"
        )
    return GgufFile(metadata, table, size, _digest(data, start, size))


def _foreign(start: bytes) -> str:
    known = {
        b"GGML": "the old GGML format", b"ggjt": "the old GGJT format", b"PK\3\4": "a zip archive",
        b"\x1f\x8b": "gzip-compressed", b"<!DO": "an HTML page", b"<htm": "an HTML page",
        b"version https": "a Git LFS pointer: fetch the file with git lfs pull",
    }  # fmt: skip
    what = next((words for magic, words in known.items() if start.startswith(magic)), "")
    return f"not a GGUF file: it is {what}" if what else "not a GGUF file"


def _unsupported(version: int) -> str:
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version & 0xFFFF == 0 and 0 < swapped < 2**16:
        return "a big-endian GGUF file, and this machine is little-endian: convert it first"
    return f"GGUF version {version} is not supported"


def _aligned(at: int, alignment: Any) -> int:
    valid = isinstance(alignment, int) and 0 < alignment < 2**20
    if not valid or alignment & (alignment - 1):
        raise _DamagedError("broken GGUF file: general.alignment is no power of two")
    return int(-(-at // alignment) * alignment)


def _tensor(reader: _Reader) -> tuple[str, Tensor, int]:
    """Name, tensor and the end of its data, in bytes after the header."""
    name = reader.string(_LONGEST_NAME)
    dimensions = reader.scalar("<I")
    if dimensions > _MOST_DIMENSIONS:
        raise _DamagedError(f"broken GGUF file: tensor {name!r} has {dimensions} dimensions")
    shape = tuple(reader.scalar("<Q") for _ in range(dimensions))
    values = 1
    for length in shape:
        values *= length
    kind, offset = reader.scalar("<I"), reader.scalar("<Q")
    label, block, block_bytes = _TYPES.get(kind, (f"type {kind}", 1, 0))
    if shape and shape[0] % block:
        raise _DamagedError(f"broken GGUF file: tensor {name!r} has rows of {shape[0]} {label}")
    return name, Tensor(shape, label, values), offset + values // block * block_bytes


def _digest(data: mmap.mmap, start: int, size: int) -> str:
    digest = hashlib.sha256(data[:start])
    digest.update(struct.pack("<Q", size))
    step = max(_SAMPLE_BYTES, (size - start) // _SAMPLES)
    for at in range(start, size, step):
        digest.update(data[at : at + _SAMPLE_BYTES])
    digest.update(data[max(start, size - _SAMPLE_BYTES) : size])
    return digest.hexdigest()


class _Reader:
    """A cursor over the header, after the magic."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._end = min(len(data), _MOST_HEADER)
        self._strings = 0
        self.at = 4

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self.at)
        self._advance(struct.calcsize(form))
        return value

    def string(self, longest: int = _MOST_HEADER) -> str:
        start, end = self._skip_string()
        if end - start > longest:
            raise _DamagedError("broken GGUF file: a name in it is absurdly long")
        return self._data[start:end].decode("utf-8", "replace")

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
        if kind == _STRING:
            if count > _KEPT_STRINGS:
                self._skip_strings(count)
                return []
            return [self.string() for _ in range(count)]
        if kind not in _SCALARS:
            raise _DamagedError(f"broken GGUF file: value type {kind} in an array")
        if count > _KEPT_NUMBERS:
            self._advance(count * struct.calcsize(_SCALARS[kind]))
            return []
        return [self.scalar(_SCALARS[kind]) for _ in range(count)]

    def _skip_strings(self, count: int) -> None:
        self._strings += count
        if self._strings > _MOST_STRINGS:
            raise _DamagedError("broken GGUF file: its counts are absurd")
        # Most of the time of a whole read goes by here.
        data, at, end, length_at = self._data, self.at, self._end, _LENGTH.unpack_from
        for _ in range(count):
            at += 8 + length_at(data, at)[0]
            if at > end:
                break
        self._advance(at - self.at)

    def _skip_string(self) -> tuple[int, int]:
        """Where its bytes begin and end."""
        length: int = self.scalar("<Q")
        start = self.at
        self._advance(length)
        return start, self.at

    def _advance(self, size: int) -> None:
        self.at += size
        if self.at > self._end:
            if self._end < len(self._data):
                raise _DamagedError("broken GGUF file: its header is absurdly long")
            raise IndexError
