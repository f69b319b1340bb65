"""What images and sounds were encoded to, by their content: the same one costs nothing again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from services.llama.interface import Vectors
from services.llama.media.layout import Shape


@dataclass(frozen=True, slots=True)
class Encoded:
    """A content as the model gets it."""

    # In order: tokens, or what a piece of it takes.
    parts: Sequence[list[int] | Shape]
    # Of each Shape.
    vectors: Sequence[Vectors]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(vectors.nbytes for vectors in self.vectors)


class EncodedCache:
    """Least recently used go first. Safe to use from any thread."""

    def __init__(self, limit: int) -> None:
        """`limit` in bytes; 0: nothing is kept."""
        self._limit = limit
        self._found: OrderedDict[bytes, Encoded] = OrderedDict()
        self._lock = threading.Lock()
        # Bytes of all of it.
        self.used = 0

    def __len__(self) -> int:
        return len(self._found)

    def get(self, digest: bytes) -> Encoded | None:
        """What this content was encoded to, if it is there."""
        with self._lock:
            found = self._found.get(digest)
            if found is not None:
                self._found.move_to_end(digest)
            return found

    def put(self, digest: bytes, encoded: Encoded) -> None:
        """Keeps it, if it is not larger than all that may be kept."""
        if encoded.size > self._limit:
            return
        with self._lock:
            if digest in self._found:
                return
            self._found[digest] = encoded
            self.used += encoded.size
            while self.used > self._limit:
                _, gone = self._found.popitem(last=False)
                self.used -= gone.size
