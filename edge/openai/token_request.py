"""Bodies of /tokenize and /detokenize, as vLLM, llama.cpp's server and OVMS have them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from edge.errors import Names, field_param, invalid
from edge.openai import chat_rules
from edge.openai import invalid as say
from edge.openai.chat_request import ChatRequest
from edge.openai.checks import unsupported, validate, with_model
from edge.openai.fields import FIRST, Part, string_or
from edge.openai.sampling_fields import MAX_INT32
from protos.inference.v1 import inference_pb2 as pb

MAX_TEXTS = 128
MAX_TOKENS = 2**20

Texts = Annotated[
    Annotated[str, Tag("~string")]
    | Annotated[
        Annotated[list[str], FIRST, Field(min_length=1, max_length=MAX_TEXTS)], Tag("~array")
    ],
    string_or(list, "~array", "one of a string or array of strings"),
]
# Who has which name for the text.
TEXTS = ("prompt", "content", "text")


class TokenizeRequest(Part):
    """Exactly one of `prompt` (vLLM), `content` (llama.cpp's server) and `text` (OVMS)."""

    model: str
    prompt: str | None = None
    content: str | None = None
    text: Texts | None = None

    # Whether BOS comes first where the model wants it: true, for `content` false.
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    # Whether texts of special tokens become these tokens: true.
    parse_special: bool | None = None
    # Each token as {id, piece}; or beside the tokens their texts.
    with_pieces: bool | None = None
    return_token_strs: bool | None = None
    # Tokens beyond it are left out.
    max_length: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None
    # Refused if true: what a model is padded with is not known here.
    pad_to_max_length: bool | None = None
    padding_side: Literal["left", "right"] | None = None


class TokenizeChatRequest(ChatRequest):
    """A conversation, as the model would read it (vLLM); what a completion takes may be there, too."""

    add_special_tokens: bool | None = None
    add_special: bool | None = None
    return_token_strs: Literal[False] | None = None
    with_pieces: Literal[False] | None = None


class DetokenizeRequest(Part):
    """Tokens that shall become text."""

    model: str
    tokens: Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_INT32)]], FIRST, Field(max_length=MAX_TOKENS)
    ]
    skip_special_tokens: bool | None = None


@dataclass(frozen=True, slots=True)
class Texted:
    """Texts to be tokenized, and the name that the client has for them."""

    request: TokenizeRequest
    name: str
    texts: list[str]
    # Whether several were asked for, be it one.
    several: bool


def read_tokenize(
    body: dict[str, Any], default_model: str = "", strict: bool = False, of_path: str = ""
) -> Texted | ChatRequest:
    """The request of a parsed body. Raises ApiError 400."""
    body = with_model(body, default_model, of_path)
    named = [name for name in (*TEXTS, "messages") if body.get(name) is not None]
    if not named:
        raise say.missing("prompt")
    if len(named) > 1:
        raise invalid(
            f"Only one of '{named[0]}' and '{named[1]}' can be given.",
            named[1],
            "invalid_parameter_combination",
        )
    if named == ["messages"]:
        return _chat(body, strict)
    request = validate(TokenizeRequest, body, strict)
    if request.pad_to_max_length:
        raise unsupported("pad_to_max_length", "This server does not pad.")
    given = getattr(request, named[0])
    several = not isinstance(given, str)
    return Texted(request, named[0], given if several else [given], several)


def read_detokenize(
    body: dict[str, Any], default_model: str = "", strict: bool = False, of_path: str = ""
) -> DetokenizeRequest:
    """The request of a parsed body. Raises ApiError 400."""
    body = with_model(body, default_model, of_path)
    if body.get("tokens") is None:
        raise say.missing("tokens")
    return validate(DetokenizeRequest, body, strict)


def to_tokenize(asked: Texted, at: int) -> pb.TokenizeRequest:
    """The question of text number `at`, without the model's identity."""
    request = asked.request
    out = pb.TokenizeRequest(with_pieces=bool(request.with_pieces or request.return_token_strs))
    out.text.text = asked.texts[at]
    out.text.parse_special = request.parse_special is not False
    special = request.add_special_tokens
    if special is None:
        special = request.add_special
    if special is None:
        special = asked.name != "content"
    if not special:
        # Otherwise it is the model's to say whether it wants one.
        out.text.add_bos = False
    return out


def names(asked: Texted, at: int) -> Names:
    """Names in errors of the question of text number `at`."""
    name = f"{asked.name}[{at}]" if asked.several else asked.name
    return Names(name, lambda path: name if path == "text.text" else field_param(path))


def _tokens(path: str) -> str | None:
    """`token_ids[3]` is what clients call `tokens[3]`."""
    known = path.startswith("token_ids")
    return path.replace("token_ids", "tokens", 1) if known else field_param(path)


DETOKENIZE = Names("tokens", _tokens)
# Images and sounds have no token ids.
CHAT = Names(field=lambda path: "messages" if path == "with_token_ids" else field_param(path))


def _chat(body: dict[str, Any], strict: bool) -> ChatRequest:
    for name in ("return_token_strs", "with_pieces"):
        if body.get(name) not in (None, False):
            raise unsupported(name, "Tokens of a conversation have no texts here.")
    own = {"add_special_tokens", "add_special", "return_token_strs", "with_pieces"}
    return chat_rules.read({k: v for k, v in body.items() if k not in own}, strict=strict)
