"""The shared parameters of a generation in the contract's words. Pure."""

from __future__ import annotations

import hashlib

from edge.openai.sampling_fields import Sampled
from protos.inference.v1 import inference_pb2 as pb

_SAME_NAME = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


def sampling(request: Sampled, out: pb.SamplingParams, seed: int) -> None:
    """What is absent stays absent. `seed` is 0..2^63-1, used where the request has none."""
    for name in _SAME_NAME:
        value = getattr(request, name)
        if value is not None:
            setattr(out, name, value)
    if request.repeat_penalty is not None:
        out.repetition_penalty = request.repeat_penalty
    if request.top_k is not None:
        out.top_k = max(request.top_k, 0)
    for token, bias in (request.logit_bias or {}).items():
        out.logit_bias[int(token)] = bias
    chosen = request.seed if request.seed is not None else seed
    # int64 as it is, bit by bit: distinct seeds stay distinct.
    out.seed = chosen & (2**64 - 1)
    if request.repeat_last_n == 0:
        # llama.cpp's way to switch them off; in the contract 0 is the whole sequence.
        out.repetition_penalty, out.presence_penalty, out.frequency_penalty = 1, 0, 0
    elif request.repeat_last_n is not None:
        out.penalty_window = max(request.repeat_last_n, 0)
    _dry(request, out)
    _xtc(request, out)
    _mirostat(request, out)


def stop(request: Sampled, out: pb.StopConditions) -> None:
    """All but the limit of tokens."""
    strings = request.stop if request.stop is not None else request.stop_sequence
    if strings is not None:
        out.strings.extend([strings] if isinstance(strings, str) else strings)
    out.min_tokens = request.min_tokens or 0
    out.token_ids.extend(request.stop_token_ids or ())
    out.ignore_eos = bool(request.ignore_eos)
    out.include_matched = bool(request.include_stop_str_in_output)


def namespace(request: Sampled) -> str:
    """The namespace of the KV cache."""
    if request.cache_salt is None:
        return ""
    # A digest: callers' salts have any length, and are nobody else's to read.
    return hashlib.sha256(request.cache_salt.encode()).hexdigest()


def _dry(request: Sampled, out: pb.SamplingParams) -> None:
    if request.dry_multiplier is None:
        return
    # Set also where it is off: the model's default may be on.
    out.dry.SetInParent()
    if not request.dry_multiplier or request.dry_penalty_last_n == 0:
        return
    out.dry.multiplier = request.dry_multiplier
    if request.dry_base is not None:
        out.dry.base = request.dry_base
    if request.dry_allowed_length is not None:
        out.dry.allowed_length = request.dry_allowed_length
    if request.dry_penalty_last_n is not None:
        out.dry.window = max(request.dry_penalty_last_n, 0)
    out.dry.sequence_breakers.extend(request.dry_sequence_breakers or ())


def _xtc(request: Sampled, out: pb.SamplingParams) -> None:
    if request.xtc_probability is None:
        return
    out.xtc.SetInParent()
    out.xtc.probability = request.xtc_probability
    if request.xtc_threshold is not None:
        out.xtc.threshold = request.xtc_threshold


def _mirostat(request: Sampled, out: pb.SamplingParams) -> None:
    if request.mirostat is None:
        return
    out.mirostat.SetInParent()
    out.mirostat.version = request.mirostat
    if request.mirostat_tau is not None:
        out.mirostat.tau = request.mirostat_tau
    if request.mirostat_eta is not None:
        out.mirostat.eta = request.mirostat_eta
