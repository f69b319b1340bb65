"""Names of models on the Hugging Face hub, `hf:owner/repo:file-or-quant`, to files on this disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import structlog
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from services.worker.backend import StartupError

_NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<wanted>[\w./-]+))?", re.ASCII)
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
# What is taken when nothing is asked for, in this order: the usual balance of size and quality.
_PREFERRED = ("Q4_K_M", "Q4_0", "Q4_K_S", "Q5_K_M", "Q8_0")
_HUB_SECONDS = 10.0

_log = structlog.get_logger()


def is_hub_name(model: str) -> bool:
    """Whether it is no path."""
    return model.startswith("hf:")


def locate(model: str, endpoint: str | None = None) -> Path:
    """The file of a model: a path as it is, a hub name after a download, or from the cache.

    Blocks, with a progress bar, for as long as the download takes; what is there already is not
    fetched again, and without a network the cache serves. `endpoint` is the hub's URL; None: the
    public one, or HF_ENDPOINT. Raises StartupError.
    """
    if not is_hub_name(model):
        return Path(model)
    match = _NAME.fullmatch(model)
    if match is None:
        raise StartupError(f"--model {model}: write hf:owner/repo:file-or-quant")
    repo, wanted = match["repo"], match["wanted"] or ""
    try:
        # Not list_repo_files: that one tries for half a minute before it says "offline".
        info = HfApi(endpoint=endpoint).model_info(repo, timeout=_HUB_SECONDS)
        files = [sibling.rfilename for sibling in info.siblings or ()]
    except GatedRepoError:
        raise StartupError(f"{model}: access needs an accepted licence and HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise StartupError(f"{model}: the hub has no such repository") from None
    except Exception as error:  # noqa: BLE001 -- offline, refused, cut off: each its own type
        return _cached(model, repo, wanted, error)
    names = choose(model, files, wanted)
    try:
        paths = [hf_hub_download(repo, name, endpoint=endpoint) for name in names]
    except Exception as error:  # noqa: BLE001 -- as above
        raise StartupError(f"{model}: download failed: {_one_line(error)}") from None
    return Path(paths[0])


def choose(model: str, files: Sequence[str], wanted: str) -> list[str]:
    """The files to fetch, all parts of a split model, the one to load first; pure.

    `wanted` is a file, a quantization such as `Q4_K_M`, or empty. Raises StartupError.
    """
    models = sorted(name for name in files if name.endswith(".gguf") and "mmproj" not in name)
    firsts = [name for name in models if _part(name) == 1]
    if wanted in models:
        return _parts(wanted, models)
    for quantization in (wanted,) if wanted else _PREFERRED:
        pattern = re.compile(rf"(?<![a-z0-9]){re.escape(quantization)}(?![a-z0-9_])", re.IGNORECASE)
        found = [name for name in firsts if pattern.search(name)]
        if found:
            return _parts(min(found, key=lambda name: (len(name), name)), models)
    if not wanted and len(firsts) == 1:
        return _parts(firsts[0], models)
    there = ", ".join(firsts) or "no GGUF files"
    raise StartupError(f"{model}: no such file or quantization; there are: {there}")


def _part(name: str) -> int:
    match = _PART.search(name)
    return int(match[1]) if match else 1


def _parts(first: str, models: Sequence[str]) -> list[str]:
    match = _PART.search(first)
    if match is None:
        return [first]
    stem = first[: match.start()]
    return [name for name in models if name.startswith(f"{stem}-") and _PART.search(name)]


def _cached(model: str, repo: str, wanted: str, error: Exception) -> Path:
    """The model from the local cache, when the hub cannot be asked."""
    try:
        folder = Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        raise StartupError(
            f"{model}: the hub cannot be reached and the model is not in the local cache "
            f"({_one_line(error)})"
        ) from None
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.gguf")]
    _log.warning("hub cannot be reached; the cached model is used", model=model)
    return folder / choose(model, files, wanted)[0]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
