"""What the engine needs of a model: the seam behind which llama.cpp, or a test's fake, sits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Raw logits of one position, shape (vocabulary,). A view that the next decode overwrites.
Logits = NDArray[np.float32]


class NoRoomError(Exception):
    """The KV cache has no place for this batch; nothing of it was evaluated."""


class DecodeError(Exception):
    """The decode failed; what the KV cache holds is not known."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one sequence at positions start, start + 1, …, to be evaluated in one batch."""

    slot: int
    start: int
    tokens: Sequence[int]
    # Whether the logits after the last of the tokens are wanted.
    wants_logits: bool


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A token whose text, in a rendered template, means the token and not its letters."""

    id: int
    # Whether white space before, or after, its text belongs to it.
    strips_left: bool = False
    strips_right: bool = False


class Vocabulary(Protocol):
    """Text to tokens and back. Safe to use from any thread."""

    @property
    def size(self) -> int:
        """Number of tokens."""

    @property
    def longest(self) -> int:
        """Bytes of text that one token can stand for at the most; at least 4, a character's."""

    @property
    def bos(self) -> int | None:
        """The beginning-of-sequence token."""

    @property
    def eos(self) -> int | None:
        """The end-of-sequence token."""

    @property
    def adds_bos(self) -> bool:
        """Whether prompts begin with BOS by the model's metadata."""

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end a generation."""

    @property
    def special(self) -> Mapping[str, SpecialToken]:
        """The control tokens by their text."""

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Token ids of the text; no BOS is added."""

    def piece(self, token: int, *, special: bool) -> bytes:
        """The token's bytes, maybe a part of a character; control tokens are empty if not special.

        Defined for 0 <= token < size.
        """


class Runtime(Protocol):
    """A model with its KV cache. Everything but `vocabulary` is for the engine's thread alone."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's vocabulary."""

    @property
    def cells(self) -> int:
        """KV cache cells, shared by all slots; a token of a sequence takes one."""

    @property
    def slots(self) -> int:
        """Sequences that can hold cells at once: slots are 0..slots-1."""

    @property
    def batch_size(self) -> int:
        """Most tokens of one decode. More kill the process, so the runtime raises ValueError."""

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits | None]:
        """Evaluates the chunks together; per chunk its logits, where wanted.

        Raises NoRoomError (nothing happened) and DecodeError (reset before going on).
        """

    def release(self, slot: int) -> None:
        """Gives back all cells of the slot."""

    def reset(self) -> None:
        """Gives back all cells. Raises DecodeError when the runtime cannot be used any more."""
