"""Tokens and their logprobs as the completions API has them: parallel lists, with offsets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.openai.chat_response import LEAST_LOGPROB
from edge.openai.text_offsets import Offsets, Placed
from protos.inference.v1 import inference_pb2 as pb

Json = dict[str, Any]


class Tokens:
    """One choice's tokens, told as soon as it is known where in the text they stand."""

    def __init__(self, top: int, start: int) -> None:
        """`top`: alternatives of each; `start`: characters before the choice's own text."""
        self._top = top
        self._offsets = Offsets(start)
        self._waiting: list[pb.TokenLogprob] = []

    def add(self, text: str, entries: Sequence[pb.TokenLogprob]) -> Json | None:
        """Takes more text and more tokens in; what can be told now, if anything."""
        self._waiting.extend(entries)
        return self._told(self._offsets.add(text, (entry.token for entry in entries)))

    def rest(self) -> Json | None:
        """What is left, at the end of the choice."""
        return self._told(self._offsets.rest())

    def _told(self, placed: Sequence[Placed]) -> Json | None:
        if not placed:
            return None
        entries, self._waiting = self._waiting[: len(placed)], self._waiting[len(placed) :]
        return _lists(entries, placed, self._top)


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """What is told of a prompt before its answer."""

    text: str
    logprobs: Json | None


def prompt_tokens(text: str | None, entries: Sequence[pb.TokenLogprob], top: int) -> PromptTokens:
    """The prompt and its tokens. `text` None: it was given as tokens, and is what they are."""
    if not entries:
        return PromptTokens(text or "", None)
    pieces = [entry.token for entry in entries]
    if text is None:
        text = b"".join(pieces).decode(errors="replace")
    offsets = Offsets()
    placed = [*offsets.add(text, pieces), *offsets.rest()]
    kept = list(entries)
    if len(kept) == 1 and not text:
        # The beginning of a text, which the worker put there.
        return PromptTokens(text, None)
    if not placed[0].shown and len(kept) > 1 and placed[1].shown and placed[1].offset == 0:
        # The same, and nobody's token. What follows it is the first, of which nothing is told.
        del kept[0], placed[0]
        kept[0] = pb.TokenLogprob(token=kept[0].token)
    return PromptTokens(text, _lists(kept, placed, top))


def _lists(entries: Sequence[pb.TokenLogprob], placed: Sequence[Placed], top: int) -> Json:
    return {
        "tokens": [_text(entry.token) for entry in entries],
        "token_logprobs": [_logprob(entry) for entry in entries],
        "top_logprobs": [_likeliest(entry, top) for entry in entries],
        "text_offset": [place.offset for place in placed],
    }


def _logprob(entry: pb.TokenLogprob) -> float | None:
    """None for the first token of a prompt."""
    return max(entry.logprob, LEAST_LOGPROB) if entry.HasField("logprob") else None


def _likeliest(entry: pb.TokenLogprob, top: int) -> dict[str, float] | None:
    """The likeliest tokens, best first, and the chosen one, which may be none of them."""
    chosen = _logprob(entry)
    if chosen is None:
        return None
    found: dict[str, float] = {}
    for other in entry.top[:top]:
        found.setdefault(_text(other.token), max(other.logprob, LEAST_LOGPROB))
    found.setdefault(_text(entry.token), chosen)
    return found


def _text(token: bytes) -> str:
    """The token; where it is a part of a character, its bytes as OpenAI writes them."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)
