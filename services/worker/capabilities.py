"""What a request needs of a worker, in the contract's capabilities; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import Unsupported

Checked = (
    pb.GenerateRequest
    | pb.EmbedRequest
    | pb.RerankRequest
    | pb.TokenizeRequest
    | pb.DetokenizeRequest
    | pb.RenderPromptRequest
)

_Capability: TypeAlias = pb.Capability.ValueType


def check_rpc(request: Checked, model: pb.ModelInfo) -> None:
    """Raises Unsupported where the worker lacks the RPC as a whole."""
    _check(_of_rpc(request), model)


def check(request: Checked, model: pb.ModelInfo) -> None:
    """Raises Unsupported for the first thing that the request needs and the worker lacks."""
    _check(needed(request), model)


def needed(request: Checked) -> Iterator[_Capability]:
    """Yields what a valid request needs; a field that switches something off needs nothing."""
    yield from _of_rpc(request)
    if isinstance(request, pb.GenerateRequest):
        yield from _of_generate(request)
    elif isinstance(request, pb.RenderPromptRequest):
        yield from _of_chat(request.chat)
    elif isinstance(request, pb.TokenizeRequest) and _fills(request.text):
        yield pb.CAPABILITY_INFILL


def _check(capabilities: Iterator[_Capability], model: pb.ModelInfo) -> None:
    listed = frozenset(model.capabilities)
    for capability in capabilities:
        if capability not in listed:
            raise Unsupported(capability)


def _of_rpc(request: Checked) -> Iterator[_Capability]:
    if isinstance(request, pb.EmbedRequest):
        yield pb.CAPABILITY_EMBED
    elif isinstance(request, pb.RerankRequest):
        yield pb.CAPABILITY_RERANK
    elif isinstance(request, pb.TokenizeRequest | pb.DetokenizeRequest):
        yield pb.CAPABILITY_TOKENIZE
    elif isinstance(request, pb.RenderPromptRequest):
        yield pb.CAPABILITY_CHAT


def _of_generate(request: pb.GenerateRequest) -> Iterator[_Capability]:
    if request.HasField("chat"):
        yield pb.CAPABILITY_CHAT
        yield from _of_chat(request.chat)
    else:
        yield pb.CAPABILITY_GENERATE
        if _fills(request.text):
            yield pb.CAPABILITY_INFILL
    choices = request.n or 1
    speculates = request.HasField("speculation") and not _off(request.speculation)
    for capability, wanted in (
        (pb.CAPABILITY_LOGPROBS, request.output.logprobs),
        (pb.CAPABILITY_PROMPT_LOGPROBS, request.output.prompt_logprobs),
        (pb.CAPABILITY_CONSTRAINT, request.HasField("constraint")),
        (pb.CAPABILITY_RESUME, request.HasField("resume")),
        (pb.CAPABILITY_MULTIPLE_CHOICES, choices > 1),
        (pb.CAPABILITY_BEST_OF, request.best_of > choices),
        (pb.CAPABILITY_ADAPTERS, bool(request.adapter)),
        (pb.CAPABILITY_EXTENDED_SAMPLING, _extends(request.sampling)),
        (pb.CAPABILITY_SPECULATION, speculates),
    ):
        if wanted:
            yield capability


def _fills(text: pb.TextInput) -> bool:
    return bool(text.suffix) or text.fill


def _of_chat(chat: pb.ChatInput) -> Iterator[_Capability]:
    if chat.tools:
        yield pb.CAPABILITY_TOOLS
    if chat.HasField("enable_thinking") or chat.HasField("reasoning_budget"):
        yield pb.CAPABILITY_REASONING
    for message in chat.messages:
        for part in message.content:
            if part.media.mime_type.startswith("image/"):
                yield pb.CAPABILITY_IMAGE
            elif part.media.mime_type.startswith("audio/"):
                yield pb.CAPABILITY_AUDIO


def _extends(sampling: pb.SamplingParams) -> bool:
    return (
        (sampling.HasField("typical_p") and sampling.typical_p < 1)
        or sampling.dry.multiplier > 0
        or sampling.xtc.probability > 0
        or sampling.mirostat.version > 0
    )


def _off(speculation: pb.Speculation) -> bool:
    return speculation.HasField("enabled") and not speculation.enabled
