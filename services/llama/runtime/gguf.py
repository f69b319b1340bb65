"""A model in GGUF, in one file or in parts: what it says about itself, checked before a load."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.llama.runtime.gguf_file import GgufFile, Tensor, parse
from services.worker.backend import StartupError

_PART = re.compile(r"-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class Header:
    """What a model says about itself, all parts together."""

    metadata: dict[str, Any]
    # Number of weights.
    parameters: int
    # Type of most of the weights, `Q4_0` …
    quantization: str
    # Size of all files, bytes.
    size: int
    # `sha256:…` of header, size and samples of the contents of all files.
    identity: str
    # By name.
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    # The files, the one that llama.cpp is given first.
    parts: tuple[Path, ...] = ()

    @property
    def architecture(self) -> str:
        """`llama`, `qwen3` and so on."""
        return str(self.metadata["general.architecture"])

    def setting(self, key: str) -> Any:
        """The architecture's own value for a key such as `context_length`; None: not said."""
        return self.metadata.get(f"{self.architecture}.{key}")


def read(path: Path) -> Header:
    """Reads a model, of a split one all parts, whichever of them is named.

    Raises StartupError, one line that names the file and the fault.
    """
    parts = part_paths(path)
    if len(parts) > 1:
        _refuse_missing(path, parts)
    files = [parse(part) for part in parts]
    first = files[0]
    if not isinstance(first.metadata.get("general.architecture"), str):
        raise StartupError(f"{parts[0]}: broken GGUF file: general.architecture is missing")
    if first.metadata.get("general.type") == "adapter":
        raise StartupError(f"{path}: a LoRA adapter, no model: name it with --lora")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(file.tensors)
    _check_split(parts, files, len(tensors))
    if not tensors:
        raise StartupError(f"{path}: it has no weights, a vocabulary at most")
    weights: Counter[str] = Counter()
    for tensor in tensors.values():
        weights[tensor.kind] += tensor.values
    return Header(
        metadata=first.metadata,
        parameters=weights.total(),
        quantization=max(weights, key=lambda kind: weights[kind]),
        size=sum(file.size for file in files),
        identity=f"sha256:{_combined([file.digest for file in files])}",
        tensors=tensors,
        parts=tuple(parts),
    )


def part_paths(path: Path) -> list[Path]:
    """All parts of the model that `path` is a part of, by the names; itself if it is whole."""
    match = _PART.search(path.name)
    if match is None:
        return [path]
    stem, count = path.name[: match.start()], int(match["count"])
    return [path.with_name(f"{stem}-{at:05}-of-{count:05}.gguf") for at in range(1, count + 1)]


def _refuse_missing(path: Path, parts: Sequence[Path]) -> None:
    missing = [part.name for part in parts if not part.is_file()]
    if not missing:
        return
    if len(missing) == len(parts):
        raise StartupError(f"{path}: no such file")
    shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
    raise StartupError(f"{path}: {len(missing)} of its {len(parts)} parts missing: {shown}")


def _check_split(parts: Sequence[Path], files: Sequence[GgufFile], tensors: int) -> None:
    """That the files are what their names say: parts of one model, each in its place."""
    for at, (part, file) in enumerate(zip(parts, files, strict=True)):
        number = file.metadata.get("split.no", 0)
        count = file.metadata.get("split.count", 1) or 1
        if (number, count) == (at, len(parts)):
            continue
        if len(parts) == 1:
            name = f"-{number + 1:05}-of-{count:05}.gguf" if _whole(number, count) else ""
            raise StartupError(f"{part}: a part of a split model must keep its name (…{name})")
        raise StartupError(f"{part}: says that it is another part of a split model than its name")
    said = files[0].metadata.get("split.tensors.count", tensors)
    if len(parts) > 1 and said != tensors:
        raise StartupError(f"{parts[0]}: the parts have {tensors} tensors together, not {said}")


def _whole(*values: object) -> bool:
    return all(isinstance(value, int) for value in values)


def _combined(digests: Sequence[str]) -> str:
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
