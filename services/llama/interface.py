"""What the engine needs of a model: the seam behind which llama.cpp, or a test's fake, sits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Bit t % 32 of word t // 32 says whether token t may come.
Mask = NDArray[np.uint32]
# Raw logits of one position, shape (vocabulary,). A view that the next decode overwrites.
Logits = NDArray[np.float32]
# Vectors that stand where tokens' own would, one a cell, shape (cells, width of the model).
Vectors = NDArray[np.float32]
# Their positions, shape (sections, cells).
Positions = NDArray[np.int32]
# What the cells of a slot hold, in a form of the runtime's own.
State = NDArray[np.uint8]


class NoRoomError(Exception):
    """The KV cache has no place for this batch; nothing of it was evaluated."""


class DecodeError(Exception):
    """The decode failed; what the KV cache holds is not known."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """An image or a sound, or some cells of one, in the place of tokens."""

    vectors: Vectors
    # Where they are not one after the other.
    positions: Positions | None = None
    # Whether each cell attends to all others: then they are all there are of it.
    together: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one sequence at positions start, start + 1, …, to be evaluated in one batch."""

    slot: int
    start: int
    tokens: Sequence[int]
    # After how many of the tokens, the last ones, the logits are wanted.
    outputs: int = 0
    # In place of tokens, and without logits.
    embedded: Embedded | None = None


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

    @property
    def outputs(self) -> int:
        """Most positions of one decode whose logits are wanted; more raise ValueError."""

    @property
    def tile(self) -> int:
        """Rows that a batch of few takes at once: one row beyond a multiple costs like several."""

    @property
    def deep(self) -> int:
        """Cells before a token that take as long as all else of it; 0: they take no time."""

    @property
    def partial(self) -> bool:
        """Whether a part of a slot's cells can be shared and given back, or only all of them."""

    def adapt(self, adapter: str) -> None:
        """The decodes to come use this LoRA adapter; "" none. Raises DecodeError."""

    def decode(self, chunks: Sequence[Chunk]) -> list[list[Logits]]:
        """Evaluates the chunks together; per chunk the logits wanted, in order.

        Raises NoRoomError (nothing happened) and DecodeError (reset before going on).
        """

    def copy(self, source: int, target: int, cells: int) -> None:
        """The target, an empty slot, gets the source's first cells. They are shared, not copied.

        Cells are counted by positions here and in `truncate`: those of an image may have fewer.
        Not partial: `cells` are all that the source has.
        """

    def truncate(self, slot: int, cells: int) -> None:
        """Gives back what the slot has beyond its first cells. Not partial: all or nothing."""

    def release(self, slot: int) -> None:
        """Gives back all cells of the slot."""

    def state_size(self, slot: int) -> int:
        """Bytes that `save` would take; 0: it cannot."""

    def save(self, slot: int) -> State | None:
        """A copy of all that the slot's cells hold; None: it cannot be had."""

    def restore(self, slot: int, state: State) -> bool:
        """The slot, an empty one, gets cells of its own with what was saved; else stays empty.

        As many cells must be free as the state's tokens.
        """

    def reset(self) -> None:
        """Gives back all cells. Raises DecodeError when the runtime cannot be used any more."""


class Matcher(Protocol):
    """Follows the text of one constrained choice."""

    def mask(self) -> Mask:
        """The tokens that may come next, ends included; the next call may overwrite it."""

    def accept(self, token: int) -> None:
        """The next token, one that the mask allowed."""

    @property
    def finished(self) -> bool:
        """Whether nothing may come but an end."""

    def forced(self) -> list[int]:
        """Tokens that must come next, as far as that is known cheaply."""


class Grammar(Protocol):
    """What a text must look like."""

    def matcher(self) -> Matcher:
        """A matcher at the beginning of a text."""

    def behind(self, text: bytes) -> Matcher | None:
        """A matcher behind the beginning of a text; None: it cannot begin like that."""
