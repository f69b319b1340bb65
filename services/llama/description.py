"""What a GGUF file's header says of a model, in the contract's words; pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog

from protos.inference.v1 import inference_pb2 as pb
from services.llama import sizing
from services.llama.config import LlamaSettings
from services.llama.infill import Infill
from services.llama.pooling import EmbeddingKind, Pooling
from services.llama.runtime.gguf import Header
from services.llama.runtime.projector import Projector

_log = structlog.get_logger()

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

# Where llama.cpp's converters put the model maker's recommendation.
_RECOMMENDED = {
    "temperature": "general.sampling.temp",
    "top_p": "general.sampling.top_p",
    "top_k": "general.sampling.top_k",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
# As the contract bounds them; NaN is in none.
_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 2**32 - 1),
    "min_p": (0.0, 1.0),
    # Greater than 0, in single precision.
    "repetition_penalty": (1e-30, 1e30),
}
_OPENAI: dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}


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
        default_sampling=default_sampling(settings, header),
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


def default_sampling(settings: LlamaSettings, header: Header) -> pb.SamplingParams:
    """Per field: the operator's setting, else the model's metadata, else OpenAI's."""
    result = pb.SamplingParams()
    for name, key in _RECOMMENDED.items():
        value = getattr(settings, name)
        if value is None:
            value = _recommended(name, header.metadata.get(key))
        setattr(result, name, _OPENAI[name] if value is None else value)
    return result


def _recommended(name: str, value: object) -> float | None:
    """What the file says, if a request could say it too: files are written by anybody."""
    if value is None:
        return None
    whole = name == "top_k"
    least, most = _RANGES[name]
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if number and least <= value <= most:  # type: ignore[operator]
        return value  # type: ignore[return-value]
    _log.warning("the model's recommendation is out of range and ignored", field=name)
    return None


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
