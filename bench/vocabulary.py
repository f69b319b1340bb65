"""A made-up byte-level BPE tokenizer of any size: real enough for llama.cpp, the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIAL = (END_OF_TEXT, TURN_START, TURN_END)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_SPACE = "Ġ"  # how byte-level BPE writes a space
# In capitals, so that no merge of theirs meets one of the words.
_CONSONANTS, _VOWELS = "BCDFGHJKLMNPRSTVWXYZ", "AEIOU"
_SYLLABLES = tuple(c + v for c in _CONSONANTS for v in _VOWELS)
_NORMAL, _CONTROL = 1, 3  # llama_token_type


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The three lists that a GGUF holds; a token's id is its place. Control tokens come last."""

    tokens: list[str]
    types: list[int]
    merges: list[str]

    def id(self, special: str) -> int:
        """The id of a control token."""
        return len(self.tokens) - len(SPECIAL) + SPECIAL.index(special)


def vocabulary(size: int, words: Sequence[str]) -> Vocabulary:
    """`size` tokens: the bytes, these words (one token each after a space), and invented words.

    Text that was generated and is read again, as a chat's next turn does, splits into the tokens
    that it was generated as, as good as always: an invented word is one token after a space too.
    Raises ValueError for a size too small for the bytes, or beyond a million.
    """
    room = size - len(SPECIAL)
    tokens = _byte_letters()
    if room < len(tokens):
        raise ValueError(f"a vocabulary has at least {len(tokens) + len(SPECIAL)} tokens")
    taken = set(tokens)
    merges = []
    for left, right in (*_chains(words), *islice(_invented(), room)):
        if left + right not in taken and len(tokens) < room:
            taken.add(left + right)
            tokens.append(left + right)
            merges.append(f"{left} {right}")
    if len(tokens) < room:
        raise ValueError(f"a vocabulary has at most {len(tokens) + len(SPECIAL)} tokens")
    types = [_NORMAL] * len(tokens) + [_CONTROL] * len(SPECIAL)
    return Vocabulary([*tokens, *SPECIAL], types, merges)


def word_token(word: str) -> str:
    """The token of one of the words after a space."""
    return _SPACE + word


def _chains(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A word's merges from left to right: every prefix is a token, so no other merge can apply."""
    for word in words:
        for at, letter in enumerate(word):
            yield _SPACE + word[:at], letter


def _invented() -> Iterator[tuple[str, str]]:
    """Merges of pronounceable words of one, two and three syllables, each after a space.

    Letters join to syllables first, then syllables from the left: one way only to merge a word.
    """
    base = len(_SYLLABLES)
    for syllable in _SYLLABLES:
        yield syllable[0], syllable[1]
    for syllable in _SYLLABLES:
        yield _SPACE, syllable
    for first in _SYLLABLES:
        for second in _SYLLABLES:
            yield _SPACE + first, second
    for number in range(base**3):
        mixed = number * 610_639 % base**3  # coprime: every word once, the beginnings spread out
        first, second, third = (_SYLLABLES[mixed // base**power % base] for power in range(3))
        yield _SPACE + first + second, third


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte in GPT-2's byte-level BPE."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(174, 256)]
    letters = {byte: chr(byte) for byte in shown}
    hidden = (byte for byte in range(256) if byte not in letters)
    letters.update({byte: chr(256 + at) for at, byte in enumerate(hidden)})
    return [letters[byte] for byte in range(256)]
