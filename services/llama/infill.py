"""Fill-in-the-middle: the tokens around the texts before and after a gap, and their order; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from services.llama.interface import SpecialToken

# What llama.cpp does not know: the token before the text before the gap, that before the text
# after it, that before what fills it ("": none). Their models want the text after the gap first:
# Seed-Coder's README; mistral-common's `encode_fim`.
_SUFFIX_FIRST = (
    ("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>"),
    ("[PREFIX]", "[SUFFIX]", ""),
)
# These want it first, too, and have the tokens of those that do not (Mellum's model card).
_SUFFIX_FIRST_NAMES = ("mellum",)
# Behind what fills a gap comes the end of the text or another file, whatever the tokens are that
# the model's metadata calls ends: CodeLlama's, CodeGemma's, StarCoder's and Qwen's.
_ENDS = (
    *("▁<EOT>", "<EOT>", "<|endoftext|>", "<fim_pad>", "<|fim_pad|>"),
    *("<|file_separator|>", "<file_sep>", "<|file_sep|>", "<filename>"),
    *("<|repo_name|>", "<repo_name>", "<reponame>"),
)


# Tokens of a text. None: it has certainly more than so many.
Tokenize = Callable[[str, int], Sequence[int] | None]


@dataclass(frozen=True, slots=True)
class Infill:
    """How one model is asked to fill a gap."""

    # Before the text before the gap, and before that after it.
    prefix: int
    suffix: int
    # Before what fills it. None: it comes right behind the texts.
    middle: int | None
    suffix_first: bool = False
    # End what fills it, beside the vocabulary's.
    ends: frozenset[int] = frozenset()
    # Before the repository's name, and before that of each file. None: there is none.
    repository: int | None = None
    file: int | None = None

    def files(self, files: Sequence[tuple[str, str]], tokenize: Tokenize, room: int) -> list[int]:
        """Tokens of files (names and texts), which come before the texts around the gap.

        As many of the last ones as `room` tokens take. The form is Qwen2.5-Coder's (its technical
        report, 3.2.2), with the names that llama.cpp's server gives what has none; without tokens
        for it, its server's, too.
        """
        head = self._named(self.repository, "myproject\n", tokenize, room)
        own = self._named(self.file, "filename\n", tokenize, room)
        if head is None or own is None:
            return []
        room -= len(head) + len(own)
        taken: list[Sequence[int]] = []
        for name, text in reversed(files):
            if self.file is None:
                tokens = tokenize(f"\n\n--- snippet ---\n\n{text}", room)
            else:
                tokens = self._named(self.file, f"{name or 'tmp'}\n{text}", tokenize, room)
            if tokens is None or len(tokens) > room:
                break
            room -= len(tokens)
            taken.append(tokens)
        return [*head, *chain.from_iterable(reversed(taken)), *own] if taken else []

    @staticmethod
    def _named(
        marker: int | None, text: str, tokenize: Tokenize, room: int
    ) -> Sequence[int] | None:
        """The text behind its marker; nothing where the model has no such marker."""
        if marker is None:
            return []
        tokens = tokenize(text, room)
        return None if tokens is None else [marker, *tokens]

    def prompt(self, before: Sequence[int], after: Sequence[int]) -> list[int]:
        """The tokens of both texts to those that the model goes on from; no BOS."""
        parts = [[self.prefix, *before], [self.suffix, *after]]
        if self.suffix_first:
            parts.reverse()
        tail = [] if self.middle is None else [self.middle]
        return [*parts[0], *parts[1], *tail]


def find(
    known: tuple[int, int, int] | None,
    special: Mapping[str, SpecialToken],
    metadata: Mapping[str, object],
    repository: tuple[int | None, int | None] = (None, None),
) -> Infill | None:
    """How the model fills gaps; None: it has no tokens for that.

    `known` is what llama.cpp says, by the metadata or the tokens' names: before the prefix, before
    the suffix, before the middle; `repository` too: before its name, before a file's. `metadata`
    is the GGUF's.
    """
    ends = frozenset(special[text].id for text in _ENDS if text in special)
    if known is not None:
        prefix, suffix, middle = known
        names = " ".join(
            str(metadata.get(key, "")) for key in ("general.name", "general.basename")
        ).lower()
        suffix_first = any(name in names for name in _SUFFIX_FIRST_NAMES)
        ends |= {prefix, suffix, middle, *(token for token in repository if token is not None)}
        return Infill(prefix, suffix, middle, suffix_first, ends, *repository)
    for texts in _SUFFIX_FIRST:
        if not all(text in special for text in texts if text):
            continue
        ids = [special[text].id if text else None for text in texts]
        before, after, between = ids
        assert before is not None
        assert after is not None
        own = frozenset(token for token in ids if token is not None)
        return Infill(before, after, between, suffix_first=True, ends=ends | own)
    return None
