"""`python -m bench.parse_overhead`: what reading an answer costs for each token.

All that a sequence does with a token's bytes: UTF-8, tool calls and reasoning, stop strings, the
search for what triggers a constraint, and what is said is taken after each. A long output comes in
pieces of 1 to 8 characters, 4 on average; the thread's CPU time is divided by their number. The bar
is 30 µs a token.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from statistics import median

from bench.conditions import conditions, describe, load_average
from services.llama.formats import Tool, by_name, trigger
from services.llama.reading import AnswerText, RawText, Reading
from services.llama.trigger import Trigger

_WORDS = ("the", "model", "says", "a < b,", "and so on:", "(see [1])", "`code`", "there.\n\n")
_WITHOUT_TOOLS = "content, no tools"
_STOPS = ("\n\nUser:", "END")
_TOOLS = (Tool("run", {"type": "object", "properties": {"code": {"type": "string"}}}),)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status; 1 when a median is above the bar."""
    parser = argparse.ArgumentParser(prog="python -m bench.parse_overhead", description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="measured runs, after a dropped one")
    parser.add_argument("--tokens", type=int, default=20_000, help="per run")
    parser.add_argument("--bar", type=float, default=30.0, metavar="US")
    args = parser.parse_args(argv)
    seen = conditions()
    rows: list[tuple[str, str, float, float]] = []
    for family, kind, text in _outputs(args.tokens):
        pieces = _pieces(text.encode())
        tools = () if kind == _WITHOUT_TOOLS else _TOOLS
        costs = [_cost(family, tools, pieces) for _ in range(args.runs + 1)][1:]
        rows.append((family, kind, median(costs), max(costs)))
    seen["load_average_after"] = load_average()
    print(describe(seen))
    print("\n| family | output | µs a token, median | worst run |\n|---|---|---|---|")
    for family, kind, middle, worst in rows:
        print(f"| {family} | {kind} | {middle:.2f} | {worst:.2f} |")
    return 1 if max(row[2] for row in rows) > args.bar else 0


def _outputs(tokens: int) -> list[tuple[str, str, str]]:
    """Family, what it is, text."""
    prose = _prose(tokens * 4)
    code = json.dumps({"code": prose})
    m3 = "]<]minimax[>["
    return [
        ("", "raw text", prose),
        ("hermes", _WITHOUT_TOOLS, prose),
        ("hermes", "content", prose),
        ("hermes", "reasoning", f"<think>\n{prose}"),
        ("hermes", "a call", f'<tool_call>\n{{"name": "run", "arguments": {code}}}\n</tool_call>'),
        (
            "hermes",
            "many small calls",
            '<tool_call>\n{"name": "run", "arguments": {"code": "x = 1"}}\n</tool_call>\n'
            * (tokens * 4 // 80),
        ),
        (
            "qwen3-coder",
            "a call",
            f"<tool_call>\n<function=run>\n<parameter=code>\n{prose}\n</parameter>\n</function>",
        ),
        (
            "lfm2",
            "a call",
            f"<|tool_call_start|>[run(code={json.dumps(prose)})]<|tool_call_end|>",
        ),
        (
            "minimax-m3",
            "a call",
            f'{m3}<tool_call>\n{m3}<invoke name="run">{m3}<code>{prose}{m3}</code>{m3}</invoke>',
        ),
        (
            "solar-open",
            "a call",
            f"<|tool_calls|><|tool_call:begin|>a<|tool_call:name|>run<|tool_call:args|>{code}",
        ),
        ("llama3", "content", prose),
        ("harmony", "content", f"<|channel|>final<|message|>{prose}"),
        ("deepseek-v3.2", "content", prose),
        ("kimi-k2", "content", prose),
        ("muse-glimmer", "content", f" to=user<|message|>{prose}"),
    ]


def _prose(length: int) -> str:
    chance = random.Random(1)
    found: list[str] = []
    size = 0
    while size < length:
        word = chance.choice(_WORDS) + " "
        found.append(word)
        size += len(word)
    return "".join(found)


def _pieces(text: bytes) -> list[bytes]:
    chance = random.Random(2)
    found: list[bytes] = []
    at = 0
    while at < len(text):
        size = chance.choice((1, 2, 3, 4, 4, 5, 5, 8))
        found.append(text[at : at + size])
        at += size
    return found


def _cost(family: str, tools: tuple[Tool, ...], pieces: Sequence[bytes]) -> float:
    """Microseconds of CPU time a token. `family` "": it is no chat."""
    text: AnswerText | RawText
    search = None
    if family:
        awaited = trigger(by_name(family)) if tools else None
        search = Trigger(awaited, awaited.startswith("{")).search() if awaited else None
        text = AnswerText(Reading(by_name(family), tools), _STOPS)
    else:
        text = RawText(_STOPS)
    begun = time.thread_time()
    for piece in pieces:
        text.feed(piece)
        # From its trigger on a constraint holds, and nothing is searched for.
        if search is not None and search.feed(piece) is not None:
            search = None
        if text.news:
            text.take()
    text.finish(cut_off=False)
    return (time.thread_time() - begun) / len(pieces) * 1e6


if __name__ == "__main__":
    sys.exit(main())
