"""What calls must look like in a format, as a Lark grammar for llguidance.

Names are those of the tools given, arguments satisfy their schemas. The schemas are given to the
library as they are: they should have been through `constrain.schema.prepare`.

Arguments between tags: texts are free but for `enum` and `const`, other values satisfy their
schema, parameters come in the declared order and no others come. Gemma's literals: likewise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from services.llama.formats.description import (
    Body,
    Calls,
    Elements,
    Format,
    Inside,
    Json,
    Literals,
    Outside,
    Tagged,
)
from services.llama.formats.lark import Lark
from services.llama.formats.schemas import Tool
from services.llama.formats.values import element_members, literal_members, tagged_members

Mode = Literal["required", "triggered"]
Thinking = Literal["none", "optional", "open"]
_ANY_SPACE = r"/[ \t\r\n]{0,4}/"


class Unsupported(Exception):  # noqa: N818 -- says what is the case, and is no fault
    """The format's calls cannot be asked for by a grammar; the message says why."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How calls are written: begin call between call … end, each with `before` and `after`.

    Texts with fields as in description; the arguments stand between `before` and `after`.
    """

    begin: str
    before: str
    after: str
    between: str
    end: str
    several: bool

    @property
    def first(self) -> str:
        """All that stands before the first call's arguments."""
        return self.begin + self.before


def shape(family: Format) -> Shape:
    """The canonical way. Raises Unsupported."""
    if family.channels is not None:
        channels = family.channels
        before = channels.calls[0].replace("{name}", channels.namespace + "{name}")
        between = channels.start[0] if channels.between is None else channels.between
        return Shape(
            channels.open, before, "".join(channels.end), between, channels.close, channels.several
        )
    if not family.calls:
        raise Unsupported(f"{family.name} has no calls")
    calls = family.calls[0]
    before, after = _around(calls)
    before, after = calls.call_open + before, after + calls.call_close
    if calls.call_open or calls.separator:
        opening, closing = ("[", "]") if calls.array else ("", "")
        return Shape(
            calls.open + opening,
            before,
            after,
            calls.separator,
            closing + calls.close,
            calls.several,
        )
    return Shape("", calls.open + before, after + calls.close, calls.again, "", calls.several)


def _around(calls: Calls) -> tuple[str, str]:
    """What stands around a call's arguments."""
    match calls.call[0]:
        case Inside() as inside:
            before, _, after = inside.example.partition("{arguments}")
            return before, after
        case Outside() as outside:
            return outside.heads[0], "".join(outside.end)


def trigger(family: Format) -> str | None:
    """The text after which nothing but a call comes; None: there is none.

    "": all of the output is constrained from its beginning, content too.
    """
    if family.channels is not None:
        channels = family.channels
        head = channels.calls[0].partition("{name}")[0] + channels.namespace
        return channels.proof or channels.open or (head if channels.heads else "")
    calls = family.calls[0]
    marker = (calls.open or calls.call_open).strip()
    if marker:
        return marker if calls.certain else None
    if isinstance(calls.call[0], Outside):
        return None
    return shape(family).first.partition("{name}")[0]


def grammar(
    family: Format,
    tools: Sequence[Tool],
    mode: Mode = "required",
    *,
    parallel: bool = True,
    thinking: Thinking = "none",
    special: Mapping[str, int] | None = None,
) -> str:
    """The grammar of calls of these tools, of at least one.

    `mode`: the whole output, or what follows the trigger. `thinking`: whether the output is, or may
    be, reasoning first. `special` are the ids of special tokens by their text: the grammar asks for
    these tokens, and not for their letters. Raises Unsupported.
    """
    lark = Lark(special or {})
    written = shape(family)
    if not tools:
        raise Unsupported("no tools")
    if mode == "triggered":
        text = trigger(family)
        if text is None:
            raise Unsupported(f"{family.name}: nothing tells calls from content in time")
        if text:
            start = _calls(lark, family, written, tools, behind=text, parallel=parallel)
        else:
            start = _messages(lark, family, written, tools)
    else:
        start = _thinking(lark, family, thinking) + _calls(
            lark, family, written, tools, behind="", parallel=parallel
        )
    lark.rule("start", start)
    return lark.text()


def with_content(
    family: Format,
    kind: str,
    tools: Sequence[Tool],
    *,
    parallel: bool,
    thinking: Thinking,
    special: Mapping[str, int],
) -> str:
    """The grammar of an answer whose content another grammar describes, the one called `kind`.

    The other arguments are those of `grammar`; with `tools` it may be calls instead. Raises
    Unsupported.
    """
    lark = Lark(special)
    content = f"@{kind}"
    if family.channels is not None:
        content = f"{lark.literal(family.channels.content[0])} {content}"
    if tools:
        calls = _calls(lark, family, shape(family), tools, behind="", parallel=parallel)
        content = f"({content} | {calls})"
    lark.rule("start", _thinking(lark, family, thinking) + content)
    return lark.text()


def _calls(
    lark: Lark,
    family: Format,
    written: Shape,
    tools: Sequence[Tool],
    *,
    behind: str,
    parallel: bool,
) -> str:
    """Calls, of which the text `behind` has been written already."""
    more = ""
    if parallel and written.several:
        # In one text with what is between: the library reads texts as long as they go, and would
        # not see that one ends where another that begins alike goes on.
        more = f"{_choice(lark, family, tools, written.between + written.before, written)}*"
    rest = written.first[written.first.index(behind) + len(behind) :]
    first = _choice(lark, family, tools, rest, written)
    return f"{first} {more} {lark.literal(written.end)}"


def _choice(lark: Lark, family: Format, tools: Sequence[Tool], before: str, written: Shape) -> str:
    """One call of any of the tools, with the text before its arguments."""
    names = []
    for tool in tools:
        head = lark.filled(before, name=tool.name)
        behind = lark.filled(written.after)
        names.append(lark.rule("", f"{head} {_arguments(lark, family, tool)} {behind}"))
    return lark.rule("", " | ".join(names))


def _arguments(lark: Lark, family: Format, tool: Tool) -> str:
    match body_of(family):
        case Json():
            parameters = {"type": "object", **tool.parameters}
            return lark.json(parameters)
        case Tagged() as body:
            return tagged_members(lark, body, tool)
        case Elements() as body:
            return element_members(lark, body, tool)
        case Literals() as body:
            return literal_members(lark, body, tool)


def body_of(family: Format) -> Body:
    """How arguments are written."""
    if family.channels is not None:
        return family.channels.body
    call = family.calls[0].call[0]
    return call.body if isinstance(call, Outside) else Json()


def _thinking(lark: Lark, family: Format, thinking: Thinking) -> str:
    if thinking == "none":
        return ""
    if family.channels is not None:
        if not family.channels.reasoning:
            return ""
        end = family.channels.ends[0] + family.channels.start[0]
        opening = lark.literal(family.channels.reasoning[0])
        inner = lark.until(end)
        return f"({opening} {inner})? " if thinking == "optional" else f"{inner} "
    if not family.reasoning:
        return ""
    pair = family.reasoning[0]
    inner = f"{lark.until(pair.close.strip())} {_ANY_SPACE}"
    if thinking == "open":
        return f"{inner} "
    return f"({lark.literal(pair.open.strip())} {inner})? "


def _messages(lark: Lark, family: Format, written: Shape, tools: Sequence[Tool]) -> str:
    """A message of content and then calls, or either alone."""
    assert family.channels is not None
    call = _choice(lark, family, tools, written.before, written)
    more = _choice(lark, family, tools, written.between + written.before, written)
    content = lark.literal(family.channels.content[0])
    text = lark.until(written.between)
    return f"{content} {text} {call} {more}* | {content} {lark.anything()} | {call} {more}*"


def example(family: Format, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """A text with these calls where arguments are JSON. Raises Unsupported where they are not."""
    written = shape(family)
    if not isinstance(body_of(family), Json):
        raise Unsupported(f"{family.name}: arguments are no JSON")
    texts = []
    for at, (name, arguments) in enumerate(calls):
        before = written.before.replace("{name}", name).replace("{index}", str(at))
        before = before.replace("{id}", f"{at:09}").replace("{code}", f"{at:010}")
        texts.append(before + json.dumps(arguments, ensure_ascii=False) + written.after)
    return written.begin + written.between.join(texts) + written.end
