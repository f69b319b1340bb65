"""A request as the contract's, and what it needs of a worker. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import orjson

from edge.anthropic import content, rules, signature
from edge.anthropic.blocks import TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock
from edge.anthropic.errors import wrong
from edge.anthropic.request import (
    AdaptiveThinking,
    CountRequest,
    EnabledThinking,
    JsonFormat,
    MessagesRequest,
    NoneChoice,
    Tool,
    ToolChoiceTool,
)
from edge.errors import ApiError
from protos.inference.v1 import inference_pb2 as pb

_Mode = pb.ToolChoice.Mode
_MODES: Final = {
    "auto": _Mode.MODE_AUTO,
    "any": _Mode.MODE_REQUIRED,
    "tool": _Mode.MODE_REQUIRED,
}
# Templates that know efforts know these.
_EFFORTS: Final = {"xhigh": "high", "max": "high"}
_WORDS: Final = {
    pb.CAPABILITY_CHAT: "messages",
    pb.CAPABILITY_TOOLS: "tools",
    pb.CAPABILITY_IMAGE: "images",
    pb.CAPABILITY_CONSTRAINT: "structured outputs",
}


def translate(
    request: MessagesRequest, seed: int, capabilities: Collection[pb.Capability.ValueType]
) -> pb.GenerateRequest:
    """The request without its model's identity, which the choice of a worker adds.

    `seed` is 0..2^63-1. `capabilities` are the model's: thinking is left out where it has none.
    Raises ApiError 400.
    """
    out = pb.GenerateRequest(chat=chat(request, capabilities))
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(request, name)
        if value is not None:
            setattr(out.sampling, name, value)
    out.sampling.seed = seed
    out.stop.max_tokens = request.max_tokens
    out.stop.strings.extend(request.stop_sequences or ())
    wanted = _format(request)
    if wanted is not None:
        out.constraint.json_schema = orjson.dumps(wanted.schema_).decode()
    return out


def chat(request: CountRequest, capabilities: Collection[pb.Capability.ValueType]) -> pb.ChatInput:
    """The conversation: all that decides what the model reads. Raises ApiError 400."""
    out = pb.ChatInput()
    system = rules.system(request)
    if system:
        out.messages.add(role=pb.ROLE_SYSTEM).content.extend(content.texts(system))
    for turn in rules.turns(request):
        out.messages.extend(_turn(turn))
    out.continue_final_message = out.messages[-1].role == pb.ROLE_ASSISTANT
    if request.tools and not isinstance(request.tool_choice, NoneChoice):
        out.tools.extend(_tool(tool) for tool in request.tools)
        _tool_choice(request, out)
    if pb.CAPABILITY_REASONING in capabilities:
        _thinking(request, out)
    if request.output_config is not None and request.output_config.effort is not None:
        effort = request.output_config.effort
        out.reasoning_effort = _EFFORTS.get(effort, effort)
    return out


def check_model(request: pb.GenerateRequest, model: pb.ModelInfo) -> None:
    """Raises ApiError 400 where the model lacks what the request asks for."""
    for capability, param in _needs(request):
        if capability not in model.capabilities:
            raise _unsupported(capability, param, model.name)


def _needs(request: pb.GenerateRequest) -> Iterator[tuple[pb.Capability.ValueType, str]]:
    yield pb.CAPABILITY_CHAT, "model"
    if request.chat.tools:
        yield pb.CAPABILITY_TOOLS, "tools"
    if request.HasField("constraint"):
        yield pb.CAPABILITY_CONSTRAINT, "output_config.format"
    parts = (part for message in request.chat.messages for part in message.content)
    if any(part.HasField("media") for part in parts):
        yield pb.CAPABILITY_IMAGE, "messages"


def _unsupported(capability: pb.Capability.ValueType, param: str, model: str) -> ApiError:
    return wrong(param, f"The model '{model}' does not support {_WORDS[capability]}.")


def _turn(turn: rules.Turn) -> Iterator[pb.Message]:
    if turn.role == "system":
        yield pb.Message(role=pb.ROLE_SYSTEM, content=content.parts(turn.blocks, turn.at))
    elif turn.role == "assistant":
        yield _assistant(turn)
    else:
        yield from _user(turn)


def _user(turn: rules.Turn) -> Iterator[pb.Message]:
    """The results of tools come first, each as a message of its own."""
    said = []
    for block in turn.blocks:
        if isinstance(block, ToolResultBlock):
            parts = content.parts(rules.blocks(block.content or ""), turn.at)
            if block.is_error:
                # The contract has no place for it, nor have templates.
                parts.insert(0, pb.ContentPart(text="Error: "))
            yield pb.Message(
                role=pb.ROLE_TOOL,
                tool_call_id=block.tool_use_id,
                content=content.joined(parts),
            )
        else:
            said.append(block)
    if said:
        yield pb.Message(
            role=pb.ROLE_USER, content=content.parts(said, turn.at) or content.texts([""])
        )


def _assistant(turn: rules.Turn) -> pb.Message:
    out = pb.Message(role=pb.ROLE_ASSISTANT)
    for block in turn.blocks:
        match block:
            case TextBlock():
                out.content.add(text=block.text)
            case ThinkingBlock():
                out.reasoning += signature.thoughts(block.thinking, block.signature)
            case ToolUseBlock():
                arguments = orjson.dumps(block.input).decode()
                out.tool_calls.add(id=block.id, name=block.name, arguments_json=arguments)
            case _:
                # Redacted thoughts.
                pass
    return out


def _tool(tool: Tool) -> pb.Tool:
    return pb.Tool(
        name=tool.name,
        description=tool.description or "",
        parameters_json_schema=orjson.dumps(tool.input_schema).decode(),
        strict=bool(tool.strict),
    )


def _tool_choice(request: CountRequest, out: pb.ChatInput) -> None:
    choice = request.tool_choice
    if choice is None or isinstance(choice, NoneChoice):
        return
    out.tool_choice.mode = _MODES[choice.type]
    if isinstance(choice, ToolChoiceTool):
        out.tool_choice.allowed_names.append(choice.name)
    if choice.disable_parallel_tool_use is not None:
        out.parallel_tool_calls = not choice.disable_parallel_tool_use


def _thinking(request: CountRequest, out: pb.ChatInput) -> None:
    """Absent, it is as the model's template has it."""
    thinking = request.thinking
    if thinking is None:
        return
    out.enable_thinking = isinstance(thinking, EnabledThinking | AdaptiveThinking)
    if isinstance(thinking, EnabledThinking):
        out.reasoning_budget = thinking.budget_tokens


def _format(request: MessagesRequest) -> JsonFormat | None:
    config = request.output_config
    return request.output_format or (config.format if config is not None else None)
