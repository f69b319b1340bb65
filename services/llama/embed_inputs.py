"""A text, token ids, or a query and a document to the token ids that an embedding model reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.llama.interface import Vocabulary
from services.llama.pooling import Tokens
from services.worker.errors import ContextLengthExceeded, InvalidField

# Tokens beyond the context that a text to be cut is tokenized to: where it is cut off before, the
# last tokens are others than those of the whole text.
_MARGIN = 64
_PLACES = re.compile(r"\{query\}|\{document\}")


@dataclass(frozen=True, slots=True)
class Joining:
    """What the model's metadata puts around texts, and between a query and a document."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    pair_begin: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    pair_end: tuple[int, ...] = ()
    # The model's own text with `{query}` and `{document}`; instead of the last three.
    template: str | None = None
    # Whether a text's number of tokens cannot be less than its bytes by the longest token's.
    covers: bool = True


class Inputs:
    """Makes token lists for one model. Safe to use from any thread; none of it belongs on the loop."""

    def __init__(self, vocabulary: Vocabulary, joining: Joining, context: int) -> None:
        """`context` is the longest input in tokens."""
        self._vocabulary = vocabulary
        self._joining = joining
        self._context = context
        self._pieces = list(_template_pieces(joining.template or "", vocabulary))

    def text(self, field: str, text: str, *, truncate: bool) -> Tokens:
        """A text with what the model wants around it.

        Cut, it keeps what stands after it. Raises ContextLengthExceeded and InvalidField.
        """
        before, after = self._joining.before, self._joining.after
        inner = self._tokenize(field, text, truncate=truncate)
        room = self._context - len(before) - len(after)
        if truncate:
            inner = inner[: max(0, room)]
        return self._checked(field, [*before, *inner, *after])

    def token_ids(self, field: str, ids: Sequence[int], *, truncate: bool) -> Tokens:
        """Token ids as they are. Raises ContextLengthExceeded."""
        return self._checked(field, ids[: self._context] if truncate else ids)

    def pair(self, field: str, query: str, document: str) -> Tokens:
        """What a reranker reads. Raises ContextLengthExceeded."""
        given = {"{query}": query, "{document}": document}
        if self._joining.template is None:
            tokens = [
                *self._joining.pair_begin,
                *self._tokenize("query", query),
                *self._joining.between,
                *self._tokenize(field, document),
                *self._joining.pair_end,
            ]
            return self._checked(field, tokens)
        tokens = []
        for piece in self._pieces:
            if isinstance(piece, int):
                tokens.append(piece)
            else:
                # With the template's words around it: a space belongs to the word after it.
                text = _PLACES.sub(lambda found: given[found.group()], piece)
                tokens += self._tokenize(field, text)
        return self._checked(field, tokens)

    def _tokenize(self, field: str, text: str, *, truncate: bool = False) -> list[int]:
        """Control tokens' texts are letters here: the texts are a user's."""
        if self._joining.covers:
            data = text.encode()
            longest = self._vocabulary.longest
            if truncate:
                most = (self._context + _MARGIN) * longest
                text = text if len(data) <= most else data[:most].decode("utf-8", "ignore")
            elif len(data) // longest > self._context:
                # Some texts take time that grows with the square of their length.
                least = len(data) // longest
                raise ContextLengthExceeded(least, self._context, field=field, lower_bound=True)
        return self._vocabulary.tokenize(text, parse_special=False)

    def _checked(self, field: str, tokens: Sequence[int]) -> Tokens:
        if len(tokens) > self._context:
            raise ContextLengthExceeded(len(tokens), self._context, field=field)
        if not tokens:
            raise InvalidField(field, "has no tokens")
        return np.array(tokens, np.int32)


def _template_pieces(template: str, vocabulary: Vocabulary) -> Iterator[str | int]:
    """The template's control tokens as ids, the texts between them as they are."""
    names = sorted(vocabulary.special, key=len, reverse=True)
    if not names:
        yield template
        return
    for piece in re.split(f"({'|'.join(map(re.escape, names))})", template):
        if piece in vocabulary.special:
            yield vocabulary.special[piece].id
        elif piece:
            yield piece
