"""A response, asked for as a chat: the same settings under the names that chats have. Pure."""

from __future__ import annotations

from typing import Any

from edge.openai.chat_request import (
    AllowedTool,
    AllowedToolChoice,
    AllowedTools,
    ChatRequest,
    Function,
    FunctionName,
    NamedToolChoice,
    Tool,
    ToolChoice,
)
from edge.openai.messages import Message
from edge.openai.sampling_fields import Sampled
from edge.openai.structure_fields import (
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    ResponseFormat,
    Structured,
)
from edge.responses.request import (
    AllowedChoice,
    CountRequest,
    FunctionChoice,
    FunctionTool,
    ResponseRequest,
    SchemaFormat,
)

# Under the same name there.
_SHARED = (*Sampled.model_fields, *Structured.model_fields)


def chat(request: ResponseRequest | CountRequest, messages: list[Message]) -> ChatRequest:
    """The chat of these messages with the request's settings."""
    fields: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "tools": [_tool(tool) for tool in request.functions] or None,
        "tool_choice": _tool_choice(request),
        "parallel_tool_calls": request.parallel_tool_calls,
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        "verbosity": request.text.verbosity if request.text else None,
        "chat_template_kwargs": _template_arguments(request),
        "documents": request.documents,
    }
    if isinstance(request, ResponseRequest):
        fields.update({name: getattr(request, name) for name in _SHARED})
        logprobs = request.includes("message.output_text.logprobs")
        fields.update(
            n=None,
            max_completion_tokens=request.max_output_tokens,
            logprobs=logprobs,
            top_logprobs=request.top_logprobs if logprobs else None,
            reasoning_budget=request.reasoning_budget,
        )
    fields["response_format"] = _format(request)
    return ChatRequest.model_construct(**fields)


def _tool(tool: FunctionTool) -> Tool:
    function = Function.model_construct(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters,
        strict=tool.strict,
    )
    return Tool.model_construct(type="function", function=function)


def _tool_choice(request: ResponseRequest | CountRequest) -> ToolChoice | None:
    match request.tool_choice:
        case FunctionChoice(name=name):
            return NamedToolChoice.model_construct(
                type="function", function=FunctionName.model_construct(name=name)
            )
        case AllowedChoice(mode=mode, tools=tools):
            allowed = [
                AllowedTool.model_construct(
                    type="function", function=FunctionName.model_construct(name=tool.name)
                )
                for tool in tools
            ]
            return AllowedToolChoice.model_construct(
                type="allowed_tools",
                allowed_tools=AllowedTools.model_construct(mode=mode, tools=allowed),
            )
        case str() as plain if request.tools:
            return plain
    # Said without tools, too, where it changes nothing.
    return None


def _format(request: ResponseRequest | CountRequest) -> ResponseFormat | None:
    asked = request.text.format if request.text else None
    match asked:
        case SchemaFormat():
            schema = JsonSchema.model_construct(name=asked.name, schema_=asked.schema_)
            return JsonSchemaFormat.model_construct(type="json_schema", json_schema=schema)
        case JsonObjectFormat():
            return asked
    return request.response_format if isinstance(request, ResponseRequest) else None


def _template_arguments(request: ResponseRequest | CountRequest) -> dict[str, Any] | None:
    """`reasoning.effort` none switches thinking off, any other on; an explicit argument wins."""
    effort = request.reasoning.effort if request.reasoning else None
    given = request.chat_template_kwargs
    if effort is None:
        return given
    return {"enable_thinking": effort != "none", **(given or {})}
