"""Whether two models mean the same by a token: a comparison, pure.

What a draft model guesses are numbers of tokens. The texts of answers do not depend on whether it
numbers them alike, but with another numbering no guess would ever come out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """A vocabulary. What is by token has one entry for each."""

    texts: tuple[bytes, ...]
    # As llama.cpp counts them: normal, control …
    kinds: tuple[int, ...]
    # Tokens that fill the table up, so that it has a convenient size.
    unused: frozenset[int]
    # -1: none.
    bos: int
    eos: int
    # Tokens that end a generation.
    ends: frozenset[int]


def difference(model: Words, draft: Words) -> str:
    """What speaks against guessing for the one with the other, in some words; empty: nothing."""
    both = min(len(model.texts), len(draft.texts))
    for longer in (model, draft):
        if not longer.unused.issuperset(range(both, len(longer.texts))):
            return f"it has {len(draft.texts)} tokens, the model {len(model.texts)}"
    for token in range(both):
        if model.texts[token] != draft.texts[token]:
            text, expected = _shown(draft.texts[token]), _shown(model.texts[token])
            return f"its token {token} is {text}, the model's is {expected}"
        if model.kinds[token] != draft.kinds[token]:
            what = _shown(draft.texts[token])
            return f"its token {token}, {what}, is of another type than the model's"
    for name, own, other in (("BOS", draft.bos, model.bos), ("EOS", draft.eos, model.eos)):
        if own != other:
            return f"its {name} is {_named(draft, own)}, the model's is {_named(model, other)}"
    for token in sorted(model.ends ^ draft.ends):
        whose = "its" if token in draft.ends else "the model's"
        return f"token {_named(model, token)} is only {whose} end of a text"
    return ""


def _named(words: Words, token: int) -> str:
    return f"{token} ({_shown(words.texts[token])})" if token >= 0 else "not set"


def _shown(text: bytes) -> str:
    """In one line, and not a long one."""
    return repr(text.decode("utf-8", "replace"))[:40]
