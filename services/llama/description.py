"""What a model's header and parts say of it, in the contract's words."""

from __future__ import annotations

from pathlib import Path

from protos.inference.v1 import inference_pb2 as pb
from services.llama import sizing
from services.llama.config import LlamaSettings
from services.llama.default_sampling import default_sampling
from services.llama.infill import Infill
from services.llama.pooling import EmbeddingKind, Pooling
from services.llama.runtime.gguf import Header
from services.llama.runtime.projector import Projector

_CAPABILITIES = (
    pb.CAPABILITY_GENERATE,
    pb.CAPABILITY_CHAT,
    pb.CAPABILITY_TOOLS,
    pb.CAPABILITY_REASONING,
    pb.CAPABILITY_LOGPROBS,
    pb.CAPABILITY_PROMPT_LOGPROBS,
    pb.CAPABILITY_TOKENIZE,
    pb.CAPABILITY_EXTENDED_SAMPLING,
    pb.CAPABILITY_RESUME,
    pb.CAPABILITY_MULTIPLE_CHOICES,
    pb.CAPABILITY_BEST_OF,
    pb.CAPABILITY_SPECULATION,
)


def describe(
    settings: LlamaSettings, path: Path, header: Header, *, vocabulary: int, context: int
) -> pb.ModelInfo:
    """`vocabulary` in tokens; `context` is the longest prompt and answer together."""
    info = pb.ModelInfo(
        identity=header.identity,
        name=model_name(settings, path, header),
        owned_by=_text(header.metadata.get("general.organization")),
        capabilities=_CAPABILITIES,
        context_length=context,
        trained_context_length=sizing.trained_context(header),
        vocabulary_size=vocabulary,
        architecture=header.architecture,
        quantization=header.quantization,
        parameter_count=header.parameters,
        size_bytes=header.size,
        default_sampling=default_sampling(settings.default_sampling(), header.metadata),
        adapters=[adapter.name for adapter in settings.adapters()],
        max_running=settings.parallel,
    )
    if info.adapters:
        info.capabilities.append(pb.CAPABILITY_ADAPTERS)
    info.created.FromSeconds(int(path.stat().st_mtime))
    return info


def add_infill(info: pb.ModelInfo, infill: Infill | None) -> None:
    """Filling gaps, where the model has tokens for that."""
    if infill is not None:
        info.capabilities.append(pb.CAPABILITY_INFILL)


def add_embedding(info: pb.ModelInfo, kind: EmbeddingKind, dimensions: int) -> None:
    """What a model can do beside generating, or instead. `dimensions`: of its vectors.

    A reranker's hidden states mean nothing outside its classifier: it has no vectors. Vectors of a
    model made for them can rank, too; those of a chat model are too rough for it.
    """
    if not kind.generates:
        info.capabilities[:] = [pb.CAPABILITY_TOKENIZE, pb.CAPABILITY_RERANK]
    if kind.pooling is not Pooling.RANK:
        info.capabilities.append(pb.CAPABILITY_EMBED)
        info.embedding_dimensions = dimensions


def add_media(info: pb.ModelInfo, projector: Projector | None) -> None:
    """What the model's projector takes, if it has one."""
    if projector is not None and projector.images:
        info.capabilities.append(pb.CAPABILITY_IMAGE)
    if projector is not None and projector.sounds:
        info.capabilities.append(pb.CAPABILITY_AUDIO)


def model_name(settings: LlamaSettings, path: Path, header: Header) -> str:
    """The operator's name for it, else the model's own, else the file's."""
    return settings.model_name or _text(header.metadata.get("general.name")) or path.stem


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
