"""What exists only while the model is in memory: made by one load, freed together."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from pathlib import Path

from services.llama import (
    embedding_setup,
    hub,
    identity,
    infill,
    plan,
    sizing,
    templates,
)
from services.llama.builtin_templates import CHATML
from services.llama.config import LlamaSettings
from services.llama.constrain import Constraints
from services.llama.drafting import source as drafts
from services.llama.drafting.source import DraftSource, LoadedDraft
from services.llama.embedding import EmbeddingService
from services.llama.embedding_setup import EmbeddingSetup
from services.llama.engine import Engine
from services.llama.interface import Vocabulary
from services.llama.media import source as projectors
from services.llama.media.reader import MediaReader
from services.llama.media.source import ProjectorSource
from services.llama.pooling import EmbeddingKind
from services.llama.prompt import Prompts
from services.llama.runtime import gguf
from services.llama.runtime.embedding import EmbeddingModel
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.projector import Projector
from services.llama.template import TemplateError
from services.llama.templates import Templates
from services.worker.backend import SettingError, StartupError


class ModelChangedError(StartupError):
    """What is on the disk is another model than the one that was loaded first."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which model is loaded, and how; the same for every load of one worker."""

    path: Path
    # With what was chosen where they left it open.
    settings: LlamaSettings
    plan: plan.Plan
    kind: EmbeddingKind
    templates: Templates
    # A smaller model that guesses for it. None: there is none.
    draft: DraftSource | None = None
    # What makes images and sounds readable. None: there is none.
    projector: ProjectorSource | None = None


def find(settings: LlamaSettings) -> Source:
    """Blocks for as long as a download takes. Raises StartupError."""
    source = _find(hub.locate(settings.model), settings)
    if source.draft is not None:
        drafts.check(source.draft, source.plan.header)
    return source


def check_again(source: Source) -> None:
    """That a load would give the same model as the first, in the memory that there is now.

    Raises ModelChangedError, and StartupError for what may pass.
    """
    chosen: dict[str, object] = {"ctx_size": source.plan.options.cells}
    if source.draft is not None:
        chosen["draft_model"] = str(source.draft.path)
    if source.projector is not None:
        chosen["mmproj"] = str(source.projector.path)
    found = _find(source.path, source.settings.model_copy(update=chosen))
    if found.plan.header.identity != source.plan.header.identity:
        raise ModelChangedError(f"{source.path}: it is another model than before")
    before, now = source.draft, found.draft
    if before is not None and now is not None and before.header.identity != now.header.identity:
        raise ModelChangedError(f"{before.path}: it is another model than before")


def _find(path: Path, settings: LlamaSettings) -> Source:
    draft = drafts.find(settings)
    projector = projectors.find(settings)
    beside = sum(found.needs for found in (draft, projector) if found is not None)
    planned = plan.make(settings, gguf.read(path), beside=beside)
    chosen: dict[str, object] = {"parallel": planned.options.parallel}
    kind = embedding_setup.kind(path, planned.header)
    if kind.whole and not settings.embed_ctx_size:
        context = planned.context(planned.options.cells)
        chosen["embed_ctx_size"] = embedding_setup.longest_input(
            planned.header, planned.options, kind, context
        )
    if draft is not None and not kind.generates:
        raise SettingError(f"--draft-model: {path} does not generate text")
    if projector is not None and not kind.generates:
        raise SettingError(f"--mmproj: {path} does not generate text")
    chosen_templates = templates.choose(settings.chat_template, planned.header.metadata)
    its = identity.served(
        planned.header.identity,
        settings,
        chosen_templates,
        projector.header if projector is not None else None,
    )
    planned = replace(planned, header=replace(planned.header, identity=its))
    if kind.generates:
        cells = sizing.rounded(planned.options.cells)
        planned = replace(planned, options=replace(planned.options, cells=cells))
    known = settings.model_copy(update=chosen)
    return Source(path, known, planned, kind, chosen_templates, draft, projector)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model in memory, without the threads that work with it."""

    runtime: LlamaRuntime | EmbeddingModel
    prompts: Prompts
    # Longest prompt and answer together, in tokens.
    context: int
    embedding: EmbeddingSetup
    # None for a model that only embeds or ranks.
    constraints: Constraints | None
    draft: LoadedDraft | None = None
    projector: Projector | None = None

    def close(self) -> None:
        """Frees it; blocks for as long as the system needs to take the memory back."""
        if self.draft is not None:
            self.draft.close()
        if self.projector is not None:
            self.projector.close()
        if self.embedding.made is not None:
            self.embedding.made.close()
        self.runtime.close()
        _trim()


@dataclass(frozen=True, slots=True)
class Resident:
    """The model in memory and at work."""

    loaded: Loaded
    # None for a model that only embeds or ranks.
    engine: Engine | None
    embedding: EmbeddingService
    media: MediaReader

    @property
    def prompts(self) -> Prompts:
        """From texts to tokens."""
        return self.loaded.prompts

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's own: it points into the model."""
        return self.loaded.runtime.vocabulary

    @property
    def context(self) -> int:
        """Longest prompt and answer together, in tokens."""
        return self.loaded.context

    @property
    def generator(self) -> Engine:
        """The engine, for calls that the chassis lets through to models that generate."""
        assert self.engine is not None
        return self.engine

    async def stop(self) -> None:
        """Ends the threads; what still runs fails. Again does nothing."""
        if self.engine is not None:
            await self.engine.stop()
        await self.embedding.stop()


def load(source: Source) -> Loaded:
    """Loads and warms up. Raises StartupError."""
    header, options = source.plan.header, source.plan.options
    kind = LlamaRuntime if source.kind.generates else EmbeddingModel
    runtime = kind(header.parts[0], options)
    projector = None
    try:
        context = source.plan.context(runtime.cells)
        prompts = (
            Prompts(
                runtime.vocabulary,
                source.templates.default,
                context,
                source.templates.named,
                source.settings.tool_format,
                infill.find(
                    runtime.vocabulary.infill,
                    runtime.vocabulary.special,
                    header.metadata,
                    runtime.vocabulary.repository,
                ),
            )
            if source.kind.generates
            else Prompts(runtime.vocabulary, CHATML, context)
        )
        setup = embedding_setup.prepare(
            runtime,
            header,
            options,
            source.kind,
            context=context,
            wanted=source.settings.embed_ctx_size,
        )
        constraints = Constraints(runtime.vocabulary) if source.kind.generates else None
        draft = None
        if source.draft is not None and isinstance(runtime, LlamaRuntime):
            draft = drafts.load(source.draft, runtime)
        if source.projector is not None and isinstance(runtime, LlamaRuntime):
            projector = Projector(source.projector.options, runtime.model)
            projector.try_out()
    except BaseException as error:
        if projector is not None:
            projector.close()
        runtime.close()
        if isinstance(error, TemplateError):
            raise StartupError(f"{source.path}: {error}") from None
        raise
    _trim()
    return Loaded(runtime, prompts, context, setup, constraints, draft, projector)


def _trim() -> None:
    """Gives back what the C library keeps of small pieces that were freed, a vocabulary's many."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
