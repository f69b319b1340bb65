"""Scores the demo model on held-out phrasings and values, and prints a table.

    python -m models.demo.evaluate --gguf models/caravan-demo.gguf           # through the llama_cpp bindings
    python -m models.demo.evaluate --base-url http://127.0.0.1:8000/v1       # through any server with OpenAI's API

Exit status 1 if a category is below its threshold.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cases import Case, cases
from .chat import Chat, dumps

FACTS, CALLS, OTHER = 95.0, 90.0, 85.0
THRESHOLDS = {
    "capitals": FACTS,
    "colours and opposites": FACTS,
    "other facts": FACTS,
    "sums": FACTS,
    "echo": FACTS,
    "statements": FACTS,
    "tool calls: known tools, new values": CALLS,
    "tool calls: unknown tools": CALLS,
}

# What the model must reach, by the categories that it is measured on together.
BARS = {
    "facts": (("capitals", "colours and opposites", "other facts", "sums"), FACTS),
    "echo": (("echo", "statements"), FACTS),
    "tool calls, new phrasings and values": (
        ("tool calls: known tools, new values", "two calls at once"),
        CALLS,
    ),
}


def wire(chat: Chat) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The conversation in OpenAI's shape: call ids, arguments as text."""
    messages, ids = [], []
    for message in chat.messages:
        sent = {"role": message["role"], "content": message["content"]}
        if message.get("tool_calls"):
            ids = [f"call_{n}" for n in range(len(message["tool_calls"]))]
            sent["tool_calls"] = [
                {
                    "id": name,
                    "type": "function",
                    "function": {
                        "name": c["function"]["name"],
                        "arguments": dumps(c["function"]["arguments"]),
                    },
                }
                for name, c in zip(ids, message["tool_calls"], strict=True)
            ]
        if message["role"] == "tool":
            sent["tool_call_id"] = ids.pop(0)
        messages.append(sent)
    return messages, chat.tools


class Server:
    """A server with OpenAI's chat API."""

    def __init__(self, base_url: str, model: str, key: str, temperature: float) -> None:
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self.model, self.temperature = model, temperature

    def complete(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], think: bool
    ) -> str:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": self.temperature,
            "max_tokens": 400,
        }
        if tools:
            body["tools"] = tools
        if think:
            body["chat_template_kwargs"] = {"enable_thinking": True}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), self.headers)
        with urllib.request.urlopen(request, timeout=120) as reply:
            message = json.load(reply)["choices"][0]["message"]
        text = message.get("content") or ""
        if message.get("reasoning_content"):
            text = f"<think>\n{message['reasoning_content']}\n</think>\n\n{text}"
        for call in message.get("tool_calls") or ():
            function = call["function"]
            text += (
                '\n<tool_call>\n{"name": '
                + dumps(function["name"])
                + ', "arguments": '
                + function["arguments"]
                + "}\n</tool_call>"
            )
        return text.strip("\n")


def run(
    all_cases: list[Case], complete: Callable[..., str], show: int
) -> tuple[Counter[str], Counter[str]]:
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    for case in all_cases:
        messages, tools = wire(case.chat)
        text = complete(messages, tools, case.chat.think)
        total[case.category] += 1
        if case.check(text):
            right[case.category] += 1
        elif shown[case.category] < show:
            shown[case.category] += 1
            print(
                f"wrong [{case.category}] {messages[-1]['content']!r} -> {text!r}", file=sys.stderr
            )
    return right, total


def bars(right: Counter[str], total: Counter[str]) -> tuple[str, bool]:
    """The shares that the model must reach, a line each, and whether it does."""
    lines, good = [], True
    for name, (categories, wanted) in BARS.items():
        count = sum(total[category] for category in categories)
        if count:
            share = 100 * sum(right[category] for category in categories) / count
            good &= share >= wanted
            lines.append(f"{name}: {share:.1f} % of {count}, at least {wanted:.0f} % are asked for")
    return "\n".join(lines), good


def table(right: Counter[str], total: Counter[str]) -> str:
    """The result as a Markdown table."""
    lines = ["| category | cases | right | % | wished for |", "|---|---|---|---|---|"]
    for category, count in total.items():
        share = 100 * right[category] / count
        wanted = THRESHOLDS.get(category, OTHER)
        lines.append(f"| {category} | {count} | {right[category]} | {share:.1f} | {wanted:.0f} |")
    lines.append(
        f"| all | {total.total()} | {right.total()} | {100 * right.total() / max(1, total.total()):.1f} | |"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--gguf", type=Path)
    where.add_argument("--base-url")
    parser.add_argument("--model", default="caravan-demo")
    parser.add_argument("--key", default="none")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=200, help="cases in each big category")
    parser.add_argument("--no-tools", action="store_true", help="leave out the tool cases")
    parser.add_argument("--show", type=int, default=3, help="wrong answers to show per category")
    options = parser.parse_args()
    if options.gguf:
        from .direct import Direct  # noqa: PLC0415 - needs llama_cpp, a server's tester may not

        complete: Any = Direct(options.gguf, options.temperature).complete
    else:
        complete = Server(
            options.base_url, options.model, options.key, options.temperature
        ).complete
    wanted = [
        c for c in cases(options.seed, options.count) if not (options.no_tools and c.chat.tools)
    ]
    began = time.time()
    result = run(wanted, complete, options.show)
    reached, good = bars(*result)
    print(
        f"{table(*result)}\n\n{reached}\n\n{time.time() - began:.0f} s, temperature {options.temperature}, seed {options.seed}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
