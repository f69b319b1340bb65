"""Whether a conversation keeps to the contract: messages, tools and template arguments; pure."""

from __future__ import annotations

from protos.inference.v1 import inference_pb2 as pb
from services.worker import checks
from services.worker.errors import InvalidField

_MAX_MESSAGES = 4096
# Of all messages together.
_MAX_PARTS = 8192
_MAX_TOOLS = 128

_ROLES = frozenset(pb.Role.values()) - {pb.ROLE_UNSPECIFIED}
_MODES = frozenset(pb.ToolChoice.Mode.values())
_DETAILS = frozenset(("", "low", "high", "auto"))


def chat_input(field: str, chat: pb.ChatInput) -> None:
    """Raises InvalidField; `field` is the conversation's own path."""
    _amounts(field, chat)
    for at, message in enumerate(chat.messages):
        _message(f"{field}.messages[{at}]", message)
    _tools(field, chat)
    if chat.template_args_json:
        name, text = f"{field}.template_args_json", chat.template_args_json
        checks.size(name, text, checks.KIB_64)
        checks.json_text(name, text, dict, "a JSON object")
    if chat.documents_json:
        checks.json_text(f"{field}.documents_json", chat.documents_json, list, "a JSON array")
    if chat.continue_final_message:
        if chat.messages[-1].role != pb.ROLE_ASSISTANT:
            raise InvalidField(
                f"{field}.continue_final_message", "needs a last message of the assistant"
            )
        if chat.HasField("add_generation_prompt") and chat.add_generation_prompt:
            raise InvalidField(f"{field}.add_generation_prompt", "excludes continue_final_message")


def _amounts(field: str, chat: pb.ChatInput) -> None:
    """All that the rest takes time over, counted first: it runs on the event loop."""
    messages = f"{field}.messages"
    checks.count(messages, chat.messages, 1, _MAX_MESSAGES)
    parts = sum(len(message.content) + len(message.tool_calls) for message in chat.messages)
    if parts > _MAX_PARTS:
        raise InvalidField(
            messages, f"must have at most {_MAX_PARTS} content parts and tool calls in all"
        )
    checks.count(f"{field}.tools", chat.tools, 0, _MAX_TOOLS)
    checks.count(
        f"{field}.tool_choice.allowed_names", chat.tool_choice.allowed_names, 0, _MAX_TOOLS
    )
    json = len(chat.template_args_json) + len(chat.documents_json)
    json += sum(len(tool.parameters_json_schema) for tool in chat.tools)
    json += sum(len(c.arguments_json) for message in chat.messages for c in message.tool_calls)
    if json > checks.MIB_2:
        raise InvalidField(field, f"must have at most {checks.MIB_2} characters of JSON in all")


def _message(field: str, message: pb.Message) -> None:
    if message.role not in _ROLES:
        raise InvalidField(f"{field}.role", "is required and must be a known role")
    for at, part in enumerate(message.content):
        match part.WhichOneof("part"):
            case "media":
                _media(f"{field}.content[{at}].media", part.media)
            case None:
                raise InvalidField(f"{field}.content[{at}]", "one of text and media is required")
    checks.characters(f"{field}.name", message.name, 64)
    for at, call in enumerate(message.tool_calls):
        _tool_call(f"{field}.tool_calls[{at}]", call)
    _fields_of_role(field, message)


def _fields_of_role(field: str, message: pb.Message) -> None:
    if message.role != pb.ROLE_ASSISTANT:
        if message.tool_calls:
            raise InvalidField(f"{field}.tool_calls", "belongs to the assistant's messages")
        if message.reasoning:
            raise InvalidField(f"{field}.reasoning", "belongs to the assistant's messages")
    if message.role == pb.ROLE_TOOL:
        checks.required(f"{field}.tool_call_id", message.tool_call_id)
    elif message.tool_call_id:
        raise InvalidField(f"{field}.tool_call_id", "belongs to the tools' messages")


def _media(field: str, media: pb.Media) -> None:
    checks.media_type(f"{field}.mime_type", media.mime_type)
    checks.required(f"{field}.data", media.data)
    if media.detail not in _DETAILS:
        raise InvalidField(f"{field}.detail", "must be low, high or auto")


def _tool_call(field: str, call: pb.ToolCall) -> None:
    checks.required(f"{field}.id", call.id)
    checks.characters(f"{field}.id", call.id, 64)
    checks.required(f"{field}.name", call.name)
    if call.arguments_json:
        checks.json_text(f"{field}.arguments_json", call.arguments_json, dict, "a JSON object")


def _tools(field: str, chat: pb.ChatInput) -> None:
    names: set[str] = set()
    for at, tool in enumerate(chat.tools):
        path = f"{field}.tools[{at}]"
        checks.function_name(f"{path}.name", tool.name)
        if tool.name in names:
            raise InvalidField(f"{path}.name", "is declared twice")
        names.add(tool.name)
        if tool.parameters_json_schema:
            name, text = f"{path}.parameters_json_schema", tool.parameters_json_schema
            checks.size(name, text, checks.KIB_64)
            checks.json_text(name, text, dict, "a JSON object")
    choice = chat.tool_choice
    if choice.mode not in _MODES:
        raise InvalidField(f"{field}.tool_choice.mode", "must be a known mode")
    if choice.mode == pb.ToolChoice.MODE_REQUIRED and not names:
        raise InvalidField(f"{field}.tool_choice.mode", "needs tools")
    for at, name in enumerate(choice.allowed_names):
        if name not in names:
            raise InvalidField(
                f"{field}.tool_choice.allowed_names[{at}]", "is no tool of this request"
            )
