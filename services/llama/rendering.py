"""One chat template at work: a conversation in, the prompt with marks out. Pure but for the date."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from protos.inference.v1 import inference_pb2 as pb
from services.llama import conversation
from services.llama.formats import Format, detect
from services.llama.marks import OPEN_END, Said
from services.llama.template import ChatTemplate, TemplateError
from services.llama.template_traits import Message, Traits, dates, probe, tools_elsewhere

# How templates name the switch that is `enable_thinking` elsewhere: their variable, and its values
# for thinking and for not.
_SWITCHES: Mapping[str, tuple[Any, Any]] = {
    "thinking": (True, False),
    # Without it MiniMax thinks as it likes, which "enabled" does not allow.
    "thinking_mode": (None, "disabled"),
    "thinking_budget": (None, 0),
}
# Names of what is `reasoning_effort` elsewhere.
_EFFORTS = ("reasoning_effort", "reasoning_strength")
# Kimi K3's name, and its word for what is asked for; it raises for any other.
_LEVELS: Mapping[str, Mapping[str, str]] = {
    "thinking_effort": {
        **dict.fromkeys(("minimal", "low"), "low"),
        **dict.fromkeys(("medium", "high"), "high"),
        **dict.fromkeys(("xhigh", "max"), "max"),
    }
}
# Names of what llama.cpp calls `preserve_reasoning`, thoughts of earlier turns, and their values
# where these are kept.
_PRESERVE = {
    "preserve_thinking": True,
    "clear_thinking": False,
    "truncate_history_thinking": False,
    "drop_thinking": False,
}
# The marks around thoughts, as generation prompts write them.
_MARKS = (
    ("<think>", "</think>"),
    ("<think:opensource>", "</think:opensource>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<|channel>thought\n", "<channel|>"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
)
_LONGEST_MARK = max(len(opens) for opens, _ in _MARKS)
# What generation prompts may lack: the end of a turn, and the beginning of the model's.
_LEFT_OUT = {"<turn|>\n": "<|turn>model\n"}


@dataclass(frozen=True, slots=True)
class _Begun:
    """What the end of a generation prompt says of the model's thoughts."""

    # Where it begins to; the prompt's length if it says nothing.
    at: int
    # The marks, and whether only the first is there.
    opens: str = ""
    closes: str = ""
    open: bool = False


def _common(one: str, other: str) -> int:
    """Characters that both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _begun(prompt: str, at: int) -> _Begun:
    """`at`: where the generation prompt begins."""
    for opens, closes in _MARKS:
        place = prompt.find(opens, at)
        if place >= 0:
            return _Begun(place, opens, closes, closes not in prompt[place:])
    return _Begun(len(prompt))


class Renderer:
    """A template and what it expects. Safe to use from any thread."""

    def __init__(self, source: str, special: Iterable[str], constants: Mapping[str, str]) -> None:
        """`special`: texts of the control tokens; `constants`: `bos_token` and `eos_token`.

        Raises TemplateError when it does not compile.
        """
        special = frozenset(special)
        self.template = ChatTemplate(source, special)
        self.traits: Traits = probe(self.template, constants)
        self._constants = constants
        # What the model writes.
        self.family: Format = detect(source, special)
        # All that it may write.
        self._written = "\0".join(self.template.texts | self.template.words)

    def render(self, chat: pb.ChatInput) -> str:
        """The prompt, with marks. Raises TemplateError."""
        turns = conversation.messages(chat, self.traits, self.family)
        if chat.continue_final_message:
            return self._continued(chat, turns)
        add = not chat.HasField("add_generation_prompt") or chat.add_generation_prompt
        rendered = self._render(chat, turns, add_prompt=add)
        if add:
            # Gemma 4's leaves this out behind calls with a text.
            for closed, opened in _LEFT_OUT.items():
                if rendered.endswith(closed) and opened in rendered:
                    return rendered + opened
        return rendered

    def _continued(self, chat: pb.ChatInput, turns: list[Message]) -> str:
        """The last turn left open: as the template writes it, behind its generation prompt.

        Where that prompt is more than the beginning of a turn (it opens the thoughts, or an empty
        pair of their marks says that there are none), what the model would have seen is both.
        """
        prompt = self._render(chat, turns[:-1], add_prompt=True)
        without = self._render(chat, turns[:-1], add_prompt=False)
        try:
            whole = self._render(chat, turns, add_prompt=False)
        except TemplateError:
            whole = ""
        written, found, _ = whole.rpartition(OPEN_END)
        # Some add the generation prompt whatever they are told; then it is where the two part, or
        # a mark that begins alike before.
        at = _common(prompt, without)
        if at == len(prompt):
            at = max(0, _common(prompt, written) - _LONGEST_MARK)
        begun = _begun(prompt, at)
        last = chat.messages[-1]
        thoughts = self.template.protect(Said(last.reasoning))
        text = "\n".join(part.text for part in last.content)
        if found and written.startswith(prompt):
            wanted = begun.closes if begun.open and text else ""
            if wanted in written[len(prompt) :]:
                return written
        if thoughts and not text:
            return self._thinking_on(prompt, begun, thoughts)
        if found and not thoughts and written.startswith(prompt[: begun.at]):
            rest = written[begun.at :].removeprefix(begun.opens).lstrip("\n")
            rest = rest.removeprefix(begun.closes)
        else:
            rest = self.template.protect(Said(text))
        if begun.open:
            # On lines of their own where the opening is.
            lines = prompt.endswith("\n")
            prompt += thoughts + (f"\n{begun.closes}\n\n" if lines else begun.closes)
        return prompt + (rest.lstrip() if prompt[-1:].isspace() else rest)

    def _thinking_on(self, prompt: str, begun: _Begun, thoughts: str) -> str:
        """Thoughts to be continued; of a template without a place for them nothing is."""
        if begun.open:
            return prompt + thoughts
        opens = begun.opens or next((o for o, _ in _MARKS if o in self._written), "")
        return prompt[: begun.at] + opens + thoughts if opens else prompt

    def _render(self, chat: pb.ChatInput, turns: list[Message], *, add_prompt: bool) -> str:
        ours = {**self._constants, "add_generation_prompt": add_prompt, **self._thinking(chat)}
        return self.template.render({**self._given(chat), "messages": turns}, ours)

    def _given(self, chat: pb.ChatInput) -> dict[str, Any]:
        given = {**dates(), **conversation.template_args(chat)}
        preserve = given.get("preserve_reasoning")
        if isinstance(preserve, bool):
            given = {name: preserve == keeps for name, keeps in _PRESERVE.items()} | given
        tools = conversation.tools(chat)
        if "functions" not in given:
            given |= tools_elsewhere(self.template, tools)
        if tools and self.traits.tools:
            given["tools"] = tools
        if chat.documents_json:
            given["documents"] = conversation.documents(chat)
        if chat.reasoning_effort and not self._is_off(chat.reasoning_effort):
            given |= dict.fromkeys(_EFFORTS, chat.reasoning_effort)
            given = self._levels(chat.reasoning_effort) | given
        return given

    def _levels(self, effort: str) -> dict[str, str]:
        """The effort for a template that has another name and other words for it."""
        return {
            name: words[effort]
            for name, words in _LEVELS.items()
            if name in self.template.variables and effort in words
        }

    def _is_off(self, effort: str) -> bool:
        """Whether this effort is no word of the template's, but OpenAI's for not thinking."""
        return effort == "none" and "none" not in self.template.words

    def _thinking(self, chat: pb.ChatInput) -> dict[str, Any]:
        """The switch, by the name that the template knows; nothing: its own default."""
        enabled = conversation.template_args(chat).get("enable_thinking")
        if chat.HasField("enable_thinking"):
            enabled = chat.enable_thinking
        elif enabled is None and self._is_off(chat.reasoning_effort):
            enabled = False
        if not isinstance(enabled, bool):
            return {}
        switch: dict[str, Any] = {"enable_thinking": enabled}
        if "enable_thinking" not in self.template.variables:
            for name, (on, off) in _SWITCHES.items():
                value = on if enabled else off
                if name in self.template.variables and value is not None:
                    switch[name] = value
        return switch
