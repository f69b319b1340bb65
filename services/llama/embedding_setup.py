"""What Embed and Rerank need of a loaded model: found out at the load, used from then on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


def kind(path: Path, header: Header) -> EmbeddingKind:
    """Raises StartupError."""
    try:
        return pooling.kind(header)
    except ValueError:
        raise StartupError(f"{path}: its pooling type is not known") from None


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
        shape = sizing.Shape(
            cells=self.context,
            slots=1,
            ubatch=self.context if self.kind.whole else options.ubatch_size,
            type_k=options.cache_type_k,
            type_v=options.cache_type_v,
            flash_attention=options.flash_attention != "off",
            swa_full=options.swa_full,
        )
        needs = sizing.needs(self.header, shape)
        need = needs.compute + needs.cache
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
