"""How a conversation becomes text, in Python: the same text as template.jinja, cut into learnt and given pieces.

A conversation is a list of messages in OpenAI's shape. Tests compare `render` with the template.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Message = dict[str, Any]
TEMPLATE = Path(__file__).with_name("template.jinja")
THINK_LINE = "Think first."


@dataclass
class Chat:
    """One conversation; with `think`, the last answer begins with a thought and is the only one learnt."""

    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    think: bool = False

    def user(self, text: str) -> Chat:
        self.messages.append({"role": "user", "content": text})
        return self

    def system(self, text: str) -> Chat:
        self.messages.append({"role": "system", "content": text})
        return self

    def answer(self, text: str, thought: str = "") -> Chat:
        self.messages.append({"role": "assistant", "content": text, "thought": thought})
        return self

    def call(self, calls: list[tuple[str, dict[str, Any]]], thought: str = "") -> Chat:
        made = [
            {"type": "function", "function": {"name": name, "arguments": args}}
            for name, args in calls
        ]
        self.messages.append(
            {"role": "assistant", "content": None, "tool_calls": made, "thought": thought}
        )
        return self

    def result(self, text: str) -> Chat:
        self.messages.append({"role": "tool", "content": text})
        return self


def tool_line(tool: dict[str, Any]) -> str:
    """A declared tool in one short JSON line: name, description, and each parameter's type or choices."""
    function = tool.get("function", tool)
    parts = ['{"name": ' + dumps(function["name"])]
    if function.get("description"):
        parts.append(', "description": ' + dumps(function["description"]))
    properties = (function.get("parameters") or {}).get("properties") or {}
    shown = [
        f"{dumps(name)}: {dumps(p['enum'] if p.get('enum') else p.get('type') or 'any')}"
        for name, p in properties.items()
    ]
    parts.append(', "parameters": {' + ", ".join(shown) + "}}")
    return "".join(parts)


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def call_text(calls: list[dict[str, Any]]) -> str:
    lines = []
    for call in calls:
        function = call["function"]
        arguments = function["arguments"]
        text = arguments if isinstance(arguments, str) else dumps(arguments)
        lines.append(
            '<tool_call>\n{"name": '
            + dumps(function["name"])
            + ', "arguments": '
            + text
            + "}\n</tool_call>"
        )
    return "\n".join(lines)


def render(chat: Chat) -> list[tuple[str, bool]]:
    """The conversation's text in pieces (text, learnt): answers and their end marks are learnt, the rest is given."""
    pieces: list[tuple[str, bool]] = []
    messages = chat.messages
    head = (
        [messages[0]["content"]]
        if messages[0]["role"] == "system" and messages[0]["content"]
        else []
    )
    if chat.tools:
        head.append(
            "You can call these tools:\n<tools>\n"
            + "\n".join(map(tool_line, chat.tools))
            + "\n</tools>"
        )
    if chat.think:
        head.append(THINK_LINE)
    if head:
        pieces.append(("<|im_start|>system\n" + "\n".join(head) + "<|im_end|>\n", False))
    for i, message in enumerate(messages):
        role, last = message["role"], i == len(messages) - 1
        if role == "system":
            continue
        if role == "user":
            pieces.append((f"<|im_start|>user\n{message['content']}<|im_end|>\n", False))
        elif role == "tool":
            opens = messages[i - 1]["role"] != "tool"
            closes = last or messages[i + 1]["role"] != "tool"
            text = "<|im_start|>user" if opens else ""
            text += f"\n<tool_response>\n{message['content']}\n</tool_response>"
            pieces.append((text + ("<|im_end|>\n" if closes else ""), False))
        else:
            pieces.append(("<|im_start|>assistant\n", False))
            body = message["content"] or ""
            if message.get("tool_calls"):
                body += ("\n" if body else "") + call_text(message["tool_calls"])
            if chat.think and last:
                body = f"<think>\n{message['thought']}\n</think>\n\n{body}"
            pieces.append((body + "<|im_end|>", last or not chat.think))
            pieces.append(("\n", False))
    return pieces
