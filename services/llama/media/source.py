"""Which projector is loaded and how: found and checked before the model itself is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.llama import host, hub
from services.llama.config import LlamaSettings
from services.llama.runtime import gguf
from services.llama.runtime.gguf import Header
from services.llama.runtime.projector import ProjectorOptions
from services.worker.backend import SettingError

# Patches of the image with which libmtmd measures its buffers, where images have any size.
_PATCHES = 4 * 46 * 46
# Graphs, and the file that is being decoded.
_OVERHEAD = 128 * 2**20
# What they look like to the model depends on what stands before them in the prompt.
_UNSUPPORTED = ("hunyuanvl", "deepseek4v")


@dataclass(frozen=True, slots=True)
class ProjectorSource:
    """A projector, not yet in memory."""

    path: Path
    header: Header
    options: ProjectorOptions
    # Bytes that it takes in memory, cached vectors included.
    needs: float


def find(settings: LlamaSettings) -> ProjectorSource | None:
    """None: none is wanted. Blocks for as long as a download takes. Raises StartupError."""
    if not settings.mmproj:
        return None
    path = hub.locate(settings.mmproj, projector=True)
    header = gguf.read(path)
    _check(path, header)
    options = ProjectorOptions(
        path,
        threads=settings.threads or host.usable_cores(),
        gpu=settings.gpu_layers > 0,
        together=min(settings.ubatch_size, settings.batch_size),
    )
    needs = header.size + _compute(header) + _OVERHEAD + settings.media_cache * 2**20
    return ProjectorSource(path, header, options, needs)


def _check(path: Path, header: Header) -> None:
    if header.architecture != "clip":
        raise SettingError(f"--mmproj: {path}: no projector but a model ({header.architecture})")
    keys = ("clip.projector_type", "clip.vision.projector_type", "clip.audio.projector_type")
    for key in keys:
        kind = header.metadata.get(key)
        if kind in _UNSUPPORTED:
            raise SettingError(f"--mmproj: {path}: projectors of the type {kind} are not supported")


def _compute(header: Header) -> float:
    """About what the graph of the largest image takes."""

    def count(key: str) -> int:
        said = header.metadata.get(f"clip.vision.{key}")
        return said if isinstance(said, int) and 0 < said < 2**20 else 0

    patches = (count("image_size") // (count("patch_size") or 1)) ** 2
    if "clip.vision.spatial_merge_size" in header.metadata:
        patches = max(patches, _PATCHES)
    return 4.0 * patches * (6 * count("embedding_length") + 2 * count("feed_forward_length"))
