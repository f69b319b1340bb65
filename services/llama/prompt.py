"""A conversation, text or tokens of the contract to the token ids that the model reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import structlog

from protos.inference.v1 import inference_pb2 as pb
from services.llama.interface import SpecialToken, Vocabulary
from services.llama.template import CHATML, OPEN_END, ChatTemplate, TemplateError, plain
from services.worker.errors import ContextLengthExceeded, InvalidField, TemplateFailed

_ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "developer",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}

_log = structlog.get_logger()

Message = dict[str, Any]


class Prompts:
    """Makes prompts for one model. Safe to use from any thread; none of it belongs on the loop."""

    def __init__(self, vocabulary: Vocabulary, template: str | None, context: int = 2**31) -> None:
        """`template` is the GGUF's own, `context` the longest prompt's tokens.

        Raises TemplateError when the template does not compile.
        """
        if not template:
            _log.warning("the model has no chat template; ChatML is used")
        self._vocabulary = vocabulary
        self._context = context
        self._template = ChatTemplate(template or CHATML, vocabulary.special)
        self._constants = {
            "bos_token": self._text_of(vocabulary.bos),
            "eos_token": self._text_of(vocabulary.eos),
        }
        self._knows_developer = "developer" in self._template.source
        self._knows_system = self._renders_system_turns()

    def tokens(self, request: pb.GenerateRequest) -> list[int]:
        """The prompt of a request. Raises TemplateFailed, and ContextLengthExceeded early."""
        match request.WhichOneof("input"):
            case "chat":
                return self.encode_if_hopeful(self.render(request.chat))
            case "text":
                self._refuse_hopeless(request.text.text)
                return self.encode_text(request.text)
            case _:
                return list(request.tokens.ids)

    def tokenize(self, text: pb.TextInput) -> list[int]:
        """Tokens of a raw text that is for no prompt. Raises InvalidField if it is far too long."""
        try:
            self._refuse_hopeless(text.text)
        except ContextLengthExceeded as error:
            raise InvalidField("text.text", str(error)) from None
        return self.encode_text(text)

    def encode_if_hopeful(self, rendered: str) -> list[int]:
        """As `encode`. Raises ContextLengthExceeded for what cannot fit, without encoding it."""
        self._refuse_hopeless(plain(rendered))
        return self.encode(rendered)

    def _refuse_hopeless(self, text: str) -> None:
        """Some texts take llama.cpp's tokenizers time that grows with the square of their length.

        No token is more than `longest` bytes: what cannot fit is refused without tokenizing it.
        """
        least = len(text.encode()) // self._vocabulary.longest
        if least >= self._context:
            raise ContextLengthExceeded(least, self._context)

    def render(self, chat: pb.ChatInput) -> str:
        """The conversation through the template, with marks (see template). Raises TemplateFailed."""
        messages = [self._message(message) for message in chat.messages]
        if not self._knows_system:
            # The turn to be continued stays the last.
            end = len(messages) - chat.continue_final_message
            messages = [*_fold_system(messages[:end]), *messages[end:]]
        if chat.continue_final_message:
            messages[-1]["content"] += OPEN_END
        add_prompt = (
            chat.add_generation_prompt
            if chat.HasField("add_generation_prompt")
            else not chat.continue_final_message
        )
        given = {**_template_args(chat), "messages": messages, **_tools(chat), **_documents(chat)}
        if chat.reasoning_effort:
            given["reasoning_effort"] = chat.reasoning_effort
        ours = {**self._constants, "add_generation_prompt": add_prompt}
        if chat.HasField("enable_thinking"):
            ours["enable_thinking"] = chat.enable_thinking
        try:
            rendered = self._template.render(given, ours)
        except TemplateError as error:
            raise TemplateFailed(str(error)) from None
        if chat.continue_final_message:
            rendered, found, _ = rendered.rpartition(OPEN_END)
            if not found:
                raise TemplateFailed("the chat template leaves the last message out")
        return rendered

    def encode(self, rendered: str) -> list[int]:
        """Tokens of a rendered conversation; the template's control tokens, and no others."""
        tokens: list[int] = []
        pieces = list(self._template.split(rendered))
        for at, (piece, is_special) in enumerate(pieces):
            if is_special:
                tokens.append(self._vocabulary.special[piece].id)
                continue
            before = at > 0 and self._special(pieces[at - 1]).strips_right
            after = at + 1 < len(pieces) and self._special(pieces[at + 1]).strips_left
            text = piece.lstrip() if before else piece
            text = text.rstrip() if after else text
            if text:
                tokens += self._vocabulary.tokenize(text, parse_special=False)
        return self._with_bos(tokens) if self._vocabulary.adds_bos else tokens

    def encode_text(self, text: pb.TextInput) -> list[int]:
        """Tokens of a raw text."""
        tokens = self._vocabulary.tokenize(text.text, parse_special=text.parse_special)
        add_bos = text.add_bos if text.HasField("add_bos") else self._vocabulary.adds_bos
        return self._with_bos(tokens) if add_bos else tokens

    def _with_bos(self, tokens: list[int]) -> list[int]:
        bos = self._vocabulary.bos
        # A template, or a text with special tokens, may have written it already.
        if bos is None or tokens[:1] == [bos]:
            return tokens
        return [bos, *tokens]

    def _special(self, piece: tuple[str, bool]) -> SpecialToken:
        text, is_special = piece
        return self._vocabulary.special[text] if is_special else SpecialToken(-1)

    def _text_of(self, token: int | None) -> str:
        if token is None:
            return ""
        return self._vocabulary.piece(token, special=True).decode("utf-8", "replace")

    def _message(self, message: pb.Message) -> Message:
        role = _ROLES[message.role]
        if role == "developer" and not self._knows_developer:
            role = "system"
        # Flattened, so that a control token's text cannot hide across two parts. Templates
        # concatenate: an empty text is what they all take.
        result: Message = {"role": role, "content": "".join(p.text for p in message.content)}
        if message.name:
            result["name"] = message.name
        if message.tool_calls:
            result["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
        if message.tool_call_id:
            result["tool_call_id"] = message.tool_call_id
        if message.reasoning:
            result["reasoning_content"] = message.reasoning
        return result

    def _renders_system_turns(self) -> bool:
        probe = "probe-1c29"
        messages = [{"role": "system", "content": probe}, {"role": "user", "content": "hello"}]
        ours = {**self._constants, "add_generation_prompt": True}
        try:
            return probe in self._template.render({"messages": messages}, ours)
        except TemplateError:
            return False


def _fold_system(messages: list[Message]) -> list[Message]:
    """Puts instructions at the head of the next user's turn."""
    folded: list[Message] = []
    instructions: list[str] = []
    for message in messages:
        if message["role"] in ("system", "developer"):
            instructions.append(message["content"])
        elif message["role"] == "user" and instructions:
            text = "\n\n".join([*instructions, message["content"]])
            folded.append({**message, "content": text})
            instructions = []
        else:
            folded.append(message)
    if instructions:
        folded.append({"role": "user", "content": "\n\n".join(instructions)})
    return folded


def _tool_call(call: pb.ToolCall) -> dict[str, Any]:
    arguments = json.loads(call.arguments_json) if call.arguments_json else {}
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _tools(chat: pb.ChatInput) -> dict[str, Any]:
    if chat.tool_choice.mode == pb.ToolChoice.MODE_NONE:
        return {}
    allowed = frozenset(chat.tool_choice.allowed_names)
    tools = [tool for tool in chat.tools if not allowed or tool.name in allowed]
    return {"tools": [_tool(tool) for tool in tools]} if tools else {}


def _tool(tool: pb.Tool) -> dict[str, Any]:
    schema = tool.parameters_json_schema
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": json.loads(schema) if schema else {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def _documents(chat: pb.ChatInput) -> dict[str, Any]:
    return {"documents": json.loads(chat.documents_json)} if chat.documents_json else {}


def _template_args(chat: pb.ChatInput) -> dict[str, Any]:
    if not chat.template_args_json:
        return {}
    args: dict[str, Any] = json.loads(chat.template_args_json)
    return {name: value for name, value in args.items() if not name.startswith("_")}


def detokenize(vocabulary: Vocabulary, tokens: Iterable[int], *, skip_special: bool) -> str:
    """Text of the tokens; what is no UTF-8 becomes U+FFFD."""
    pieces = (vocabulary.piece(token, special=not skip_special) for token in tokens)
    return b"".join(pieces).decode("utf-8", "replace")
