"""What requests need of a model, and how it is said that it lacks something. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edge.errors import ApiError, field_param, invalid
from protos.inference.v1 import inference_pb2 as pb

Need = tuple[pb.Capability.ValueType, str]

_WORDS = {
    pb.CAPABILITY_CHAT: "chat completions",
    pb.CAPABILITY_GENERATE: "completions",
    pb.CAPABILITY_TOOLS: "tools",
    pb.CAPABILITY_REASONING: "a budget of thinking",
    pb.CAPABILITY_IMAGE: "images",
    pb.CAPABILITY_AUDIO: "audio",
    pb.CAPABILITY_CONSTRAINT: "structured output",
    pb.CAPABILITY_MULTIPLE_CHOICES: "more than one choice",
    pb.CAPABILITY_BEST_OF: "'best_of'",
    pb.CAPABILITY_LOGPROBS: "logprobs",
    pb.CAPABILITY_PROMPT_LOGPROBS: "logprobs of the prompt",
    pb.CAPABILITY_INFILL: "filling in the middle",
    pb.CAPABILITY_TOKENIZE: "prompts of tokens that are echoed",
    pb.CAPABILITY_EXTENDED_SAMPLING: "this sampler",
}


def of_generation(request: pb.GenerateRequest) -> Iterator[Need]:
    """What a generation needs whatever its prompt is, each with the parameter that asks for it."""
    if request.HasField("constraint"):
        kind = request.constraint.WhichOneof("kind")
        yield pb.CAPABILITY_CONSTRAINT, field_param(f"constraint.{kind}") or "response_format"
    if request.n > 1:
        yield pb.CAPABILITY_MULTIPLE_CHOICES, "n"
    if request.best_of > max(1, request.n):
        yield pb.CAPABILITY_BEST_OF, "best_of"
    if request.output.logprobs:
        yield pb.CAPABILITY_LOGPROBS, "logprobs"
    sampling = request.sampling
    for param, extended in (
        ("typical_p", sampling.HasField("typical_p") and sampling.typical_p < 1),
        ("dry_multiplier", sampling.dry.multiplier > 0),
        ("xtc_probability", sampling.xtc.probability > 0),
        ("mirostat", sampling.mirostat.version > 0),
    ):
        if extended:
            yield pb.CAPABILITY_EXTENDED_SAMPLING, param


def check(needs: Iterable[Need], model: pb.ModelInfo) -> None:
    """Raises ApiError 400 where the model lacks something."""
    listed = frozenset(model.capabilities)
    for capability, param in needs:
        if capability not in listed:
            raise unsupported(capability, param, model.name)


def check_tokens(request: pb.GenerateRequest, model: pb.ModelInfo) -> None:
    """Raises ApiError 400 where a bias is for a token that the model has not."""
    for token in request.sampling.logit_bias:
        if model.vocabulary_size and token >= model.vocabulary_size:
            raise invalid(
                f"Invalid key in 'logit_bias': {token}. This model's vocabulary has "
                f"{model.vocabulary_size} tokens.",
                "logit_bias",
                "invalid_value",
            )


def unsupported(capability: pb.Capability.ValueType, param: str, model: str) -> ApiError:
    """400: the model cannot do what `param` asks for."""
    return invalid(
        f"Unsupported parameter: '{param}'. The model '{model}' does not support "
        f"{_WORDS[capability]}.",
        param,
        "unsupported_parameter",
    )
