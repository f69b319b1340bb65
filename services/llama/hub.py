"""Names of models on the Hugging Face hub, `hf:owner/repo:file-or-quant`, to files on this disk."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from huggingface_hub import HfApi, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm

from services.worker.backend import StartupError

_NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<wanted>[\w./-]+))?", re.ASCII)
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
# What is taken when nothing is asked for, in this order: the usual balance of size and quality.
_PREFERRED = ("Q4_K_M", "Q4_0", "Q4_K_S", "Q5_K_M", "Q8_0")
_HUB_SECONDS = 10.0
# Between two lines of the log about a download.
_LOG_SECONDS = 10.0
_SHA256 = re.compile(r"[0-9a-f]{64}")

_log = structlog.get_logger()


def is_hub_name(model: str) -> bool:
    """Whether it is no path."""
    return model.startswith("hf:")


def locate(model: str, endpoint: str | None = None) -> Path:
    """The file of a model: a path as it is, a hub name after a download, or from the cache.

    Blocks for as long as the download takes, with a progress bar on a terminal and lines in the
    log elsewhere. What is there already is not fetched again, a cut connection is resumed, what
    came is compared with the hub's checksum, and without a network the cache serves. Of a split
    model all parts are fetched. `endpoint` is the hub's URL; None: the public one, or HF_ENDPOINT.
    Raises StartupError.
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
    except Exception as error:  # noqa: BLE001 -- offline, refused, cut off: each its own type
        refused = _refused(error)
        if refused:
            raise StartupError(f"{model}: {refused}") from None
        return _cached(model, repo, wanted, error)
    paths = [_fetch(model, repo, name, endpoint) for name in choose(model, files, wanted)]
    return paths[0]


def _fetch(model: str, repo: str, name: str, endpoint: str | None) -> Path:
    """The file in the cache, downloaded and checked if it was not there."""
    known = isinstance(try_to_load_from_cache(repo, name), str)
    try:
        path = Path(hf_hub_download(repo, name, endpoint=endpoint, tqdm_class=_progress()))
    except Exception as error:  # noqa: BLE001 -- as above
        why = _refused(error) or f"download failed: {_one_line(error)}"
        raise StartupError(f"{model}: {name}: {why}") from None
    # Files in the cache are links to what is named by its checksum.
    blob = path.resolve()
    if known or not _SHA256.fullmatch(blob.name) or _sha256(blob) == blob.name:
        return path
    path.unlink()
    blob.unlink(missing_ok=True)
    raise StartupError(f"{model}: {name} came damaged (wrong SHA-256) and is deleted: start again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refused(error: Exception) -> str:
    """What the hub itself says no to, in one line; empty: it was not heard at all, or is ill."""
    if isinstance(error, GatedRepoError):
        return "access needs an accepted licence and HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such repository, or it is private and HF_TOKEN does not open it"
    if isinstance(error, RemoteEntryNotFoundError):
        return "the hub has no such file any more"
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return "the hub refuses access: HF_TOKEN is wrong or not allowed to read it"
    return ""


class _LogLines(tqdm):
    """A progress bar for who has no terminal: a line in the log now and then."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # What was None was "off without a terminal"; what would be drawn goes nowhere.
        options["disable"] = options.get("disable") is True
        options.update(mininterval=_LOG_SECONDS, miniters=1, leave=True, file=io.StringIO())
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]

    def display(self, *args: Any, **options: Any) -> bool:
        """Instead of drawing."""
        del args, options
        done, total = self.n / 2**20, (self.total or 0) / 2**20
        _log.info(
            "download", file=str(self.desc).rsplit("/", 1)[-1], mib=round(done), of_mib=round(total)
        )
        return True


def _progress() -> type[tqdm] | None:
    return None if sys.stderr.isatty() else _LogLines


def choose(model: str, files: Sequence[str], wanted: str) -> list[str]:
    """The files to fetch, all parts of a split model, the one to load first; pure.

    `wanted` is a file, any part of one, a quantization such as `Q4_K_M`, or empty. Raises
    StartupError, which lists what there is when nothing or too much fits.
    """
    models = sorted(name for name in files if name.endswith(".gguf") and "mmproj" not in name)
    firsts = [name for name in models if _part(name) == 1]
    if wanted in models:
        return _parts(model, wanted, models)
    for quantization in (wanted,) if wanted else _PREFERRED:
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
    path = folder / choose(model, files, wanted)[0]
    _log.warning("hub cannot be reached; the cached model is used", model=model)
    return path


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
