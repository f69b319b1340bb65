"""What shape of messages a chat template expects, found by rendering a few conversations. Pure.

Templates differ in what they read, and none says so. Each trait is asked by a conversation with
words that nobody writes: whether they come out, and how, is the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.llama.template import ChatTemplate, TemplateError

Message = dict[str, Any]

# Words of the probes.
_A, _B, _KEY = "qprobe1", "qprobe2", "qprobekey"
_TOOL, _OTHER = "qprobe_tool", "qprobe_other"
_RESULT, _NAME = "qproberesult", "qprobename"
# Mistral's templates take no other ids than nine letters and digits.
_IDS = ("qprobe001", "qprobe002")
# Names of the field for what the assistant thought.
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True, slots=True)
class Content:
    """What the `content` of a role's messages may be."""

    text: bool = True
    # A list of typed parts.
    parts: bool = False
    # Whether it comes out at all.
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Traits:
    """What a template expects. The defaults are what most take."""

    # By role.
    content: Mapping[str, Content] = field(default_factory=dict)
    # Whether it has a place for system messages, and knows those of a developer.
    system: bool = True
    developer: bool = False
    # Whether it shows declared tools, past calls, and several calls of one message.
    tools: bool = True
    tool_calls: bool = True
    parallel_calls: bool = True
    # Whether arguments of past calls are objects, or JSON texts.
    object_arguments: bool = True
    # Whether it fails on calls with text and thoughts, which Harmony's does.
    calls_with_both: bool = True
    # Whether it shows results of calls, and fails on those without the function's name.
    tool_results: bool = True
    named_results: bool = False
    # Whether results are messages of the role `tool`, or `tool_responses` of the one that called.
    tool_role: bool = True
    # Whether it tells which result belongs to which call by more than their order.
    tool_call_ids: bool = True
    # The fields that it reads thoughts from.
    thoughts: tuple[str, ...] = _THOUGHTS[:1]
    # Whether thoughts are parts of the content, of the type `thinking`.
    thinking_parts: bool = False


def probe(template: ChatTemplate, constants: Mapping[str, Any]) -> Traits:
    """`constants`: the BOS and EOS texts, as in every rendering."""
    return _Probes(template, constants).traits()


class _Probes:
    def __init__(self, template: ChatTemplate, constants: Mapping[str, Any]) -> None:
        self._template = template
        self._constants = constants
        # Whether contents are put into parts before they are shown.
        self._only_parts = False

    def traits(self) -> Traits:
        words = self._template.words
        thoughts = tuple(name for name in _THOUGHTS if name in words) or _THOUGHTS[:1]
        if self._try([_user()]) is None:
            # It wants something that we do not know of: nothing can be learned.
            return Traits(thoughts=thoughts)
        content = {role: self._content(role) for role in ("system", "user", "assistant", "tool")}
        self._only_parts = not content["user"].text
        object_arguments, tool_calls = self._arguments()
        return Traits(
            content=content,
            system=_A in self._render([_system(), _user()]),
            developer=self._has_developer(),
            tools=self._shows_tools(),
            tool_calls=tool_calls,
            parallel_calls=not tool_calls or self._parallel(object_arguments),
            object_arguments=object_arguments,
            tool_results=content["tool"].shown,
            named_results=self._wants_names(object_arguments),
            calls_with_both=self._calls_with_both(object_arguments, thoughts),
            tool_role=not self._wants_tool_responses(),
            tool_call_ids="tool_call_id" in words,
            thoughts=thoughts,
            thinking_parts=self._thinking_parts(),
        )

    def _try(self, messages: list[Message], **given: Any) -> str | None:
        """What comes out; None where the template refuses."""
        ours = {**self._constants, "add_generation_prompt": True}
        usual = {**dates(), **tools_elsewhere(self._template, given.get("tools", []))}
        turns = [_in_parts(turn) for turn in messages] if self._only_parts else messages
        try:
            return self._template.render({**usual, "messages": turns, **given}, ours)
        except TemplateError:
            return None

    def _render(self, messages: list[Message], **given: Any) -> str:
        return self._try(messages, **given) or ""

    def _content(self, role: str) -> Content:
        text = self._around(role, _A)
        parts = self._around(role, [_part(_A), _part(_B)])
        shown = _A in parts and _B in parts and not _shows(parts, "type", text)
        return Content(_A in text or not shown, shown, _A in text or shown)

    def _around(self, role: str, content: Any) -> str:
        """A message where it may stand; what it answers has arguments of either kind."""
        turn = {"role": role, "content": content}
        if role == "system":
            return self._render([turn, _user()])
        if role == "assistant":
            return self._render([_user(), turn, _user()])
        if role != "tool":
            return self._render([turn])
        result = {**turn, "tool_call_id": _IDS[0], "name": _NAME}
        shown = (
            self._render([_user(), _calling([_call(0, _TOOL, _wrap(as_object))]), result])
            for as_object in (True, False)
        )
        return next(filter(None, shown), "")

    def _has_developer(self) -> bool:
        """Whether it names the role itself, and not only writes out what it is given.

        DeepSeek's has one that is for its own use, and writes it into the user's turn.
        """
        shown = self._render([{"role": "developer", "content": _A}, _user()])
        return "developer" in self._template.words and _A in shown and "developer" in shown

    def _shows_tools(self) -> bool:
        tools = [_tool(_TOOL)]
        return any(
            _TOOL in self._render(messages, tools=tools)
            for messages in ([_user()], [_system(), _user()])
        )

    def _arguments(self) -> tuple[bool, bool]:
        """Whether arguments are objects, and whether calls are shown at all."""
        as_object = self._called({_KEY: _A})
        if _A in as_object and not _shows(as_object, _KEY, "", "'"):
            return True, True
        as_text = self._called(json.dumps({_KEY: _A}))
        if _A in as_text and f'\\"{_KEY}\\"' not in as_text:
            return False, True
        return True, _TOOL in as_object or _TOOL in as_text

    def _called(self, arguments: Any) -> str:
        call = _call(0, _TOOL, arguments)
        return self._render(_talk([call], [_result(0)]), tools=[_tool(_OTHER)])

    def _parallel(self, as_object: bool) -> bool:
        calls = [_call(0, _TOOL, _wrap(as_object)), _call(1, _OTHER, _wrap(as_object))]
        shown = self._render(_talk(calls, [_result(0), _result(1)]))
        return _TOOL in shown and _OTHER in shown

    def _wants_names(self, as_object: bool) -> bool:
        calls = [_call(0, _TOOL, _wrap(as_object))]
        nameless = {key: value for key, value in _result(0).items() if key != "name"}
        return (
            self._try(_talk(calls, [nameless])) is None
            and self._try(_talk(calls, [_result(0)])) is not None
        )

    def _calls_with_both(self, as_object: bool, thoughts: tuple[str, ...]) -> bool:
        calls = [_call(0, _TOOL, _wrap(as_object))]
        fields = dict.fromkeys(thoughts, _B)
        both, one = (
            self._try(_talk(calls, [_result(0)], {"content": content, **fields}))
            for content in (_A, "")
        )
        return both is not None or one is None

    def _wants_tool_responses(self) -> bool:
        words = self._template.words
        # What knows both reads messages of the role `tool`.
        return "tool_responses" in words and "tool_call_id" not in words

    def _thinking_parts(self) -> bool:
        if "thinking" not in self._template.words:
            return False
        content = [{"type": "thinking", "thinking": _B}, _part(_A)]
        turn = {"role": "assistant", "content": content}
        shown = self._render([_user(), turn, _user()])
        named = {"role": "assistant", "content": _A, **dict.fromkeys(_THOUGHTS, _B)}
        return (
            _B in shown
            and not _shows(shown, "type", "")
            and _B not in self._render([_user(), named, _user()])
        )


def dates() -> dict[str, Any]:
    """What llama.cpp tells templates of the date."""
    now = datetime.now().astimezone()
    return {"date_string": now.strftime("%d %b %Y"), "datetime": now.strftime("%b %d %Y")}


def tools_elsewhere(template: ChatTemplate, tools: list[Any]) -> dict[str, Any]:
    """Declared tools for a template that takes them by another name than `tools`."""
    if "tools" in template.variables:
        return {}
    found: dict[str, Any] = {}
    # Fireworks' name, for a JSON text.
    if "functions" in template.variables:
        functions = [tool["function"] for tool in tools]
        found["functions"] = json.dumps(functions, ensure_ascii=False) if tools else ""
    # SmolLM3's, which has another for tools that are called as Python.
    if "xml_tools" in template.variables and tools:
        found["xml_tools"] = [tool["function"] for tool in tools]
    return found


def _shows(rendered: str, key: str, beside: str, quotes: str = "'\"") -> bool:
    """Whether a mapping was written out as it is, more than in `beside`."""
    return any(rendered.count(f"{q}{key}{q}") > beside.count(f"{q}{key}{q}") for q in quotes)


def _talk(calls: list[Any], results: list[Message], more: Message | None = None) -> list[Message]:
    turn = {**_calling(calls), **(more or {})}
    return [_user(), turn, *results, {"role": "assistant", "content": "done"}, _user()]


def _calling(calls: list[Any]) -> Message:
    # Some expect the content of who calls to be empty.
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _system() -> Message:
    return {"role": "system", "content": _A}


def _user() -> Message:
    return {"role": "user", "content": "hello"}


def _in_parts(turn: Message) -> Message:
    content = turn["content"]
    return {**turn, "content": [_part(content)]} if isinstance(content, str) else turn


def _part(text: str) -> Message:
    return {"type": "text", "text": text}


def _result(at: int) -> Message:
    return {"role": "tool", "content": _RESULT, "tool_call_id": _IDS[at], "name": _NAME}


def _wrap(as_object: bool) -> Any:
    return {_KEY: _A} if as_object else json.dumps({_KEY: _A})


def _call(at: int, name: str, arguments: Any) -> Message:
    function = {"name": name, "arguments": arguments}
    return {"id": _IDS[at], "type": "function", "function": function}


def _tool(name: str) -> Message:
    schema = {
        "type": "object",
        "properties": {_KEY: {"type": "string", "description": "a text"}},
        "required": [_KEY],
    }
    function = {"name": name, "description": "a tool", "parameters": schema}
    return {"type": "function", "function": function}
