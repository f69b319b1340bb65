"""What an absent sampling field becomes: the operator's, else the model's, else OpenAI's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog

from protos.inference.v1 import inference_pb2 as pb
from services.llama.sampling.defaults import BOUNDS

_log = structlog.get_logger()

# Where llama.cpp's converters put the model maker's recommendation. `general.sampling.sequence`,
# the order of the samplers, is not taken: here it is always the same.
_RECOMMENDED: Final = {
    "temperature": "general.sampling.temp",
    "top_p": "general.sampling.top_p",
    "top_k": "general.sampling.top_k",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
    "repeat_last_n": "general.sampling.penalty_last_n",
    "xtc_probability": "general.sampling.xtc_probability",
    "xtc_threshold": "general.sampling.xtc_threshold",
    "mirostat": "general.sampling.mirostat",
    "mirostat_tau": "general.sampling.mirostat_tau",
    "mirostat_eta": "general.sampling.mirostat_eta",
}
_OPENAI: Final[Mapping[str, float]] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
_PLAIN: Final = (*_OPENAI, "typical_p", "presence_penalty", "frequency_penalty")


def default_sampling(said: Mapping[str, float], metadata: Mapping[str, Any]) -> pb.SamplingParams:
    """`said` is what the operator said, within sampling.defaults.BOUNDS; `metadata` the GGUF's."""
    values = {**_OPENAI, **_recommended(metadata), **said}
    result = pb.SamplingParams()
    for name in _PLAIN:
        if name in values:
            setattr(result, name, values[name])
    window = values.get("repeat_last_n")
    if window == 0:
        # llama.cpp's way to switch them off; in the contract 0 is the whole sequence.
        result.repetition_penalty, result.presence_penalty, result.frequency_penalty = 1, 0, 0
    elif window is not None:
        result.penalty_window = max(int(window), 0)
    if values.get("dry_multiplier") and values.get("dry_penalty_last_n") != 0:
        result.dry.multiplier = values["dry_multiplier"]
        _optional(result.dry, values, base="dry_base")
        if "dry_allowed_length" in values:
            result.dry.allowed_length = int(values["dry_allowed_length"])
        if "dry_penalty_last_n" in values:
            result.dry.window = max(int(values["dry_penalty_last_n"]), 0)
    if values.get("xtc_probability"):
        result.xtc.probability = values["xtc_probability"]
        _optional(result.xtc, values, threshold="xtc_threshold")
    if values.get("mirostat"):
        result.mirostat.version = int(values["mirostat"])
        _optional(result.mirostat, values, tau="mirostat_tau", eta="mirostat_eta")
    return result


def _optional(message: Any, values: Mapping[str, float], **names: str) -> None:
    for field, name in names.items():
        if name in values:
            setattr(message, field, values[name])


def _recommended(metadata: Mapping[str, Any]) -> dict[str, float]:
    """What the file says, where a request could say it too: files are written by anybody."""
    found: dict[str, float] = {}
    for name, key in _RECOMMENDED.items():
        value = metadata.get(key)
        if value is None:
            continue
        if BOUNDS[name].holds(value):
            found[name] = value
        else:
            _log.warning("the model's recommendation is out of range and ignored", field=name)
    return found
