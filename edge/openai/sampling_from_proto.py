"""Sampling of the contract in the names of the HTTP APIs. Pure."""

from __future__ import annotations

from typing import Any, Final

from protos.inference.v1 import inference_pb2 as pb

# In the order in which they are told, by where they are in the contract.
_NAMES: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "penalty_window": "repeat_last_n",
    "dry.multiplier": "dry_multiplier",
    "dry.base": "dry_base",
    "dry.allowed_length": "dry_allowed_length",
    "dry.window": "dry_penalty_last_n",
    "xtc.probability": "xtc_probability",
    "xtc.threshold": "xtc_threshold",
    "mirostat.version": "mirostat",
    "mirostat.tau": "mirostat_tau",
    "mirostat.eta": "mirostat_eta",
}
_WINDOWS: Final = frozenset({"penalty_window", "dry.window"})


def numbers(params: pb.SamplingParams) -> dict[str, float]:
    """What is set, as a request would say it."""
    found: dict[str, float] = {}
    for path, name in _NAMES.items():
        message: Any = params
        *outer, field = path.split(".")
        for part in outer:
            if not message.HasField(part):
                break
            message = getattr(message, part)
        else:
            descriptor = message.DESCRIPTOR.fields_by_name[field]
            if descriptor.has_presence and not message.HasField(field):
                continue
            value = getattr(message, field)
            if path in _WINDOWS and value == 0:
                # The whole sequence; there, 0 switches it off.
                value = -1
            # Single precision has seven digits.
            found[name] = float(f"{value:.7g}") if isinstance(value, float) else value
    return found
