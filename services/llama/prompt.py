"""A conversation, text or tokens of the contract to the token ids that the model reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import structlog

from protos.inference.v1 import inference_pb2 as pb
from services.llama.builtin_templates import CHATML
from services.llama.conversation import documents, tools
from services.llama.formats import Format, by_name
from services.llama.infill import Infill
from services.llama.interface import SpecialToken, Vocabulary
from services.llama.marks import MEDIA, plain, split_places
from services.llama.rendering import Renderer
from services.llama.template import TemplateError
from services.worker.errors import ContextLengthExceeded, InvalidField, TemplateFailed

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads, and of a chat: how it will answer."""

    tokens: list[int]
    # None for what is no chat.
    family: Format | None = None
    # What the template wrote behind the last message.
    begun: str = ""
    # Whether the template knows how thoughts begin.
    thinks: bool = False
    # Tokens that end the answer beside the vocabulary's and the family's.
    ends: frozenset[int] = frozenset()
    # Index among the tokens, and number, of each image and sound; what it takes is not there yet.
    places: tuple[tuple[int, int], ...] = ()


class Prompts:
    """Makes prompts for one model. Safe to use from any thread; none of it belongs on the loop."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: str | None,
        context: int = 2**31,
        named: Mapping[str, str] = MappingProxyType({}),
        tool_format: str = "",
        infill: Infill | None = None,
    ) -> None:
        """`template` is the GGUF's own, or the operator's; `context` the longest prompt's tokens.

        `named` are those of the GGUF's other templates that have a purpose here, by name (see
        templates). `tool_format` names a format of answers; "": the templates tell. `infill`
        is how gaps are filled; None: not at all. Raises TemplateError when the template does not
        compile.
        """
        if not template:
            _log.warning("the model has no chat template; ChatML is used")
        self._vocabulary = vocabulary
        self._context = context
        # How gaps are filled; None: not at all.
        self.infill = infill
        constants = {
            "bos_token": self._text_of(vocabulary.bos),
            "eos_token": self._text_of(vocabulary.eos),
        }
        self._default = Renderer(template or CHATML, vocabulary.special, constants)
        self._named: dict[str, Renderer] = {}
        for name, source in named.items():
            try:
                self._named[name] = Renderer(source, vocabulary.special, constants)
            except TemplateError as error:
                _log.warning("a named chat template is left out", name=name, reason=str(error))
        self._given = by_name(tool_format) if tool_format else None

    def renderer(self, chat: pb.ChatInput) -> Renderer:
        """The template for this conversation."""
        if tools(chat) and "tool_use" in self._named:
            return self._named["tool_use"]
        if documents(chat) and "rag" in self._named:
            return self._named["rag"]
        return self._default

    def family(self, chat: pb.ChatInput) -> Format:
        """How the model answers this conversation."""
        if self._given is not None:
            return self._given
        renderer = self.renderer(chat)
        family = renderer.family
        if not tools(chat) or renderer.traits.tools:
            return family
        # It was told how to call (see plain_tools).
        return replace(by_name("generic"), reasoning=family.reasoning, stops=family.stops)

    def tokens(self, request: pb.GenerateRequest) -> list[int]:
        """The tokens alone. Raises as `made`."""
        return self.made(request).tokens

    def made(self, request: pb.GenerateRequest) -> Prompt:
        """The prompt of a request. Raises TemplateFailed, and ContextLengthExceeded early."""
        match request.WhichOneof("input"):
            case "chat":
                rendered = self.render(request.chat)
                tokens, places = self._encode_with_places(rendered, request.chat)
                family = self.family(request.chat)
                begun = self._begun(request.chat, family, rendered)
                source = self.renderer(request.chat).template.source
                thinks = any(pair.open.strip() in source for pair in family.reasoning)
                return Prompt(tokens, family, begun, thinks, places=places)
            case "text":
                self._refuse_hopeless(request.text.text + request.text.suffix)
                fills = request.text.suffix or request.text.fill
                ends = self.infill.ends if self.infill and fills else frozenset()
                limit = request.stop.max_tokens if request.stop.HasField("max_tokens") else None
                return Prompt(self.encode_text(request.text, limit), ends=ends)
            case _:
                return Prompt(list(request.tokens.ids))

    def _begun(self, chat: pb.ChatInput, family: Format, rendered: str) -> str:
        """What the template wrote behind the last message, or of the one to be continued.

        Only if it can mean something: it takes a second rendering.
        """
        meant = [pair.open.strip() for pair in family.reasoning]
        meant += [begin for begin, _ in family.wrappers]
        meant += family.channels.start if family.channels is not None else ()
        without = chat.HasField("add_generation_prompt") and not chat.add_generation_prompt
        opened = chat.continue_final_message or not without
        if not opened or not any(text in rendered for text in meant):
            return ""
        before = pb.ChatInput()
        before.CopyFrom(chat)
        before.add_generation_prompt = False
        if chat.continue_final_message:
            before.continue_final_message = False
            del before.messages[-1]
        ended = ""
        try:
            ended = self.renderer(chat).render(before) if before.messages else ""
        except TemplateError as error:
            _log.debug("a chat template cannot leave its prompt out", reason=str(error))
        pairs = enumerate(zip(ended, rendered, strict=False))
        same = len(ended)
        if not rendered.startswith(ended):
            same = next((at for at, (a, b) in pairs if a != b), len(rendered))
        if ended and same < len(rendered):
            return plain(rendered[same:])
        # Some write it whatever they are told: then, from the last control token on, which no
        # user can write.
        pieces = list(self._default.template.split(rendered))
        last = max((at for at, (_, special) in enumerate(pieces) if special), default=len(pieces))
        return "".join(piece for piece, _ in pieces[last:])

    def tokenize(self, text: pb.TextInput) -> list[int]:
        """Tokens of a raw text that is for no prompt. Raises InvalidField if it is far too long."""
        try:
            self._refuse_hopeless(text.text + text.suffix)
        except ContextLengthExceeded as error:
            more = f"has more than {int(error.metadata['prompt_tokens']) - 1} tokens"
            raise InvalidField("text.text", f"{more}, the context {self._context}") from None
        return self.encode_text(text)

    def encode_if_hopeful(self, rendered: str) -> list[int]:
        """As `encode`. Raises ContextLengthExceeded for what cannot fit, without encoding it.

        Raises InvalidField where images or sounds are.
        """
        self._refuse_hopeless(plain(rendered))
        if MEDIA in rendered:
            raise InvalidField("with_token_ids", "images and sounds have no token ids")
        return self.encode(rendered)

    def _encode_with_places(
        self, rendered: str, chat: pb.ChatInput
    ) -> tuple[list[int], tuple[tuple[int, int], ...]]:
        """Tokens of the texts, and where among them which image or sound belongs."""
        self._refuse_hopeless(plain(rendered))
        texts, numbers = split_places(rendered)
        count = sum(part.HasField("media") for message in chat.messages for part in message.content)
        if sorted(numbers) != list(range(count)):
            raise TemplateFailed("the chat template does not show every image and sound once")
        tokens = self.encode(texts[0])
        places = []
        for number, text in zip(numbers, texts[1:], strict=True):
            places.append((len(tokens), number))
            tokens += self._encode(text)
        return tokens, tuple(places)

    def _refuse_hopeless(self, text: str) -> None:
        """Some texts take llama.cpp's tokenizers time that grows with the square of their length.

        No token is more than `longest` bytes: what cannot fit is refused without tokenizing it.
        """
        least = len(text.encode()) // self._vocabulary.longest
        if least >= self._context:
            raise ContextLengthExceeded(least, self._context, lower_bound=True)

    def render(self, chat: pb.ChatInput) -> str:
        """The conversation through the template, with marks (see marks). Raises TemplateFailed."""
        try:
            return self.renderer(chat).render(chat)
        except TemplateError as error:
            raise TemplateFailed(str(error)) from None

    def encode(self, rendered: str) -> list[int]:
        """Tokens of a rendered conversation; the template's control tokens, and no others."""
        tokens = self._encode(rendered)
        return self._with_bos(tokens) if self._vocabulary.adds_bos else tokens

    def _encode(self, rendered: str) -> list[int]:
        tokens: list[int] = []
        pieces = list(self._default.template.split(rendered))
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
        return tokens

    def encode_text(self, text: pb.TextInput, limit: int | None = None) -> list[int]:
        """Tokens of a raw text, or of the two around a gap; files leave room for the `limit`."""
        tokens = self._vocabulary.tokenize(text.text, parse_special=text.parse_special)
        if text.suffix or text.fill:
            assert self.infill is not None, "the chassis lets only through what the model can"
            after = self._vocabulary.tokenize(text.suffix, parse_special=text.parse_special)
            tokens = self.infill.prompt(tokens, after)
            # One for BOS, one that a prompt must leave.
            room = self._context - len(tokens) - 2
            room -= self._context // 4 if limit is None else limit
            files = [(file.name, file.text) for file in text.files]
            tokens = [*self.infill.files(files, self._within, room), *tokens]
        add_bos = text.add_bos if text.HasField("add_bos") else self._vocabulary.adds_bos
        return self._with_bos(tokens) if add_bos else tokens

    def _within(self, text: str, room: int) -> list[int] | None:
        """Tokens of a text, without tokenizing it where it has certainly more than `room`."""
        if len(text.encode()) // self._vocabulary.longest > room:
            return None
        return self._vocabulary.tokenize(text, parse_special=False)

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


def detokenize(vocabulary: Vocabulary, tokens: Iterable[int], *, skip_special: bool) -> str:
    """Text of the tokens; what is no UTF-8 becomes U+FFFD."""
    pieces = (vocabulary.piece(token, special=not skip_special) for token in tokens)
    return b"".join(pieces).decode("utf-8", "replace")
