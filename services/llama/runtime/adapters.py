"""LoRA adapters of a model: files checked before llama.cpp sees them, handles, identity.

llama.cpp answers some of what can be wrong in such a file with an assertion, and so with the end
of the process: types of metadata are checked here first.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from llama_cpp import llama_cpp as raw

from services.llama.runtime.gguf import Header
from services.llama.runtime.gguf_file import GgufFile, Tensor, parse
from services.llama.runtime.logs import LogCapture
from services.worker.backend import SettingError, StartupError

_EMBEDDING = "token_embd.weight"
# Types that llama.cpp has no products of: it dies of the first request with such an adapter.
_NO_WEIGHTS = frozenset({"I8", "I16", "I32", "I64", "F64", "Q8_K"})

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter as the operator names it."""

    # What requests call it.
    name: str
    path: Path
    # Factor of its effect, 1 as it was trained.
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """A loaded one; valid until its model is freed."""

    # llama_adapter_lora, freed with its model or by `free`.
    handle: Any
    scale: float


def check(adapter: AdapterFile, base: Header) -> GgufFile:
    """That it is a LoRA for this model. Raises SettingError, one line."""
    try:
        file = parse(adapter.path)
    except StartupError as error:
        raise SettingError(f"--lora {adapter.name}: {error}") from None
    fault = _fault(file, base)
    if fault:
        raise SettingError(f"--lora {adapter.name}: {adapter.path}: {fault}")
    return file


def identity(base: Header, adapters: Sequence[tuple[AdapterFile, GgufFile]]) -> str:
    """Digest of the model and its adapters: names, scales and contents, in any order."""
    if not adapters:
        return base.identity
    digest = hashlib.sha256(base.identity.encode())
    for adapter, file in sorted(adapters, key=lambda pair: pair[0].name):
        digest.update(f"\n{adapter.name}={file.digest}:{adapter.scale!r}".encode())
    return f"sha256:{digest.hexdigest()}"


def load(model: Any, adapters: Sequence[AdapterFile], capture: LogCapture) -> dict[str, Adapter]:
    """By name. To be called before a context is made: its graphs are sized by them.

    Raises StartupError; what was loaded before is then freed with the model.
    """
    loaded: dict[str, Adapter] = {}
    for adapter in adapters:
        capture.errors.clear()
        handle = raw.llama_adapter_lora_init(model, os.fsencode(adapter.path))
        if not handle:
            why = capture.last_error().removeprefix("failed to apply lora adapter: ")
            raise StartupError(f"--lora {adapter.name}: {adapter.path}: {why}")
        loaded[adapter.name] = Adapter(handle, adapter.scale)
        _log.info("adapter loaded", name=adapter.name, scale=adapter.scale)
    return loaded


def free(adapters: dict[str, Adapter]) -> None:
    """Frees them, after their contexts and before their model."""
    for adapter in adapters.values():
        raw.llama_adapter_lora_free(adapter.handle)
    adapters.clear()


def _fault(file: GgufFile, base: Header) -> str:
    """What is wrong with it; empty: nothing."""
    said = file.metadata
    if said.get("general.type") != "adapter":
        return "no adapter but a model"
    if said.get("adapter.type") != "lora":
        return f"an adapter of type {said.get('adapter.type')!r}, not 'lora'"
    if said.get("general.architecture") != base.architecture:
        return f"made for {said.get('general.architecture')!r}, the model is {base.architecture!r}"
    if not isinstance(said.get("adapter.lora.alpha", 0.0), float):
        return "its adapter.lora.alpha is no number"
    if "adapter.alora.invocation_tokens" in said:
        return "activated LoRA (aLoRA) is not supported"
    pairs = _pairs(file)
    if not pairs:
        return "it has no LoRA tensors"
    if _EMBEDDING in pairs and "output.weight" not in base.tensors:
        return f"tensor {_EMBEDDING} is the model's output, too: llama.cpp cannot adapt that"
    for name, pair in pairs.items():
        fault = _pair_fault(name, pair.get("a"), pair.get("b"), base.tensors.get(name))
        if fault:
            return fault
    return ""


def _pairs(file: GgufFile) -> dict[str, dict[str, Tensor]]:
    """By the base's tensor: its `a` and `b`. Others than these llama.cpp names itself."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in file.tensors.items():
        base, _, part = name.rpartition(".lora_")
        if base and part in ("a", "b"):
            pairs.setdefault(base, {})[part] = tensor
    return pairs


def _pair_fault(name: str, a: Tensor | None, b: Tensor | None, base: Tensor | None) -> str:
    if a is None or b is None:
        return f"tensor {name} has only one of lora_a and lora_b"
    if base is None:
        return f"the model has no tensor {name}: made for another model?"
    if min(len(a.shape), len(b.shape), len(base.shape)) < 2:
        return f"tensor {name} is no matrix"
    for tensor in (a, b):
        if tensor.kind in _NO_WEIGHTS:
            return f"tensor {name} is of type {tensor.kind}, which are no weights"
    if name.endswith(_EMBEDDING):
        # A lookup of rows: A and B change places.
        fits = base.shape[0] == b.shape[1] and base.shape[1] == a.shape[1]
        fits = fits and a.shape[0] == b.shape[0]
    else:
        fits = base.shape[0] == a.shape[0] and base.shape[1] == b.shape[1]
        fits = fits and a.shape[1] == b.shape[0]
    # Of experts there is one matrix each.
    fits = fits and _experts(a) == _experts(b) == _experts(base)
    return "" if fits else f"tensor {name} has another shape than the model's"


def _experts(tensor: Tensor) -> int:
    return math.prod(tensor.shape[2:])
