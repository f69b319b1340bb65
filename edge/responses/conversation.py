"""Items as the messages of a chat: thoughts, text and calls of one turn become one message. Pure.

Outputs of calls follow the turn of their calls wherever they stand among the items, which is where
templates want them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.errors import invalid
from edge.openai.messages import (
    AssistantMessage,
    AssistantToolCall,
    AudioPart,
    FilePart,
    FunctionCall,
    ImagePart,
    ImageUrl,
    Message,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from edge.responses.item_models import (
    AssistantItem,
    FunctionCallItem,
    FunctionCallOutputItem,
    InputFile,
    InputImage,
    InputText,
    OutputText,
    PlainItem,
    ReasoningItem,
    SystemItem,
    UserItem,
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages, and the places among the items of what each of them was made of."""

    messages: list[Message]
    # None: the instructions.
    places: list[int | None]
    # Of the calls in each.
    calls: list[list[int]]


def check_calls(items: Sequence[PlainItem]) -> None:
    """Every output needs its call, and every call its output. Raises ApiError 400.

    Calls that were cut off before their arguments were whole need none.
    """
    calls: set[str] = set()
    outputs = {item.call_id for item in items if isinstance(item, FunctionCallOutputItem)}
    for item in items:
        if isinstance(item, FunctionCallItem):
            calls.add(item.call_id)
            if item.call_id not in outputs and item.status != "incomplete":
                raise invalid(f"No tool output found for function call {item.call_id}.", "input")
        elif isinstance(item, FunctionCallOutputItem) and item.call_id not in calls:
            raise invalid(
                f"No tool call found for function call output with call_id {item.call_id}.",
                "input",
            )


def conversation(items: Sequence[PlainItem], instructions: str | None) -> Conversation:
    """The chat that these items are. `check_calls` found nothing wrong with them."""
    made = Conversation([], [], [])
    if instructions:
        _add(made, SystemMessage.model_construct(role="system", content=instructions), None)
    turns = _Turns(made, items)
    for place, item in enumerate(items):
        match item:
            case SystemItem():
                turns.end()
                content = [_part(part) for part in _listed(item.content)]
                message = SystemMessage.model_construct(role=item.role, content=_short(content))
                _add(made, message, place)
            case UserItem():
                turns.end()
                content = [_part(part) for part in _listed(item.content)]
                _add(made, UserMessage.model_construct(role="user", content=_short(content)), place)
            case AssistantItem():
                turns.text(item, place)
            case ReasoningItem():
                turns.thought(item)
            case FunctionCallItem():
                turns.call(item, place)
            case FunctionCallOutputItem():
                turns.end()
    turns.end()
    return made


def _add(
    made: Conversation, message: Message, place: int | None, calls: Sequence[int] = ()
) -> None:
    made.messages.append(message)
    made.places.append(place)
    made.calls.append(list(calls))


@dataclass(slots=True)
class _Turn:
    """What an assistant said in one go; `place` is that of its first item, `places` of its calls."""

    place: int
    content: list[Any] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[FunctionCallItem] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


class _Turns:
    """The turns of the assistant. State: the one that is open, and thoughts that wait for one."""

    def __init__(self, made: Conversation, items: Sequence[PlainItem]) -> None:
        self._made = made
        self._open: _Turn | None = None
        self._thoughts: list[str] = []
        self._outputs: dict[str, list[tuple[int, FunctionCallOutputItem]]] = {}
        for place, item in enumerate(items):
            if isinstance(item, FunctionCallOutputItem):
                self._outputs.setdefault(item.call_id, []).append((place, item))

    def thought(self, item: ReasoningItem) -> None:
        """Belongs to the text or the call that follows it."""
        parts = [part.text for part in item.content or ()] or [part.text for part in item.summary]
        self._thoughts.extend(part for part in parts if part)

    def text(self, item: AssistantItem, place: int) -> None:
        """A second text is a second turn, unless calls of the first still want their outputs."""
        if self._open is not None and not self._open.calls:
            self.end(keep_thoughts=True)
        turn = self._turn(place)
        if isinstance(item.content, str):
            turn.content.append(TextPart.model_construct(type="text", text=item.content))
            return
        for part in item.content:
            if isinstance(part, RefusalPart):
                turn.content.append(part)
            elif isinstance(part, OutputText):
                turn.content.append(TextPart.model_construct(type="text", text=part.text))

    def call(self, item: FunctionCallItem, place: int) -> None:
        """A call that was cut off was never made, unless somebody answered it."""
        if item.status == "incomplete" and item.call_id not in self._outputs:
            return
        turn = self._turn(place)
        turn.calls.append(item)
        turn.places.append(place)

    def end(self, *, keep_thoughts: bool = False) -> None:
        """Says the open turn and the outputs of its calls."""
        turn, self._open = self._open, None
        if not keep_thoughts:
            # Nothing came of them.
            self._thoughts.clear()
        if turn is None:
            return
        calls = [
            AssistantToolCall.model_construct(
                id=call.call_id,
                type="function",
                function=FunctionCall.model_construct(name=call.name, arguments=call.arguments),
            )
            for call in turn.calls
        ]
        message: Message = AssistantMessage.model_construct(
            role="assistant",
            content=_short(turn.content) if turn.content or not calls else None,
            tool_calls=calls or None,
            reasoning_content="\n".join(turn.thoughts) or None,
        )
        _add(self._made, message, turn.place, turn.places)
        for call in turn.calls:
            for place, output in self._outputs.pop(call.call_id, ()):
                content = [_part(part) for part in _listed(output.output)]
                message = ToolMessage.model_construct(
                    role="tool", content=_short(content), tool_call_id=call.call_id
                )
                _add(self._made, message, place)

    def _turn(self, place: int) -> _Turn:
        if self._open is None:
            self._open = _Turn(place)
        self._open.thoughts.extend(self._thoughts)
        self._thoughts.clear()
        return self._open


def _listed(content: str | Sequence[Any]) -> Sequence[Any]:
    if isinstance(content, str):
        return [InputText.model_construct(type="input_text", text=content)]
    return content


def _short(content: list[Any]) -> Any:
    """One text is a string, which is what most templates know best."""
    if len(content) == 1 and isinstance(content[0], TextPart):
        return content[0].text
    return content or ""


def _part(part: Any) -> Any:
    match part:
        case InputText() | OutputText():
            return TextPart.model_construct(type="text", text=part.text)
        case InputImage():
            # Without a URL it is one that cannot be read, which is said where others are.
            url = ImageUrl.model_construct(url=part.image_url or "", detail=part.detail)
            return ImagePart.model_construct(type="image_url", image_url=url)
        case AudioPart():
            return part
        case InputFile():
            return FilePart.model_construct(
                type="file", file=part.model_dump(exclude_none=True, exclude={"type"})
            )
    raise AssertionError(type(part))
