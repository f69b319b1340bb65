"""What is known of models: OpenAI's four keys, more beside them, and llama.cpp's /props. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from edge.openai.sampling_from_proto import numbers
from protos.inference.v1 import inference_pb2 as pb

# Workers of a model: that could take a request now, and in all.
Workers = tuple[int, int]

_INPUTS: Final = {"image": pb.CAPABILITY_IMAGE, "audio": pb.CAPABILITY_AUDIO}
_OUTPUTS: Final = {
    "text": pb.CAPABILITY_GENERATE,
    "embeddings": pb.CAPABILITY_EMBED,
    "scores": pb.CAPABILITY_RERANK,
}
# llama.cpp's names of what it calls otherwise.
_PROPS: Final = {"repetition_penalty": "repeat_penalty"}


def model(info: pb.ModelInfo, since: int, workers: Workers) -> dict[str, Any]:
    """One model; `since` is its `created` (seconds since 1970) where the worker knows none.

    What is not known is null.
    """
    created = info.created.seconds if info.HasField("created") else since
    ready, known = workers
    return {
        "id": info.name,
        "object": "model",
        "created": created,
        "owned_by": info.owned_by or "caravan",
        # vLLM's name, then OpenRouter's.
        "max_model_len": info.context_length or None,
        "context_length": info.context_length or None,
        "capabilities": capabilities(info),
        "architecture": {
            "input_modalities": ["text", *_having(info, _INPUTS)],
            "output_modalities": _having(info, _OUTPUTS),
        },
        "embedding_dimensions": info.embedding_dimensions or None,
        "default_parameters": numbers(info.default_sampling),
        "adapters": list(info.adapters),
        "workers": {"ready": ready, "known": known},
        # As llama.cpp's server has it.
        "meta": {
            "architecture": info.architecture or None,
            "quantization": info.quantization or None,
            "n_vocab": info.vocabulary_size or None,
            "n_ctx_train": info.trained_context_length or None,
            "n_embd": info.embedding_dimensions or None,
            "n_params": info.parameter_count or None,
            "size": info.size_bytes or None,
            "identity": info.identity,
            "worker_kind": info.kind or None,
            "worker_version": info.version or None,
            "max_running": info.max_running or None,
        },
    }


def models(found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The list, sorted by name."""
    return {"object": "list", "data": sorted(found, key=lambda one: str(one["id"]))}


def props(info: pb.ModelInfo) -> dict[str, Any]:
    """What llama.cpp's server says of itself, as far as workers tell it."""
    parameters = {
        _PROPS.get(name, name): value for name, value in numbers(info.default_sampling).items()
    }
    return {
        "default_generation_settings": {
            "id": 0,
            "id_task": -1,
            "n_ctx": info.context_length,
            "speculative": pb.CAPABILITY_SPECULATION in info.capabilities,
            "is_processing": False,
            "params": parameters,
        },
        "total_slots": max(1, info.max_running),
        "model_alias": info.name,
        "model_path": info.name,
        "modalities": {
            "vision": pb.CAPABILITY_IMAGE in info.capabilities,
            "audio": pb.CAPABILITY_AUDIO in info.capabilities,
        },
        "build_info": f"caravan {info.version}".strip(),
    }


def capabilities(info: pb.ModelInfo) -> list[str]:
    """In the contract's order and words, in lower case; those of a later contract are left out."""
    listed = frozenset(info.capabilities)
    return [
        name.removeprefix("CAPABILITY_").lower()
        for name, value in pb.Capability.items()
        if value in listed
    ]


def _having(info: pb.ModelInfo, of: dict[str, pb.Capability.ValueType]) -> list[str]:
    return [word for word, capability in of.items() if capability in info.capabilities]
