"""Names of models on the Hugging Face hub, `hf:owner/repo:file-or-quant`: which files they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from services.worker.backend import SettingError, StartupError

_NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<wanted>[\w./-]+))?", re.ASCII)
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
# What is taken when nothing is asked for, in this order: the usual balance of size and quality.
_PREFERRED = ("Q4_K_M", "Q4_0", "Q4_K_S", "Q5_K_M", "Q8_0")
# Projectors are small, and see worse with fewer bits.
_PREFERRED_PROJECTORS = ("F16", "BF16", "Q8_0", "F32")


def is_hub_name(model: str) -> bool:
    """Whether it is no path."""
    return model.startswith("hf:")


def locate(model: str, endpoint: str | None = None, *, projector: bool = False) -> Path:
    """The file of a model: a path as it is, a hub name as `hub_client.fetch` gets it.

    `projector`: that of the model is meant, which lies beside it in most repositories. `endpoint` is the hub's URL; None: the public one, or HF_ENDPOINT. Raises StartupError.
    """
    if not is_hub_name(model):
        return Path(model)
    match = _NAME.fullmatch(model)
    if match is None:
        raise SettingError(f"{model}: write hf:owner/repo:file-or-quant")
    wanted = match["wanted"] or ""
    # Here, because a worker whose model is a file needs none of the MiB that the client takes.
    from services.llama import hub_client  # noqa: PLC0415

    return hub_client.fetch(
        model,
        match["repo"],
        lambda files: choose(model, files, wanted, projector=projector),
        endpoint,
    )


def choose(model: str, files: Sequence[str], wanted: str, *, projector: bool = False) -> list[str]:
    """The files to fetch, all parts of a split model, the one to load first; pure.

    `wanted` is a file, any part of one, a quantization such as `Q4_K_M`, or empty. Raises
    StartupError, which lists what there is when nothing or too much fits.
    """
    models = sorted(
        name for name in files if name.endswith(".gguf") and ("mmproj" in name) == projector
    )
    firsts = [name for name in models if _part(name) == 1]
    if wanted in models:
        return _parts(model, wanted, models)
    preferred = _PREFERRED_PROJECTORS if projector else _PREFERRED
    for quantization in (wanted,) if wanted else preferred:
        pattern = re.compile(rf"(?<![a-z0-9]){re.escape(quantization)}(?![a-z0-9_])", re.IGNORECASE)
        found = [name for name in firsts if pattern.search(name)]
        if len(found) > 1:
            several = ", ".join(found)
            raise StartupError(f"{model}: {quantization} fits several, name the file: {several}")
        if found:
            return _parts(model, found[0], models)
    if not wanted and len(firsts) == 1:
        return _parts(model, firsts[0], models)
    there = ", ".join(firsts) or "no GGUF files"
    raise StartupError(f"{model}: no such file or quantization; there are: {there}")


def _part(name: str) -> int:
    match = _PART.search(name)
    return int(match[1]) if match else 1


def _parts(model: str, named: str, models: Sequence[str]) -> list[str]:
    match = _PART.search(named)
    if match is None:
        return [named]
    stem, count = named[: match.start()], match[2]
    parts = [f"{stem}-{at:05}-of-{count}.gguf" for at in range(1, int(count) + 1)]
    missing = [part for part in parts if part not in models]
    if missing:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise StartupError(f"{model}: {len(missing)} of {len(parts)} parts missing: {shown}")
    return parts
