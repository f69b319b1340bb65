"""Gets a model's files from the Hugging Face hub: downloaded and checked, or from the local cache."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Callable, Sequence
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

_HUB_SECONDS = 10.0
# Between two lines of the log about a download.
_LOG_SECONDS = 10.0
_SHA256 = re.compile(r"[0-9a-f]{64}")

# Of a repository's files those that are wanted, the one to load first. Raises StartupError.
Choice = Callable[[Sequence[str]], Sequence[str]]

_log = structlog.get_logger()


class _DownloadError(StartupError):
    """A file could not be had, for a reason that may pass."""


def fetch(model: str, repo: str, choose: Choice, endpoint: str | None = None) -> Path:
    """The first of the files that `choose` picks; `model` is what errors call them.

    Blocks for as long as the download takes, with a progress bar on a terminal and lines in the
    log elsewhere. What is there already is not fetched again, a cut connection is resumed, what
    came is compared with the hub's checksum, and without a network, or where a new version cannot
    be had, the cache serves. `endpoint` is the hub's URL; None: the public one, or HF_ENDPOINT.
    Raises StartupError.
    """
    try:
        # Not list_repo_files: that one tries for half a minute before it says "offline".
        info = HfApi(endpoint=endpoint).model_info(repo, timeout=_HUB_SECONDS)
        files = [sibling.rfilename for sibling in info.siblings or ()]
    except Exception as error:  # noqa: BLE001 -- offline, refused, cut off: each its own type
        refused = _refused(error)
        if refused:
            raise StartupError(f"{model}: {refused}") from None
        cached = _cached(repo, choose)
        if cached is None:
            raise StartupError(
                f"{model}: the hub cannot be reached and the model is not in the local cache "
                f"({_one_line(error)})"
            ) from None
        _log.warning("hub cannot be reached; the cached model is used", model=model)
        return cached
    names = choose(files)
    try:
        paths = [_fetch(model, repo, name, endpoint) for name in names]
    except _DownloadError as error:
        cached = _cached(repo, lambda _: names)
        if cached is None:
            raise
        _log.warning("an older version is used, which is cached", model=model, why=str(error))
        return cached
    return paths[0]


def _fetch(model: str, repo: str, name: str, endpoint: str | None) -> Path:
    """The file in the cache, downloaded and checked if it was not there."""
    try:
        there = try_to_load_from_cache(repo, name)
        # Files in the cache are links to what is named by its checksum.
        known = Path(there).resolve() if isinstance(there, str) else None
        path = Path(hf_hub_download(repo, name, endpoint=endpoint, tqdm_class=_progress()))
    except Exception as error:  # noqa: BLE001 -- as above
        refused = _refused(error)
        if refused:
            raise StartupError(f"{model}: {name}: {refused}") from None
        raise _DownloadError(f"{model}: {name}: download failed: {_one_line(error)}") from None
    blob = path.resolve()
    if blob == known or not _SHA256.fullmatch(blob.name) or _sha256(blob) == blob.name:
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


def _cached(repo: str, choose: Choice) -> Path | None:
    """The model from the local cache, in its newest version that is whole; None: there is none.

    Raises what `choose` raises of the newest.
    """
    try:
        newest = Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    # A version whose download failed is the newest, too.
    older = (folder for folder in newest.parent.iterdir() if folder != newest)
    fault = None
    for folder in (newest, *sorted(older, key=lambda one: one.stat().st_mtime, reverse=True)):
        found = (path for path in folder.rglob("*.gguf") if path.is_file())
        files = {path.relative_to(folder).as_posix() for path in found}
        try:
            names = choose(sorted(files))
        except StartupError as error:
            fault = fault or error
            continue
        if files.issuperset(names):
            return folder / names[0]
    if fault is not None:
        raise fault
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
