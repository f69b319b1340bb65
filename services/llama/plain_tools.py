"""Tools for a template without a place for them: an instruction, and calls as JSON. Pure.

The model is asked to answer with a JSON object of a name and arguments for a call, an array of
such for several; past calls look the same. What it answers is read by the plain JSON format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from services.llama import formats
from services.llama.formats import Format
from services.llama.marks import Ours, Said, joined, woven
from services.llama.template_traits import Message

_INSTRUCTION = """\
You can call functions. These are available, each described by a JSON object:

{tools}

To call one, answer with nothing but a JSON object of this form:
{{"name": "<name of the function>", "arguments": {{<its arguments>}}}}
To call several, answer with an array of such objects. If no function helps, answer as usual."""


def with_instruction(turns: Sequence[Message], tools: Sequence[Message]) -> list[Message]:
    """The instruction joins the first system message, or becomes it."""
    listed = "\n".join(_json(tool["function"]) for tool in tools)
    instruction = _INSTRUCTION.format(tools=listed)
    if turns and turns[0]["role"] in ("system", "developer"):
        said = turns[0]["content"]
        text = said if isinstance(said, str) else "\n".join(part["text"] for part in said)
        return [{**turns[0], "content": joined("\n\n", (text, instruction))}, *turns[1:]]
    return [{"role": Ours("system"), "content": instruction}, *turns]


def told(
    turns: Sequence[Message], *, calls: bool, results: bool, family: Format | None = None
) -> list[Message]:
    """Calls as the text that the model would have written, results as the user's next turn.

    `family` is how it writes calls; None: as the instruction says.
    """
    plain: list[Message] = []
    names: dict[str, str] = {}
    # Whether the last turn is results: several are one turn, with what the user says then, because
    # templates may insist that roles alternate.
    behind = False
    for turn in turns:
        names |= {call["id"]: call["function"]["name"] for call in turn.get("tool_calls", ())}
        is_result = results and turn["role"] == "tool"
        made = turn
        if is_result:
            name = turn.get("name") or names.get(turn.get("tool_call_id", ""), "a function")
            told_as = joined("\n", (f"Result of {name}:", _text(turn)))
            made = {"role": Ours("user"), "content": told_as}
        elif calls and turn.get("tool_calls"):
            made = {**turn, "content": _calls(turn, family)}
            del made["tool_calls"]
        if behind and made["role"] == "user":
            made = {**made, "content": joined("\n\n", (plain.pop()["content"], _text(made)))}
        behind = is_result
        plain.append(made)
    return plain


def _calls(turn: Message, family: Format | None) -> str:
    calls = [(c["function"]["name"], _arguments(c)) for c in turn["tool_calls"]]
    pieces = formats.written(family, calls) if family is not None else None
    said = _text(turn)
    if pieces is not None:
        own = (Ours(text) if ours else Said(text) for text, ours in pieces)
        return woven([Said(said), *own])
    told_as = [{"name": name, "arguments": arguments} for name, arguments in calls]
    written = _json(told_as[0] if len(told_as) == 1 else told_as)
    return Said(f"{said}\n\n{written}" if said else written)


def _arguments(call: Message) -> Mapping[str, Any]:
    arguments = call["function"]["arguments"]
    found: Mapping[str, Any] = json.loads(arguments) if isinstance(arguments, str) else arguments
    return found


def _text(turn: Message) -> str:
    content = turn["content"]
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
