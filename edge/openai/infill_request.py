"""The body of POST /v1/infill, as llama.cpp's server has it, and the contract's request. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from edge.errors import Names, field_param, invalid
from edge.openai import abilities, sampling_rules, sampling_to_proto, structured
from edge.openai.checks import able, validate, with_model
from edge.openai.fields import FIRST, Part
from edge.openai.sampling_fields import MAX_INT32, Sampled, Tokens
from edge.openai.structure_fields import Structured
from protos.inference.v1 import inference_pb2 as pb

MAX_FILES = 256
# What its server and others mean by a seed of their own choice.
_ANY_SEED = -1


class ExtraFile(Part):
    """Another file, whole or in part."""

    text: str
    filename: Annotated[str, Field(max_length=1024)] | None = None


class _Asked(Part):
    """What is checked first."""

    model: str
    input_prefix: str | None = None
    """Text before the gap."""
    input_suffix: str | None = None
    """Text behind it."""
    prompt: str | None = None
    """Behind `input_prefix`: the line, so far, in which the gap is."""
    input_extra: Annotated[list[ExtraFile], FIRST, Field(max_length=MAX_FILES)] | None = None
    """Those that leave `n_predict` no room are left out, the first ones first."""
    n_predict: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None
    """Most tokens; -1: what the context leaves."""


# Bases from right to left, each from top to bottom: the order of fields is that of checks.
class InfillRequest(Structured, Sampled, _Asked):
    """The texts around a gap, and how it is filled. `None` is absent."""

    stream: bool | None = None
    n_probs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Alternatives that are told of each token; 0: nothing is."""
    return_tokens: bool | None = None
    t_max_predict_ms: Tokens | None = None
    """Milliseconds from the first token after which a line that has ended is the end; 0: none."""
    response_fields: (
        Annotated[list[Annotated[str, Field(max_length=256)]], FIRST, Field(max_length=64)] | None
    ) = None
    """What of the answer is sent: keys, those of objects in objects with slashes between."""


def read(
    body: dict[str, Any], default_model: str = "", strict: bool = False, of_path: str = ""
) -> InfillRequest:
    """The request of a parsed body: model → unknown keys → fields → rules. Raises ApiError 400."""
    request = validate(InfillRequest, with_model(body, default_model, of_path), strict)
    sampling_rules.check(request)
    if (request.n or 1) > 1:
        raise invalid("This endpoint fills a gap in one way only.", "n", "unsupported_value")
    return request


def translate(request: InfillRequest, seed: int) -> pb.GenerateRequest:
    """The request without its model's identity. Raises ApiError 400.

    `seed` is 0..2^63-1 and used where the request has none.
    """
    out = pb.GenerateRequest(cache_namespace=sampling_to_proto.namespace(request))
    out.text.text = (request.input_prefix or "") + (request.prompt or "")
    out.text.suffix = request.input_suffix or ""
    out.text.fill = True
    for extra in request.input_extra or ():
        out.text.files.add(name=extra.filename or "", text=extra.text)
    sampling_to_proto.sampling(request, out.sampling, seed)
    if request.seed == _ANY_SEED:
        out.sampling.seed = seed
    sampling_to_proto.stop(request, out.stop)
    if request.n_predict is not None and request.n_predict >= 0:
        out.stop.max_tokens = request.n_predict
    out.output.logprobs = bool(request.n_probs)
    out.output.top_logprobs = request.n_probs or 0
    out.output.token_ids = bool(request.return_tokens or request.stream)
    if request.skip_special_tokens is not None:
        out.output.skip_special_tokens = request.skip_special_tokens
    constraint = structured.constraint(request)
    if constraint is not None:
        out.constraint.CopyFrom(constraint)
    return out


def check_model(wanted: pb.GenerateRequest, model: pb.ModelInfo) -> None:
    """Raises ApiError 400 where the model lacks what the request asks for."""
    able(model, pb.CAPABILITY_INFILL, "filling in the middle")
    abilities.check(_needs(wanted), model)
    abilities.check_tokens(wanted, model)


def _needs(wanted: pb.GenerateRequest) -> Iterator[abilities.Need]:
    for capability, param in abilities.of_generation(wanted):
        yield capability, "n_probs" if param == "logprobs" else param


def _field(path: str) -> str | None:
    if path in ("input", "text.text"):
        return "input_prefix"
    if path == "text.suffix":
        return "input_suffix"
    if path == "stop.max_tokens":
        return "n_predict"
    if path.startswith("text.files"):
        return path.replace("text.files", "input_extra").replace(".name", ".filename")
    return field_param(path)


NAMES = Names("input_prefix", _field)
