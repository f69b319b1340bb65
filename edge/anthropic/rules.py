"""What a request must satisfy as a whole, in Anthropic's words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from edge.anthropic.blocks import (
    AssistantBlock,
    AssistantMessage,
    OtherMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserBlock,
    UserMessage,
)
from edge.anthropic.errors import from_validation, no_threads, wrong
from edge.anthropic.request import CountRequest, EnabledThinking, MessagesRequest, ToolChoiceTool
from edge.openai.fields import unknown

Request = TypeVar("Request", bound=CountRequest)
Block = UserBlock | AssistantBlock

# Claude Code's first words to Anthropic's billing. They differ each time, so no prompt that
# begins with them would find its prefix in a cache.
_BILLING: Final = "x-anthropic-billing-header:"


@dataclass(slots=True)
class Turn:
    """Consecutive messages of one role, which are one turn. `at` is the last one's index."""

    role: str
    at: int
    blocks: list[Block]


def read(
    kind: type[Request], body: dict[str, Any], default_model: str = "", strict: bool = False
) -> Request:
    """The request of a parsed body.

    `default_model` is taken where the body names none; `strict` refuses unknown keys. Raises
    ApiError 400.
    """
    if not body.get("model") and default_model:
        body = {**body, "model": default_model}
    if strict:
        for name in body:
            if name not in kind.model_fields:
                raise wrong(name[:64], "Extra inputs are not permitted")
    try:
        request = kind.model_validate(body)
    except ValidationError as error:
        raise from_validation(error) from None
    inside = unknown(request, body) if strict else None
    if inside is not None:
        raise wrong(".".join(map(str, inside)), "Extra inputs are not permitted")
    if isinstance(request, MessagesRequest) and request.thread is not None:
        # First: most of the conversation may be missing.
        raise no_threads()
    _tools(request)
    _messages(request)
    if request.mcp_servers:
        raise wrong("mcp_servers", "This server calls no other servers")
    if isinstance(request, MessagesRequest):
        _limits(request)
    return request


def system(request: CountRequest) -> list[str]:
    """The texts of the system prompt."""
    texts = blocks(request.system) if request.system is not None else []
    return [
        block.text
        for block in texts
        if isinstance(block, TextBlock) and block.text and not block.text.startswith(_BILLING)
    ]


def turns(request: CountRequest) -> Iterator[Turn]:
    """The conversation; a last turn of the assistant with nothing in it is none.

    Instructions within it are in the user's turn, in the marks that Claude Code gives them there:
    most templates know instructions only at the beginning.
    """
    turn: Turn | None = None
    for at, message in enumerate(request.messages):
        # Its only purpose is to fail validation.
        assert not isinstance(message, OtherMessage)
        role, found = message.role, blocks(message.content)
        if role == "system" and turn is not None and turn.role != "system":
            role, found = "user", [_reminder(block) for block in found]
        if turn is not None and turn.role == role:
            turn.blocks += found
            turn.at = at
            continue
        if turn is not None:
            yield turn
        turn = Turn(role, at, found)
    if turn is not None and (turn.blocks or turn.role != "assistant"):
        yield turn


def _reminder(block: TextBlock) -> TextBlock:
    text = f"<system-reminder>\n{block.text}\n</system-reminder>\n"
    return TextBlock(type="text", text=text)


def blocks(content: Any) -> list[Any]:
    """A string is short for one block of text; an empty one for none."""
    if isinstance(content, str):
        return [TextBlock(type="text", text=content)] if content else []
    return list(content)


def _tools(request: CountRequest) -> None:
    names: set[str] = set()
    for at, tool in enumerate(request.tools or ()):
        if tool.name in names:
            raise wrong("tools", "Tool names must be unique.")
        names.add(tool.name)
        kind = tool.input_schema.get("type")
        if kind != "object":
            problem = "Field required" if kind is None else "Input should be 'object'"
            raise wrong(f"tools.{at}.input_schema.type", problem)
    choice = request.tool_choice
    if choice is None or choice.type == "none":
        return
    if not names:
        raise wrong("tool_choice", "tool_choice may only be specified while providing tools.")
    if isinstance(choice, ToolChoiceTool) and choice.name not in names:
        raise wrong("tool_choice", f"Tool '{choice.name[:64]}' not found in provided tools")


def _messages(request: CountRequest) -> None:
    last = len(request.messages) - 1
    for at, message in enumerate(request.messages):
        if isinstance(message, UserMessage | AssistantMessage) and not message.content:
            if at == last and isinstance(message, AssistantMessage):
                continue
            raise wrong(
                f"messages.{at}",
                "all messages must have non-empty content except for the optional final "
                "assistant message",
            )
    if next(turns(request), None) is None:
        raise wrong("messages", "at least one message is required")
    _calls(request)


def _calls(request: CountRequest) -> None:
    """Every call has its result in the next turn, and every result its call in the one before."""
    open_calls: dict[str, None] = {}
    seen: set[str] = set()
    at = 0
    for turn in turns(request):
        if turn.role == "system":
            continue
        results = {block.tool_use_id for block in turn.blocks if isinstance(block, ToolResultBlock)}
        for block in turn.blocks:
            if isinstance(block, ToolResultBlock) and block.tool_use_id not in open_calls:
                raise wrong(
                    f"messages.{turn.at}",
                    f"unexpected `tool_use_id` found in `tool_result` blocks: {block.tool_use_id}. "
                    "Each `tool_result` block must have a corresponding `tool_use` block in the "
                    "previous message.",
                )
        _answered([call for call in open_calls if call not in results], at)
        calls = [block.id for block in turn.blocks if isinstance(block, ToolUseBlock)]
        for call in calls:
            if call in seen:
                raise wrong("messages", "`tool_use` ids must be unique")
            seen.add(call)
        open_calls, at = dict.fromkeys(calls), turn.at
    _answered(list(open_calls), at)


def _answered(without: list[str], at: int) -> None:
    if without:
        raise wrong(
            f"messages.{at}",
            "`tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(without)}. Each `tool_use` block must have a corresponding `tool_result` "
            "block in the next message.",
        )


def _limits(request: MessagesRequest) -> None:
    thinking = request.thinking
    if isinstance(thinking, EnabledThinking) and thinking.budget_tokens >= request.max_tokens:
        raise wrong("max_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`")
    for at, stop in enumerate(request.stop_sequences or ()):
        if not stop.strip():
            raise wrong(f"stop_sequences.{at}", "each stop sequence must contain non-whitespace")
    if request.container is not None:
        raise wrong("container", "Nothing is executed on this server")
    if request.compaction is not None:
        raise wrong("compaction", "This server summarizes no conversations")
    config = request.output_config
    if request.output_format is not None and config is not None and config.format is not None:
        raise wrong("output_format", "Use either `output_format` or `output_config.format`")
