"""Access by key: who has one is known by its name, who has none is refused. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from edge import errors
from edge.access.identity import Identity, Open
from edge.access.keys import KeyRing

# Where clients put a key: OpenAI's, Azure's, Anthropic's, and that of the Azure event proxy.
_OTHERS: Final = ("api-key", "x-api-key", "openai-event-code")
HEADERS: Final = ("Authorization", *_OTHERS)


class Keyed(Open):
    """State: the keys that count now, replaced as a whole when they are read again."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring

    async def identify(self, headers: Mapping[str, str]) -> Identity:
        """Whose key is among these headers. Raises ApiError 401."""
        missing = True
        for key in presented(headers):
            missing = False
            name = self.ring.find(key)
            if name is not None:
                return Identity(name)
        raise errors.no_key() if missing else errors.wrong_key()


def presented(headers: Mapping[str, str]) -> Iterator[str]:
    """The keys that a request brings; `Authorization` may do without its `Bearer`."""
    scheme, _, rest = headers.get("Authorization", "").strip().partition(" ")
    key = rest.strip() if scheme.lower() == "bearer" else f"{scheme} {rest}".strip()
    if key:
        yield key
    for name in _OTHERS:
        key = headers.get(name, "").strip()
        if key:
            yield key
