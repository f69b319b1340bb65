"""Which draft model is loaded and how: found and checked before the model itself is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.llama import embedding_setup, host, hub, sizing
from services.llama.config import LlamaSettings
from services.llama.drafting import words
from services.llama.drafting.drafter import MOST_FOLLOWED, Drafter
from services.llama.plan import runtime_options
from services.llama.runtime import gguf
from services.llama.runtime import words as vocabulary
from services.llama.runtime.gguf import Header
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RuntimeOptions
from services.worker.backend import SettingError, StartupError

# Cells for each sequence that is followed; one that is longer may use what others do not.
_CELLS = 2048
# Sequences where their number is not set, as is sizing's default.
_SEQUENCES = 8
# Ended sequences whose cells may be kept.
_IDLE = 8
# Tokens of one decode: what is caught up with in a step, and a little more.
_BATCH = 512


@dataclass(frozen=True, slots=True)
class DraftSource:
    """A draft model, not yet in memory."""

    path: Path
    header: Header
    options: RuntimeOptions
    # Bytes that it takes in memory.
    needs: float


@dataclass(frozen=True, slots=True)
class LoadedDraft:
    """A draft model in memory."""

    runtime: LlamaRuntime
    # Its tokens that are the model's, too: the first ones.
    vocabulary: int

    def drafter(self) -> Drafter:
        """For one engine."""
        return Drafter(self.runtime, self.vocabulary)

    def close(self) -> None:
        """Frees it."""
        self.runtime.close()


def find(settings: LlamaSettings) -> DraftSource | None:
    """None: none is wanted. Blocks for as long as a download takes.

    Raises StartupError, and SettingError for a model that cannot draft.
    """
    if not settings.draft_model or not settings.speculation:
        return None
    path = hub.locate(settings.draft_model)
    header = gguf.read(path)
    if not embedding_setup.kind(path, header).generates:
        raise SettingError(
            f"--draft-model: {path}: it embeds or ranks and does not generate text, so it guesses "
            "nothing"
        )
    slots = min(settings.parallel or _SEQUENCES, MOST_FOLLOWED)
    # All of them together need no more cells than they have in the model's own cache.
    cells = sizing.rounded(min(slots * _CELLS, settings.ctx_size or slots * _CELLS))
    options = runtime_options(
        settings,
        cells=cells,
        parallel=slots,
        idle=_IDLE,
        batch_size=_BATCH,
        ubatch_size=min(settings.ubatch_size, _BATCH),
        outputs=slots,
    )
    shape = sizing.Shape(
        cells=cells,
        slots=slots,
        ubatch=options.ubatch_size,
        flash_attention=settings.flash_attention != "off",
        outputs=slots,
        idle=_IDLE,
    )
    needs = sizing.needs(header, shape).total
    available = None if settings.gpu_layers else host.available_memory()
    if available is not None and needs > available:
        raise StartupError(
            f"--draft-model: {path}: needs {needs / 2**20:,.0f} MiB, of memory there are "
            f"{available / 2**20:,.0f} MiB"
        )
    return DraftSource(path, header, options, needs)


def check(draft: DraftSource, model: Header) -> None:
    """That its guesses can come out: that both have one vocabulary. Raises SettingError."""
    variant = draft.options.cpu_variant
    own = vocabulary.read(draft.header.parts[0], variant)
    reason = words.difference(vocabulary.read(model.parts[0], variant), own)
    if reason:
        raise SettingError(f"--draft-model: {draft.path}: not the model's vocabulary: {reason}")


def load(draft: DraftSource, model: LlamaRuntime) -> LoadedDraft:
    """Beside the model, in whose batches its guesses are checked. Raises StartupError."""
    if not model.partial:
        raise StartupError(
            "--draft-model: guesses cannot be taken back from this model's state (recurrent, or a "
            "sliding window without --swa-full)"
        )
    runtime = LlamaRuntime(draft.header.parts[0], draft.options)
    if not runtime.partial:
        runtime.close()
        raise StartupError(
            f"--draft-model: {draft.path}: guesses cannot be taken back from its state: it is "
            "recurrent"
        )
    return LoadedDraft(runtime, min(runtime.vocabulary.size, model.vocabulary.size))
