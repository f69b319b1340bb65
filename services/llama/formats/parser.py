"""A model's text, as it comes, to content, reasoning and tool calls. See docs/formats.md.

What has come out depends on the text so far and not on how it was cut: a parser that is given the
same text again has said the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from services.llama.formats import texts
from services.llama.formats.answer import Answer
from services.llama.formats.channels import Messages
from services.llama.formats.description import Format
from services.llama.formats.events import Event, Parsed
from services.llama.formats.output import Output
from services.llama.formats.reader import Reader
from services.llama.formats.schemas import Tool

Reason = Literal["stop", "length"]


class Parser:
    """Reads one choice's text. No text makes it fail."""

    def __init__(
        self,
        family: Format,
        tools: Sequence[Tool] = (),
        *,
        reasoning: bool = True,
        prompt: str = "",
    ) -> None:
        """`tools` are those that may be called; without any, markers of calls are content.

        `reasoning`: whether thoughts are told apart; else they and their markers are content.
        `prompt` is what the template wrote behind the last message: the opening of the turn, and of
        the reasoning if it is forced; with it the beginning of an answer that is to be continued.
        Nothing of a user may be in it.
        """
        channels = family.channels
        begun = texts.behind_start(channels, prompt) if channels is not None else ""
        # Places are those of the model's own text.
        self._reader = Reader(before=len(begun))
        self._output = Output(tools)
        self._done = False
        wanted = {"tools": bool(tools), "reasoning": reasoning}
        if channels is not None:
            self._steps = Messages(self._reader, self._output, family, **wanted).run()
        else:
            opened = texts.reasoning_open(family, prompt)
            wrapper = texts.wrapper_open(family, prompt)
            self._steps = Answer(self._reader, self._output, family, **wanted).run(opened, wrapper)
        next(self._steps)
        self.feed(begun)

    @property
    def calls(self) -> int:
        """Calls that have begun."""
        return self._output.calls

    @property
    def thinking(self) -> str:
        """In the midst of thoughts: the text that would end them. Else ""."""
        return self._output.thinking

    @property
    def settled(self) -> int:
        """Characters of the model's text of which it is certain what they are."""
        return self._reader.settled

    def ended_thoughts(self, end: str) -> None:
        """`end`, just fed, was not the model's: it may write it itself where it would have.

        That is then no content, as it would not have been.
        """
        self._output.late = end

    def feed(self, text: str) -> list[Event]:
        """What became certain with more text."""
        if text and not self._done:
            self._reader.add(text)
            next(self._steps)
        return self._output.take()

    def finish(self, reason: Reason = "stop") -> list[Event]:
        """The rest. "length": the model had more to say, and what is open stays open."""
        if not self._done:
            self._done = True
            self._reader.ended = True
            self._reader.cut_off = reason == "length"
            for _ in self._steps:
                pass
        return self._output.take()


def parse(
    family: Format,
    text: str,
    tools: Sequence[Tool] = (),
    *,
    reasoning: bool = True,
    prompt: str = "",
    reason: Reason = "stop",
) -> Parsed:
    """A whole text at once; as Parser."""
    parser = Parser(family, tools, reasoning=reasoning, prompt=prompt)
    parsed = Parsed()
    parsed.add(parser.feed(text))
    parsed.add(parser.finish(reason))
    return parsed
