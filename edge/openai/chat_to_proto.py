"""A chat request as the contract's GenerateRequest, and what it needs of a worker. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import orjson

from edge.errors import invalid
from edge.openai import abilities, media, sampling_to_proto, structured
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
    sampling_to_proto.sampling(request, out.sampling, seed)
    sampling_to_proto.stop(request, out.stop)
    limit = request.max_completion_tokens or request.max_tokens
    if limit is not None:
        out.stop.max_tokens = limit
    _output(request, out.output)
    constraint = structured.constraint(request)
    if constraint is not None:
        out.constraint.CopyFrom(constraint)
    if request.n is not None:
        out.n = request.n
    if request.best_of is not None:
        out.best_of = request.best_of
    out.cache_namespace = sampling_to_proto.namespace(request)
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
    yield from abilities.of_generation(request)


def _media(chat: pb.ChatInput) -> Iterator[tuple[pb.Capability.ValueType, str]]:
    for at, message in enumerate(chat.messages):
        for place, part in enumerate(message.content):
            if part.HasField("media"):
                image = part.media.mime_type.startswith("image/")
                need = pb.CAPABILITY_IMAGE if image else pb.CAPABILITY_AUDIO
                yield need, f"messages[{at}].content[{place}]"


def check_model(request: pb.GenerateRequest, model: pb.ModelInfo) -> None:
    """Raises ApiError 400 where the model lacks what the request asks for."""
    abilities.check(needs(request), model)
    abilities.check_tokens(request, model)


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


def _output(request: ChatRequest, out: pb.OutputOptions) -> None:
    out.logprobs = bool(request.logprobs)
    out.top_logprobs = request.top_logprobs or 0
    if request.skip_special_tokens is not None:
        out.skip_special_tokens = request.skip_special_tokens
