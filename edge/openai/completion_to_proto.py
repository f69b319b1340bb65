"""A completion as the contract's GenerateRequests, one a prompt, and what they need. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from edge.errors import Names, field_param
from edge.openai import abilities, sampling_to_proto, structured
from edge.openai.completion_request import CompletionRequest
from edge.openai.completion_rules import best_of, prompts
from protos.inference.v1 import inference_pb2 as pb

DEFAULT_MAX_TOKENS: Final = 16


def translate(request: CompletionRequest, seed: int) -> list[pb.GenerateRequest]:
    """The requests, which differ in their prompts, without their model's identity.

    `seed` is 0..2^63-1 and used where the request has none. Raises ApiError 400.
    """
    constraint = structured.constraint(request)
    made = []
    for at, prompt in enumerate(prompts(request)):
        out = pb.GenerateRequest(cache_namespace=sampling_to_proto.namespace(request))
        _prompt(request, prompt, out)
        # A drawn seed is each prompt's own, so that equal prompts are answered differently.
        sampling_to_proto.sampling(request, out.sampling, (seed + at) % 2**63)
        sampling_to_proto.stop(request, out.stop)
        limit = request.max_tokens
        out.stop.max_tokens = DEFAULT_MAX_TOKENS if limit is None else limit
        _output(request, out.output)
        if constraint is not None:
            out.constraint.CopyFrom(constraint)
        out.n = request.n or 1
        if best_of(request) > out.n:
            out.best_of = best_of(request)
        made.append(out)
    return made


def check_model(
    request: CompletionRequest, wanted: Sequence[pb.GenerateRequest], model: pb.ModelInfo
) -> None:
    """Raises ApiError 400 where the model lacks what the request asks for."""
    # All but the prompts are alike.
    abilities.check(_needs(request, wanted[0]), model)
    abilities.check_tokens(wanted[0], model)


def names(at: int, count: int) -> Names:
    """What errors about prompt `at` of `count` call its parameters."""
    prompt = "prompt" if count == 1 else f"prompt[{at}]"

    def field(path: str) -> str | None:
        if path in ("input", "text.text"):
            return prompt
        if path == "text.suffix":
            return "suffix"
        for tokens in ("tokens.ids", "token_ids"):
            if path.startswith(tokens):
                return prompt + path.removeprefix(tokens)
        return field_param(path)

    return Names(prompt, field)


def _needs(request: CompletionRequest, wanted: pb.GenerateRequest) -> Iterator[abilities.Need]:
    yield pb.CAPABILITY_GENERATE, "prompt"
    if request.suffix:
        yield pb.CAPABILITY_INFILL, "suffix"
    if wanted.output.prompt_logprobs:
        yield pb.CAPABILITY_PROMPT_LOGPROBS, "logprobs"
    elif request.echo and not all(isinstance(prompt, str) for prompt in prompts(request)):
        yield pb.CAPABILITY_TOKENIZE, "echo"
    yield from abilities.of_generation(wanted)


def _prompt(
    request: CompletionRequest, prompt: str | Sequence[int], out: pb.GenerateRequest
) -> None:
    if not isinstance(prompt, str):
        out.tokens.ids.extend(prompt)
        return
    out.text.text = prompt
    out.text.suffix = request.suffix or ""
    # Whoever writes the whole prompt writes its control tokens, too; code around a gap has none.
    out.text.parse_special = not request.suffix
    if request.add_special_tokens is not None:
        out.text.add_bos = request.add_special_tokens


def _output(request: CompletionRequest, out: pb.OutputOptions) -> None:
    out.logprobs = request.logprobs is not None
    out.top_logprobs = request.logprobs or 0
    out.prompt_logprobs = out.logprobs and bool(request.echo)
    if request.skip_special_tokens is not None:
        out.skip_special_tokens = request.skip_special_tokens
