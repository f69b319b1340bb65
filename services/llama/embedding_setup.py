"""What Embed and Rerank need of a loaded model: found out at the load, used from then on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from services.llama import host, pooling, sizing
from services.llama.embed_inputs import Inputs
from services.llama.embedder import Embedder, EmbedMetrics
from services.llama.embedding import EmbeddingService, InThread
from services.llama.pooling import EmbeddingKind, EmbeddingRuntime
from services.llama.runtime import embedding as runtime
from services.llama.runtime.embedding import EmbeddingModel, LlamaEmbedding
from services.llama.runtime.gguf import Header
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RuntimeOptions
from services.worker.backend import StartupError

# What an unset limit is for a model that generates: a cache of its own for more would take as
# much memory as the chats', and OpenAI's embeddings end there, too.
_USUAL_INPUT = 8192
# Of the memory that weights leave, the share that inputs may take whose length nobody asked for,
# and the length that they may always have.
_SHARE = 0.5
_LEAST_INPUT = 512

_log = structlog.get_logger()


def kind(path: Path, header: Header) -> EmbeddingKind:
    """Raises StartupError."""
    try:
        return pooling.kind(header)
    except ValueError:
        raise StartupError(f"{path}: its pooling type is not known") from None


def longest_input(
    header: Header, options: RuntimeOptions, of_kind: EmbeddingKind, context: int
) -> int:
    """In tokens, where nobody says it: the context, less where memory is short.

    To be called before the load.
    """
    memory = host.available_memory()
    if memory is None or options.gpu_layers:
        return context
    left, longest = memory - header.size, context
    while longest > _LEAST_INPUT and _needs(header, options, of_kind, longest) > left * _SHARE:
        longest = max(_LEAST_INPUT, longest * 7 // 8)
    if longest < context:
        _log.warning("inputs are shorter than the model's: memory is short", tokens=longest)
    return longest


def _needs(header: Header, options: RuntimeOptions, of_kind: EmbeddingKind, context: int) -> float:
    """Bytes of a context for inputs of so many tokens, beside the weights."""
    rows = min(options.batch_size, options.ubatch_size)
    if of_kind.whole:
        rows = max(rows, context)
    needs = sizing.needs(
        header,
        sizing.Shape(
            cells=context,
            slots=1,
            ubatch=rows,
            type_k=options.cache_type_k,
            type_v=options.cache_type_v,
            flash_attention=options.flash_attention != "off",
            swa_full=options.swa_full,
        ),
    )
    # llama.cpp has room for the logits of every token of a batch, whether the model has any or not.
    logits = 4 * rows * sizing.vocabulary(header)
    return needs.compute + needs.cache + (logits if of_kind.whole else 0)


@dataclass(frozen=True, slots=True)
class EmbeddingSetup:
    """One model's side of it."""

    kind: EmbeddingKind
    header: Header
    options: RuntimeOptions
    loaded: LlamaRuntime | EmbeddingModel
    # Longest input, in tokens.
    context: int
    # Made at the load for a model that does nothing else, so that it fails there if it fails.
    made: EmbeddingRuntime | None

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""
        return runtime.dimensions(self.loaded)

    def service(
        self, in_thread: InThread, *, places: int, metrics: EmbedMetrics
    ) -> EmbeddingService:
        """To be called on the event loop. See EmbeddingService."""
        inputs = Inputs(self.loaded.vocabulary, runtime.joining(self.loaded), self.context)
        embedder = Embedder(self.make, metrics, self.made)
        return EmbeddingService(
            self.kind, inputs, embedder, in_thread, places=places, metrics=metrics
        )

    def make(self) -> EmbeddingRuntime:
        """The context. Raises StartupError, also instead of being killed for memory."""
        options, memory = self.options, host.available_memory()
        need = _needs(self.header, options, self.kind, self.context)
        if memory is not None and not options.gpu_layers and need > memory:
            raise StartupError(
                f"inputs of {self.context} tokens need {need / 2**20:,.0f} MiB, there are "
                f"{memory / 2**20:,.0f}; see --embed-ctx-size"
            )
        return LlamaEmbedding(self.loaded, self.kind, options, self.context)


def prepare(
    loaded: LlamaRuntime | EmbeddingModel,
    header: Header,
    options: RuntimeOptions,
    of_kind: EmbeddingKind,
    *,
    context: int,
    wanted: int,
) -> EmbeddingSetup:
    """`context` is the model's, `wanted` the limit that was asked for, or 0. Raises StartupError."""
    limit = wanted or (_USUAL_INPUT if of_kind.generates else context)
    setup = EmbeddingSetup(of_kind, header, options, loaded, min(limit, context), None)
    if of_kind.generates:
        return setup
    return EmbeddingSetup(of_kind, header, options, loaded, setup.context, setup.make())
