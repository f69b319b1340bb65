"""A chat of the contract as the messages that one template expects. Pure.

What is done to a conversation depends on the template's traits alone: see docs/templates.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from protos.inference.v1 import inference_pb2 as pb
from services.llama import plain_tools
from services.llama.formats import Format
from services.llama.marks import OPEN_END, Name, Ours, Said, joined, place
from services.llama.template_traits import Content, Message, Traits

_ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "developer",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}


def messages(chat: pb.ChatInput, traits: Traits, family: Format | None = None) -> list[Message]:
    """The turns, in the shape that the template takes. `family`: how the model writes calls.

    Of a chat whose last message is to be continued, that one's text or, without a text, its
    thoughts end with OPEN_END.
    """
    numbers = count()
    turns = [_message(message, traits, numbers) for message in chat.messages]
    if chat.continue_final_message:
        _open(turns[-1])
    if not traits.tool_call_ids or traits.named_results:
        turns = _in_order_of_calls(turns, named=traits.named_results)
    # Declared tools of a template without a place for them, and what was done with them.
    declared = tools(chat) if not traits.tools else []
    turns = plain_tools.told(
        turns,
        calls=bool(declared) or not traits.tool_calls,
        results=bool(declared) or not (traits.tool_results or not traits.tool_role),
        family=family if not declared else None,
    )
    if declared:
        turns = plain_tools.with_instruction(turns, declared)
    if not traits.system:
        # The turn to be continued stays the last.
        end = len(turns) - chat.continue_final_message
        turns = [*_fold_system(turns[:end]), *turns[end:]]
    if not traits.parallel_calls:
        turns = _one_call_each(turns)
    if not traits.tool_role:
        turns = _with_tool_responses(turns)
    return [_shaped(turn, traits) for turn in turns]


def may_be_called(chat: pb.ChatInput) -> list[pb.Tool]:
    """Of the tools those that the choice leaves."""
    if chat.tool_choice.mode == pb.ToolChoice.MODE_NONE:
        return []
    allowed = frozenset(chat.tool_choice.allowed_names)
    return [tool for tool in chat.tools if not allowed or tool.name in allowed]


def tools(chat: pb.ChatInput) -> list[Message]:
    """The tools that may be called, as OpenAI declares them."""
    return [_tool(tool) for tool in may_be_called(chat)]


def documents(chat: pb.ChatInput) -> list[Any]:
    """The documents that came with the chat."""
    found: list[Any] = json.loads(chat.documents_json) if chat.documents_json else []
    return found


def template_args(chat: pb.ChatInput) -> dict[str, Any]:
    """Variables for the template, without those that are for our own use."""
    if not chat.template_args_json:
        return {}
    args: dict[str, Any] = json.loads(chat.template_args_json)
    return {name: value for name, value in args.items() if not name.startswith("_")}


def _message(message: pb.Message, traits: Traits, numbers: Iterator[int]) -> Message:
    role = _ROLES[message.role]
    if role == "developer" and not traits.developer:
        role = "system"
    text = Said if role == "assistant" else str
    # Templates concatenate: an empty text is what they all take, also for null.
    result: Message = {"role": Ours(role), "content": text("")}
    if any(part.HasField("media") for part in message.content):
        result["content"] = _with_places(message.content, numbers)
    elif len(message.content) == 1:
        result["content"] = text(message.content[0].text)
    elif message.content:
        result["content"] = [_part(text(part.text)) for part in message.content]
    if message.name:
        result["name"] = message.name
    if message.tool_calls:
        result["tool_calls"] = [_tool_call(call, traits) for call in message.tool_calls]
    if message.tool_call_id:
        result["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        result["reasoning_content"] = Said(message.reasoning)
    return result


def _with_places(parts: Iterable[pb.ContentPart], numbers: Iterator[int]) -> str:
    """One text, as llama.cpp makes it: texts are lines, and media stand where they stand.

    Templates have marks of their own for images. They get none to write: what belongs around an
    image depends on the projector, and libmtmd writes it.
    """
    pieces: list[str] = []
    line = False
    for part in parts:
        if part.HasField("media"):
            pieces.append(place(next(numbers)))
            line = False
        else:
            pieces.append("\n" + part.text if line else part.text)
            line = True
    return joined("", pieces)


def _part(text: str) -> Message:
    return {"type": Ours("text"), "text": text}


def _tool_call(call: pb.ToolCall, traits: Traits) -> Message:
    written = call.arguments_json or "{}"
    arguments: Any = written
    if traits.object_arguments:
        arguments = {Name(name): value for name, value in json.loads(written).items()}
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": Ours("function"), "function": function}


def _tool(tool: pb.Tool) -> Message:
    schema = tool.parameters_json_schema
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": json.loads(schema) if schema else {"type": "object", "properties": {}},
    }
    return {"type": Ours("function"), "function": function}


def _open(turn: Message) -> None:
    content = turn["content"]
    if isinstance(content, list):
        content[-1]["text"] = Said(content[-1]["text"] + OPEN_END)
    elif not content and "reasoning_content" in turn:
        turn["reasoning_content"] = Said(turn["reasoning_content"] + OPEN_END)
    else:
        turn["content"] = Said(content + OPEN_END)


def _text(content: Any) -> str:
    """A content in one text. Its parts are lines, as elsewhere (llama.cpp, vLLM)."""
    if isinstance(content, str):
        return content
    kind: type[str] = type(content[0]["text"])
    return kind("\n".join(part["text"] for part in content))


def _fold_system(turns: Sequence[Message]) -> list[Message]:
    """Puts instructions at the head of the next user's turn, as Gemma 3 and Mistral have it."""
    folded: list[Message] = []
    instructions: list[str] = []
    for turn in turns:
        if turn["role"] in ("system", "developer"):
            instructions.append(_text(turn["content"]))
        elif turn["role"] == "user" and instructions:
            text = joined("\n\n", [*instructions, _text(turn["content"])])
            folded.append({**turn, "content": text})
            instructions = []
        else:
            folded.append(turn)
    if instructions:
        folded.append({"role": Ours("user"), "content": joined("\n\n", instructions)})
    return folded


def _in_order_of_calls(turns: Sequence[Message], *, named: bool) -> list[Message]:
    """Results as they were asked for: where no id is shown, only the order tells whose they are.

    `named`: they get the function's name, if they have none.
    """
    ordered: list[Message] = []
    at = 0
    while at < len(turns):
        turn = turns[at]
        ordered.append(turn)
        at += 1
        calls = turn.get("tool_calls")
        if not calls:
            continue
        order = {call["id"]: number for number, call in enumerate(calls)}
        results = _results(turns, at)
        at += len(results)
        # Results of no call stay where they are, among the last.
        results = sorted(results, key=lambda r: order.get(r.get("tool_call_id"), len(order)))
        for result in results:
            number = order.get(result.get("tool_call_id"))
            name = None if number is None or not named else calls[number]["function"]["name"]
            ordered.append({"name": name, **result} if name else result)
    return ordered


def _one_call_each(turns: Sequence[Message]) -> list[Message]:
    """Several calls of one message as one message each, with its result behind it."""
    apart: list[Message] = []
    at = 0
    while at < len(turns):
        turn = turns[at]
        at += 1
        calls = turn.get("tool_calls", ())
        if len(calls) < 2:
            apart.append(turn)
            continue
        results = _results(turns, at)
        at += len(results)
        for number, call in enumerate(calls):
            said = turn if number == 0 else {"role": turn["role"], "content": Said("")}
            apart.append({**said, "tool_calls": [call]})
            mine = [r for r in results if r.get("tool_call_id") == call["id"]]
            apart += mine
            results = [r for r in results if r not in mine]
        apart += results
    return apart


def _with_tool_responses(turns: Sequence[Message]) -> list[Message]:
    """Results as a field of the message that called, and the answer as its content."""
    merged: list[Message] = []
    at = 0
    while at < len(turns):
        turn = turns[at]
        at += 1
        calls = turn.get("tool_calls")
        if not calls:
            merged.append(turn)
            continue
        results = _results(turns, at)
        at += len(results)
        names = {call["id"]: call["function"]["name"] for call in calls}
        responses = [
            {
                "name": result.get("name") or names.get(result.get("tool_call_id"), ""),
                "response": _parsed(_text(result["content"])),
            }
            for result in results
        ]
        whole = {**turn, "tool_responses": responses} if responses else turn
        answered = at < len(turns) and turns[at]["role"] == "assistant"
        if responses and answered and "tool_calls" not in turns[at] and not turn["content"]:
            whole = {**whole, "content": turns[at]["content"]}
            at += 1
        merged.append(whole)
    return merged


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _results(turns: Sequence[Message], at: int) -> list[Message]:
    """The results that begin here."""
    end = at
    while end < len(turns) and turns[end]["role"] == "tool":
        end += 1
    return list(turns[at:end])


def _shaped(turn: Message, traits: Traits) -> Message:
    """Thoughts and content where the template reads them."""
    shaped = dict(turn)
    thoughts = shaped.pop("reasoning_content", None)
    if thoughts is not None:
        for name in traits.thoughts:
            shaped[name] = thoughts
        if "tool_calls" in shaped and not traits.calls_with_both:
            del shaped["content"]
    if "content" in shaped:
        takes = traits.content.get(shaped["role"], Content())
        shaped["content"] = _content(shaped["content"], takes)
        if traits.thinking_parts and shaped["role"] == "assistant":
            shaped["content"] = _with_thinking(shaped["content"], thoughts)
    return shaped


def _content(content: Any, takes: Content) -> Any:
    if isinstance(content, str):
        return content if takes.text else [_part(content)]
    return content if takes.parts else _text(content)


def _with_thinking(content: Any, thoughts: str | None) -> Any:
    if thoughts is None:
        return content
    parts: Iterable[Message] = [_part(content)] if isinstance(content, str) else content
    thinking = {"type": Ours("thinking"), "thinking": thoughts}
    # What is only thought has no text after it.
    return [thinking, *(part for part in parts if part["text"])]
