"""What a chat request must satisfy as a whole, in OpenAI's order of checks and words. Pure."""

from __future__ import annotations

from typing import Any

from edge.errors import invalid
from edge.openai import invalid as say
from edge.openai import sampling_rules
from edge.openai.chat_request import AllowedToolChoice, ChatRequest, FunctionName, NamedToolChoice
from edge.openai.checks import only_if_enabled, only_with, unsupported, validate, with_model
from edge.openai.messages import AssistantMessage, FunctionMessage, ToolMessage


def read(
    body: dict[str, Any], default_model: str = "", strict: bool = False, of_path: str = ""
) -> ChatRequest:
    """The request of a parsed body: model → messages present → unknown keys → fields → rules.

    `default_model` is taken where neither the path nor the body names one; `strict` refuses
    unknown keys. Raises ApiError 400.
    """
    body = with_model(body, default_model, of_path)
    if body.get("messages") is None:
        raise say.missing("messages")
    if body["messages"] == []:
        raise say.empty_array("messages")
    request = validate(ChatRequest, body, strict)
    for rule in (_fields_together, sampling_rules.check, _tools, _messages):
        rule(request)
    return request


def _fields_together(request: ChatRequest) -> None:
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise invalid(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    if request.top_logprobs is not None and not request.logprobs:
        raise only_if_enabled("top_logprobs", "logprobs")
    if request.stream_options is not None and not request.stream:
        raise only_if_enabled("stream_options", "stream")
    sampling_rules.at_least_n(request.best_of, request.n)
    if request.continue_final_message:
        if request.add_generation_prompt:
            raise invalid(
                "Cannot set both 'continue_final_message' and 'add_generation_prompt'.",
                "continue_final_message",
            )
        if not isinstance(request.messages[-1], AssistantMessage):
            raise invalid(
                "Invalid value for 'continue_final_message': the last message must be an "
                "assistant's.",
                "continue_final_message",
            )
    if request.modalities is not None and "audio" in request.modalities:
        raise invalid("This server does not produce audio.", "modalities", "unsupported_value")
    if request.moderation is not None:
        raise unsupported("moderation", "Nothing is moderated here.")


def _tools(request: ChatRequest) -> None:
    names: set[str] = set()
    for at, tool in enumerate(request.tools or ()):
        if tool.function.name in names:
            raise invalid(
                f"Invalid value for 'tools[{at}].function.name': '{tool.function.name}' is "
                "declared twice.",
                f"tools[{at}].function.name",
                "invalid_value",
            )
        names.add(tool.function.name)
    if request.tools and request.functions:
        raise invalid("'functions' is deprecated and excludes 'tools'.", "functions")
    choice = request.tool_choice
    if choice is not None and choice != "none" and not request.tools:
        raise only_with("tool_choice", "tools", "are specified")
    if isinstance(choice, NamedToolChoice):
        _declared(choice.function.name, names, "tool_choice", "tools")
    if isinstance(choice, AllowedToolChoice):
        for allowed in choice.allowed_tools.tools:
            _declared(allowed.function.name, names, "tool_choice", "tools")
    _function_call(request)


def _function_call(request: ChatRequest) -> None:
    if request.function_call is not None and request.function_call != "none":
        if not request.functions:
            raise only_with("function_call", "functions", "are specified")
        if isinstance(request.function_call, FunctionName):
            functions = {function.name for function in request.functions}
            _declared(request.function_call.name, functions, "function_call", "functions")


def _declared(name: str, names: set[str], field: str, where: str) -> None:
    if name not in names:
        raise invalid(
            f"Invalid value for '{field}': no function named '{name[:64]}' was specified in the "
            f"'{where}' parameter.",
            field,
        )


def _messages(request: ChatRequest) -> None:
    """A tool's message needs an assistant's with calls before it, other tools' between."""
    calls_before = False
    for at, message in enumerate(request.messages):
        match message:
            case AssistantMessage():
                calls_before = bool(message.tool_calls)
                if message.content is None and not (
                    message.tool_calls or message.function_call or message.refusal
                ):
                    raise say.wrong_type(
                        f"messages[{at}].content", "one of a string or array of objects", None
                    )
            case ToolMessage():
                if not calls_before:
                    raise invalid(
                        "Invalid parameter: messages with role 'tool' must be a response to a "
                        "preceeding message with 'tool_calls'.",
                        f"messages.[{at}].role",
                    )
            case FunctionMessage():
                pass
            case _:
                calls_before = False
