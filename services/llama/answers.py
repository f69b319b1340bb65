"""How a chat's answer is read, and what it must look like. Pure but for compiling grammars."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from protos.inference.v1 import inference_pb2 as pb
from services.llama import formats
from services.llama.constrain import Constraints, check_schema
from services.llama.conversation import may_be_called
from services.llama.formats import Format, Thinking, Tool
from services.llama.interface import Grammar, Vocabulary
from services.llama.prompt import Prompt
from services.llama.reading import AnswerText, Reading
from services.llama.trigger import Trigger
from services.worker.errors import InvalidField, Unsupported

_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


def expected(
    request: pb.GenerateRequest,
    prompt: Prompt,
    constraints: Constraints | None,
    vocabulary: Vocabulary,
) -> tuple[Grammar | None, Reading | None, frozenset[int]]:
    """What the answer must look like, how it is read, and which tokens end it beside the usual.

    May take some milliseconds, 2 s at the worst. Raises InvalidField, Unsupported.
    """
    if prompt.family is None:
        grammar = None
        if request.HasField("constraint") and constraints is not None:
            grammar = constraints.compile(request.constraint)
        return grammar, None, prompt.ends
    special = vocabulary.special
    ends = frozenset(special[text].id for text in prompt.family.stops if text in special)
    read = _reading(request.chat, prompt.family, prompt, vocabulary)
    before = _thought_before(request, read, ends, vocabulary)
    read = replace(read, thought_before=before)
    return *_constrained(request, read, constraints, vocabulary), ends


def _thought_before(
    request: pb.GenerateRequest, read: Reading, ends: frozenset[int], vocabulary: Vocabulary
) -> int:
    ends |= vocabulary.ends | frozenset(request.stop.token_ids)
    output = request.output
    whole = output.HasField("skip_special_tokens") and not output.skip_special_tokens
    total = 0
    for choice in request.resume.choices:
        text = AnswerText(read, ())
        for token in choice.token_ids if choice.finished else ():
            if token not in ends:
                text.feed(vocabulary.piece(token, special=whole or token in read.kept))
        total += text.reasoning_tokens
    return total


def _reading(chat: pb.ChatInput, family: Format, prompt: Prompt, vocabulary: Vocabulary) -> Reading:
    """Without a trigger."""
    tools = tuple(Tool(t.name, _schema(t.parameters_json_schema)) for t in may_be_called(chat))
    special = vocabulary.special
    return Reading(
        family,
        tools,
        begun=prompt.begun,
        thinks=prompt.thinks,
        earlier=frozenset(call.id for message in chat.messages for call in message.tool_calls),
        budget=chat.reasoning_budget if chat.HasField("reasoning_budget") else None,
        kept=frozenset(
            special[text].id for text in formats.kept(family, special, tools=bool(tools))
        ),
    )


def _constrained(
    request: pb.GenerateRequest,
    read: Reading,
    constraints: Constraints | None,
    vocabulary: Vocabulary,
) -> tuple[Grammar | None, Reading]:
    """What a chat's answer must look like, if anything, and from where on."""
    required = request.chat.tool_choice.mode == pb.ToolChoice.MODE_REQUIRED
    if constraints is None or not constraints.available:
        if required:
            raise Unsupported(pb.CAPABILITY_CONSTRAINT)
        return None, read
    special = {text: token.id for text, token in vocabulary.special.items()}
    if request.HasField("constraint") and not required:
        return _content(request, read, constraints, special), read
    if not read.tools:
        return None, read
    tools = _enforced(request.chat, read)
    if required:
        family, thinking = _thinking(request.chat, read)
        try:
            text = formats.grammar(
                family,
                tools,
                parallel=_parallel(request.chat),
                thinking=thinking,
                special=special,
            )
        except formats.Unsupported as problem:
            raise InvalidField("chat.tool_choice", str(problem)) from None
        return constraints.compile_text(text, "chat.tool_choice"), read
    return _begun_calls(request.chat, read, tools, constraints, special)


def _content(
    request: pb.GenerateRequest,
    read: Reading,
    constraints: Constraints,
    special: Mapping[str, int],
) -> Grammar:
    """Content as it was asked for: behind thoughts, and where there are tools or calls."""
    family, thinking = _thinking(request.chat, read)
    if not read.tools and thinking == "none" and family.channels is None:
        return constraints.compile(request.constraint)
    text = formats.with_content(
        family,
        "content",
        _enforced(request.chat, read),
        parallel=_parallel(request.chat),
        thinking=thinking,
        special=special,
    )
    return constraints.compile_with(text, request.constraint)


def _begun_calls(
    chat: pb.ChatInput,
    read: Reading,
    tools: Sequence[Tool],
    constraints: Constraints,
    special: Mapping[str, int],
) -> tuple[Grammar | None, Reading]:
    """Calls from the moment one begins, where that can be told."""
    awaited = formats.trigger(read.family)
    if awaited is None:
        return None, read
    text = formats.grammar(
        read.family, tools, "triggered", parallel=_parallel(chat), special=special
    )
    try:
        grammar = constraints.compile_text(text, "chat.tools")
    except InvalidField:
        if any(tool.strict for tool in chat.tools):
            raise
        # What calls look like is then the model's affair, as it is without constraints.
        return None, read
    if not awaited:
        return grammar, read
    # A call that stands bare is one at the beginning of a line only.
    return grammar, replace(read, trigger=Trigger(awaited, begins_line=awaited.startswith("{")))


def _parallel(chat: pb.ChatInput) -> bool:
    return not chat.HasField("parallel_tool_calls") or chat.parallel_tool_calls


def _schema(text: str) -> Mapping[str, object]:
    found: Mapping[str, object] = json.loads(text) if text else _NOTHING
    return found


def _enforced(chat: pb.ChatInput, read: Reading) -> tuple[Tool, ...]:
    """The tools that may be called, with the schemas that arguments are held to."""
    names = {tool.name for tool in read.tools}
    return tuple(
        Tool(tool.name, _enforced_schema(tool, f"chat.tools[{at}].parameters_json_schema"))
        for at, tool in enumerate(chat.tools)
        if tool.name in names
    )


def _enforced_schema(tool: pb.Tool, field: str) -> Mapping[str, object]:
    """Any arguments where the schema cannot be enforced and need not be."""
    if not tool.parameters_json_schema:
        return _NOTHING
    try:
        text = check_schema(tool.parameters_json_schema, field)
    except InvalidField:
        if tool.strict:
            raise
        return {"type": "object"}
    return _schema(text)


def _thinking(chat: pb.ChatInput, read: Reading) -> tuple[Format, Thinking]:
    """Whether the answer is, or may be, thoughts first; with the marks that these then have."""
    family = read.family
    opened = formats.reasoning_open(family, read.begun)
    if opened is not None:
        others = tuple(pair for pair in family.reasoning if pair != opened)
        return replace(family, reasoning=(opened, *others)), "open"
    closed = any(pair.close.strip() in read.begun for pair in family.reasoning)
    may = read.thinks or family.channels is not None
    if chat.HasField("enable_thinking"):
        may = chat.enable_thinking
    # To one that does not think, the beginning of thoughts is a way out of what it must write.
    return family, "optional" if may and not closed else "none"
