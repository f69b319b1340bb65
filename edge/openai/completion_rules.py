"""What a completion must satisfy as a whole, in OpenAI's order of checks and words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from edge.errors import invalid
from edge.openai import sampling_rules
from edge.openai.checks import only_if_enabled, only_with, validate, with_model
from edge.openai.completion_request import CompletionRequest

# Of all prompts together: each is a generation of its own, and they run at the same time.
MAX_CHOICES: Final = 128


def read(
    body: dict[str, Any], default_model: str = "", strict: bool = False, of_path: str = ""
) -> CompletionRequest:
    """The request of a parsed body: model → unknown keys → fields → rules.

    `default_model` is taken where neither the path nor the body names one; `strict` refuses
    unknown keys. Raises ApiError 400.
    """
    body = with_model(body, default_model, of_path)
    request = validate(CompletionRequest, body, strict)
    for rule in (_choices, _fields_together, sampling_rules.check):
        rule(request)
    return request


def prompts(request: CompletionRequest) -> Sequence[str | Sequence[int]]:
    """One entry a prompt: its text or its tokens."""
    prompt = request.prompt
    if prompt is None:
        return [""]
    if isinstance(prompt, str):
        return [prompt]
    # Validation lets no mixture through.
    several: Sequence[Any] = prompt
    return [several] if isinstance(several[0], int) else several


def best_of(request: CompletionRequest) -> int:
    """Candidates of each prompt; 0, which OpenAI allows, is no choice among candidates."""
    return request.best_of or request.n or 1


def _choices(request: CompletionRequest) -> None:
    n = request.n or 1
    sampling_rules.at_least_n(request.best_of or None, n)
    if request.stream and best_of(request) > n:
        raise invalid(
            "Invalid value for 'best_of': results cannot be streamed where it is greater than 'n'.",
            "best_of",
        )
    count = len(prompts(request))
    if count * best_of(request) > MAX_CHOICES:
        raise invalid(
            f"Too many parallel completions requested. You submitted {count} prompts with "
            f"{best_of(request)} completions each, but you can currently request up to at most a "
            f"total of {MAX_CHOICES}.",
            "prompt",
        )


def _fields_together(request: CompletionRequest) -> None:
    if request.stream_options is not None and not request.stream:
        raise only_if_enabled("stream_options", "stream")
    if request.suffix:
        if request.echo:
            raise sampling_rules.not_both("suffix", "echo")
        if not all(isinstance(prompt, str) for prompt in prompts(request)):
            raise only_with("suffix", "prompt", "is text")
