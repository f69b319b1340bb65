"""Chats through the official SDK."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from tests.compose.commands import check

CHAT_SECONDS = 60


def ask(client: openai.OpenAI, model: str) -> None:
    """One chat, whole and streamed: both end well and say the same."""
    question: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 32,
    }
    whole = client.chat.completions.create(**question)
    text = whole.choices[0].message.content or ""
    check("Paris" in text, f"the answer is {text!r}")
    check(whole.usage is not None and whole.usage.completion_tokens > 0, "the answer has no usage")
    pieces = [
        chunk for chunk in client.chat.completions.create(**question, stream=True) if chunk.choices
    ]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
    check(pieces[-1].choices[0].finish_reason is not None, "the stream has no finish_reason")
    check("Paris" in streamed, f"the streamed answer is {streamed!r}")


def ask_many(client: openai.OpenAI, model: str, count: int) -> None:
    """`count` times what `ask` does, four at a time."""
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(ask, client, model) for _ in range(count)]:
            done.result(timeout=CHAT_SECONDS * 2)
