"""Fill-in-the-middle: the tokens around the texts before and after a gap, and their order; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
) -> Infill | None:
    """How the model fills gaps; None: it has no tokens for that.

    `known` is what llama.cpp says, by the metadata or the tokens' names: before the prefix, before
    the suffix, before the middle. `metadata` is the GGUF's.
    """
    ends = frozenset(special[text].id for text in _ENDS if text in special)
    if known is not None:
        prefix, suffix, middle = known
        names = " ".join(
            str(metadata.get(key, "")) for key in ("general.name", "general.basename")
        ).lower()
        suffix_first = any(name in names for name in _SUFFIX_FIRST_NAMES)
        return Infill(prefix, suffix, middle, suffix_first, ends | {prefix, suffix, middle})
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
