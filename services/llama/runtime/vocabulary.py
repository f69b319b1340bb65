"""llama.cpp's vocabulary behind the engine's interface."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llama_cpp import llama_cpp as raw

from services.llama.interface import SpecialToken
from services.llama.runtime import bindings

_SPECIAL = raw.LLAMA_TOKEN_ATTR_CONTROL | raw.LLAMA_TOKEN_ATTR_UNKNOWN


class LlamaVocabulary:
    """Reads a model's vocabulary, which never changes: safe from any thread."""

    def __init__(self, model: Any) -> None:
        # The model owns the vocabulary's memory; this keeps it alive.
        self._vocab = raw.llama_model_get_vocab(model)
        self._size = int(raw.llama_vocab_n_tokens(self._vocab))
        self._bos = _token(raw.llama_vocab_bos(self._vocab))
        self._eos = _token(raw.llama_vocab_eos(self._vocab))
        self._adds_bos = bool(raw.llama_vocab_get_add_bos(self._vocab))
        self._ends = frozenset(
            token for token in range(self._size) if bindings.vocab_is_eog(self._vocab, token)
        )
        self._special = MappingProxyType(self._read_special())
        self._longest = max(4, *(len(self.piece(t, special=True)) for t in range(self._size)))

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self._size

    @property
    def longest(self) -> int:
        """Bytes of text that one token can stand for at the most."""
        return self._longest

    @property
    def bos(self) -> int | None:
        """The beginning-of-sequence token."""
        return self._bos

    @property
    def eos(self) -> int | None:
        """The end-of-sequence token."""
        return self._eos

    @property
    def adds_bos(self) -> bool:
        """Whether prompts begin with BOS by the model's metadata."""
        return self._adds_bos and self._bos is not None

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end a generation."""
        return self._ends

    @property
    def infill(self) -> tuple[int, int, int] | None:
        """The tokens before the text before a gap, that after it, and what fills it."""
        functions = raw.llama_vocab_fim_pre, raw.llama_vocab_fim_suf, raw.llama_vocab_fim_mid
        prefix, suffix, middle = (_token(function(self._vocab)) for function in functions)
        if prefix is None or suffix is None or middle is None:
            return None
        return prefix, suffix, middle

    @property
    def repository(self) -> tuple[int | None, int | None]:
        """The tokens before a repository's name, and before that of each of its files."""
        return (
            _token(raw.llama_vocab_fim_rep(self._vocab)),
            _token(raw.llama_vocab_fim_sep(self._vocab)),
        )

    @property
    def special(self) -> Mapping[str, SpecialToken]:
        """The control tokens by their text."""
        return self._special

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Token ids of the text; no BOS is added."""
        data = text.encode()
        room = len(data) + 16
        while True:
            tokens = (raw.llama_token * room)()
            count = bindings.tokenize(
                self._vocab, data, len(data), tokens, room, False, parse_special
            )
            if count >= 0:
                return list(tokens[:count])
            room = -count

    def piece(self, token: int, *, special: bool) -> bytes:
        """The token's bytes, maybe a part of a character; control tokens are empty if not special."""
        # Not kept: llama.cpp has them all, and a microsecond is little beside a token's decode.
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = bindings.token_to_piece(self._vocab, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def _read_special(self) -> dict[str, SpecialToken]:
        found = {}
        for token in range(self._size):
            attributes = bindings.vocab_get_attr(self._vocab, token)
            if not attributes & _SPECIAL:
                continue
            text = (bindings.vocab_get_text(self._vocab, token) or b"").decode("utf-8", "replace")
            if len(text) > 1:
                found[text] = SpecialToken(
                    token,
                    strips_left=bool(attributes & raw.LLAMA_TOKEN_ATTR_LSTRIP),
                    strips_right=bool(attributes & raw.LLAMA_TOKEN_ATTR_RSTRIP),
                )
        return found


def _token(value: int) -> int | None:
    return value if value >= 0 else None
