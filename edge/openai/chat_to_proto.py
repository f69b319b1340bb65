"""A chat request as the contract's GenerateRequest, and what it needs of a worker. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence

import orjson

from edge.errors import ApiError, field_param, invalid
from edge.openai import media, structured
from edge.openai.chat_request import (
    AllowedToolChoice,
    ChatRequest,
    Function,
    FunctionName,
    NamedToolChoice,
)
from edge.openai.messages import (
    AssistantMessage,
    AudioPart,
    FilePart,
    FunctionMessage,
    ImagePart,
    Message,
    OtherMessage,
    RefusalPart,
    TextPart,
    ToolMessage,
)
from protos.inference.v1 import inference_pb2 as pb

_ROLES = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_DEVELOPER,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
    "tool": pb.ROLE_TOOL,
    "function": pb.ROLE_TOOL,
}
_Mode = pb.ToolChoice.Mode
# Templates take 64 KiB of arguments (see ChatInput.template_args_json).
_MAX_TEMPLATE_ARGS = 64 * 2**10


def translate(
    request: ChatRequest, seed: int, capabilities: Collection[pb.Capability.ValueType]
) -> pb.GenerateRequest:
    """The request without its model's identity, which the choice of a worker adds.

    `seed` is 0..2^63-1 and used where the request has none: it is resolved here, so that another
    worker can continue what one began. `capabilities` are the model's: what switches itself off
    is left out. Raises ApiError 400.
    """
    out = pb.GenerateRequest()
    _chat(request, out.chat, capabilities)
    if request.reasoning_budget is not None:
        out.chat.reasoning_budget = request.reasoning_budget
    _sampling(request, out.sampling, seed)
    _stop(request, out.stop)
    _output(request, out.output)
    constraint = structured.constraint(request)
    if constraint is not None:
        out.constraint.CopyFrom(constraint)
    if request.n is not None:
        out.n = request.n
    if request.best_of is not None:
        out.best_of = request.best_of
    if request.cache_salt is not None:
        # A digest: callers' salts have any length, and are nobody else's to read.
        out.cache_namespace = hashlib.sha256(request.cache_salt.encode()).hexdigest()
    return out


def needs(request: pb.GenerateRequest) -> Iterator[tuple[pb.Capability.ValueType, str]]:
    """What the model must be able to do, each with the parameter that asks for it."""
    chat = request.chat
    yield pb.CAPABILITY_CHAT, "messages"
    if chat.tools:
        yield pb.CAPABILITY_TOOLS, "tools"
    if chat.HasField("reasoning_budget"):
        yield pb.CAPABILITY_REASONING, "reasoning_budget"
    yield from _media(chat)
    if request.HasField("constraint"):
        kind = request.constraint.WhichOneof("kind")
        yield pb.CAPABILITY_CONSTRAINT, field_param(f"constraint.{kind}") or "response_format"
    if request.n > 1:
        yield pb.CAPABILITY_MULTIPLE_CHOICES, "n"
    if request.best_of > max(1, request.n):
        yield pb.CAPABILITY_BEST_OF, "best_of"
    if request.output.logprobs:
        yield pb.CAPABILITY_LOGPROBS, "logprobs"
    if request.sampling.HasField("typical_p") and request.sampling.typical_p < 1:
        yield pb.CAPABILITY_EXTENDED_SAMPLING, "typical_p"


def _media(chat: pb.ChatInput) -> Iterator[tuple[pb.Capability.ValueType, str]]:
    for at, message in enumerate(chat.messages):
        for place, part in enumerate(message.content):
            if part.HasField("media"):
                image = part.media.mime_type.startswith("image/")
                need = pb.CAPABILITY_IMAGE if image else pb.CAPABILITY_AUDIO
                yield need, f"messages[{at}].content[{place}]"


def check_model(request: pb.GenerateRequest, model: pb.ModelInfo) -> None:
    """Raises ApiError 400 where the model lacks what the request asks for."""
    listed = frozenset(model.capabilities)
    for capability, param in needs(request):
        if capability not in listed:
            raise unsupported(capability, param, model.name)
    for token in request.sampling.logit_bias:
        if model.vocabulary_size and token >= model.vocabulary_size:
            raise invalid(
                f"Invalid key in 'logit_bias': {token}. This model's vocabulary has "
                f"{model.vocabulary_size} tokens.",
                "logit_bias",
                "invalid_value",
            )


_WORDS = {
    pb.CAPABILITY_CHAT: "chat completions",
    pb.CAPABILITY_TOOLS: "tools",
    pb.CAPABILITY_REASONING: "a budget of thinking",
    pb.CAPABILITY_IMAGE: "images",
    pb.CAPABILITY_AUDIO: "audio",
    pb.CAPABILITY_CONSTRAINT: "structured output",
    pb.CAPABILITY_MULTIPLE_CHOICES: "more than one choice",
    pb.CAPABILITY_BEST_OF: "'best_of'",
    pb.CAPABILITY_LOGPROBS: "logprobs",
    pb.CAPABILITY_EXTENDED_SAMPLING: "this sampler",
}


def unsupported(capability: pb.Capability.ValueType, param: str, model: str) -> ApiError:
    """400: the model cannot do what `param` asks for."""
    return invalid(
        f"Unsupported parameter: '{param}'. The model '{model}' does not support "
        f"{_WORDS[capability]}.",
        param,
        "unsupported_parameter",
    )


def _chat(
    request: ChatRequest, chat: pb.ChatInput, capabilities: Collection[pb.Capability.ValueType]
) -> None:
    for at, message in enumerate(request.messages):
        chat.messages.append(_message(message, f"messages[{at}]", at))
    functions = [tool.function for tool in request.tools or ()] or request.functions or []
    if functions and not _switched_off(request):
        chat.tools.extend(_tool(function) for function in functions)
        _tool_choice(request, chat)
        if request.parallel_tool_calls is not None or request.functions:
            chat.parallel_tool_calls = bool(request.parallel_tool_calls) and not request.functions
    args = dict(request.chat_template_kwargs or {})
    # The contract's own field, where the model can switch; else the template may still know it.
    thinking = args.get("enable_thinking")
    if isinstance(thinking, bool) and pb.CAPABILITY_REASONING in capabilities:
        chat.enable_thinking = args.pop("enable_thinking")
    if request.verbosity is not None:
        args.setdefault("verbosity", request.verbosity)
    if args:
        text = orjson.dumps(args)
        if len(text) > _MAX_TEMPLATE_ARGS:
            raise invalid(
                "Invalid 'chat_template_kwargs': more than 64 KiB.", "chat_template_kwargs"
            )
        chat.template_args_json = text.decode()
    if request.documents:
        chat.documents_json = orjson.dumps(request.documents).decode()
    chat.reasoning_effort = request.reasoning_effort or ""
    if request.add_generation_prompt is not None:
        chat.add_generation_prompt = request.add_generation_prompt
    chat.continue_final_message = bool(request.continue_final_message)


def _switched_off(request: ChatRequest) -> bool:
    return request.tool_choice == "none" or request.function_call == "none"


def _message(message: Message, param: str, at: int) -> pb.Message:
    # Its only purpose is to fail validation.
    assert not isinstance(message, OtherMessage)
    out = pb.Message(role=_ROLES[message.role])
    if isinstance(message, FunctionMessage):
        out.name = message.name[:64]
        out.tool_call_id = _legacy_id(at - 1)
        out.content.add(text=message.content or "")
        return out
    if isinstance(message, ToolMessage):
        out.tool_call_id = message.tool_call_id
    else:
        out.name = message.name or ""
    _content(message.content, out, f"{param}.content")
    if isinstance(message, AssistantMessage):
        _assistant(message, out, at)
    elif not out.content:
        # Empty is null in the contract, and only an assistant's content may be that.
        out.content.add(text="")
    return out


def _content(content: str | Sequence[object] | None, out: pb.Message, param: str) -> None:
    if isinstance(content, str):
        out.content.add(text=content)
        return
    for at, part in enumerate(content or ()):
        match part:
            case TextPart():
                out.content.add(text=part.text)
            case RefusalPart():
                out.content.add(text=part.refusal)
            case ImagePart():
                out.content.add(media=media.image(part, f"{param}[{at}]"))
            case AudioPart():
                out.content.add(media=media.sound(part, f"{param}[{at}]"))
            case FilePart():
                raise invalid(
                    f"Unsupported parameter: '{param}[{at}]'. This server does not read files.",
                    f"{param}[{at}]",
                    "unsupported_parameter",
                )


def _assistant(message: AssistantMessage, out: pb.Message, at: int) -> None:
    if message.content is None and message.refusal is not None:
        out.content.add(text=message.refusal)
    for call in message.tool_calls or ():
        out.tool_calls.add(
            id=call.id, name=call.function.name, arguments_json=call.function.arguments
        )
    if message.function_call is not None:
        legacy = message.function_call
        out.tool_calls.add(id=_legacy_id(at), name=legacy.name, arguments_json=legacy.arguments)
    out.reasoning = message.reasoning_content or message.reasoning or ""


def _legacy_id(at: int) -> str:
    """Calls had no ids before tools: the place of the assistant's message serves."""
    return f"call_{max(at, 0)}"


def _tool(function: Function) -> pb.Tool:
    schema = function.parameters
    return pb.Tool(
        name=function.name,
        description=function.description or "",
        parameters_json_schema="" if schema is None else orjson.dumps(schema).decode(),
        strict=bool(function.strict),
    )


def _tool_choice(request: ChatRequest, chat: pb.ChatInput) -> None:
    match request.tool_choice if request.tools else request.function_call:
        case "auto":
            chat.tool_choice.mode = _Mode.MODE_AUTO
        case "required":
            chat.tool_choice.mode = _Mode.MODE_REQUIRED
        case NamedToolChoice(function=FunctionName(name=name)) | FunctionName(name=name):
            chat.tool_choice.mode = _Mode.MODE_REQUIRED
            chat.tool_choice.allowed_names.append(name)
        case AllowedToolChoice(allowed_tools=allowed):
            required = allowed.mode == "required"
            chat.tool_choice.mode = _Mode.MODE_REQUIRED if required else _Mode.MODE_AUTO
            chat.tool_choice.allowed_names.extend(tool.function.name for tool in allowed.tools)


def _sampling(request: ChatRequest, out: pb.SamplingParams, seed: int) -> None:
    for name in (
        "temperature",
        "top_p",
        "min_p",
        "typical_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
    ):
        value = getattr(request, name)
        if value is not None:
            setattr(out, name, value)
    if request.top_k is not None:
        out.top_k = max(request.top_k, 0)
    for token, bias in (request.logit_bias or {}).items():
        out.logit_bias[int(token)] = bias
    chosen = request.seed if request.seed is not None else seed
    # int64 as it is, bit by bit: distinct seeds stay distinct.
    out.seed = chosen & (2**64 - 1)


def _stop(request: ChatRequest, out: pb.StopConditions) -> None:
    limit = request.max_completion_tokens or request.max_tokens
    if limit is not None:
        out.max_tokens = limit
    if request.stop is not None:
        out.strings.extend([request.stop] if isinstance(request.stop, str) else request.stop)
    out.min_tokens = request.min_tokens or 0
    out.token_ids.extend(request.stop_token_ids or ())
    out.ignore_eos = bool(request.ignore_eos)
    out.include_matched = bool(request.include_stop_str_in_output)


def _output(request: ChatRequest, out: pb.OutputOptions) -> None:
    out.logprobs = bool(request.logprobs)
    out.top_logprobs = request.top_logprobs or 0
    if request.skip_special_tokens is not None:
        out.skip_special_tokens = request.skip_special_tokens
