"""Who asks, and what the edge wants to know of an access system about that. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. `name` is the tenant of the workers and stands in logs: never a credential."""

    # Visible ASCII, at most 128; empty: nobody in particular.
    name: str = ""


ANONYMOUS: Final = Identity()
NO_HEADERS: Final[Mapping[str, str]] = {}


class Access(Protocol):
    """What is asked for every request of an API, in this order."""

    async def identify(self, headers: Mapping[str, str]) -> Identity:
        """Who sends these headers; the body is not read yet. Raises ApiError 401."""
        ...

    def admit(self, identity: Identity, model: str) -> Mapping[str, str]:
        """Whether that one may use the model now; headers of the answer that say what is left.

        Asked once the body was read and checked. Raises ApiError 403, 429.
        """
        ...

    def used(self, identity: Identity, model: str, prompt: int, completion: int) -> None:
        """Tokens of a request that a worker admitted; `completion` is 0 of one that was cut off."""
        ...


class Open:
    """Nobody is asked, nothing is limited."""

    async def identify(self, headers: Mapping[str, str]) -> Identity:
        """See Access."""
        del headers
        return ANONYMOUS

    def admit(self, identity: Identity, model: str) -> Mapping[str, str]:
        """See Access."""
        del identity, model
        return NO_HEADERS

    def used(self, identity: Identity, model: str, prompt: int, completion: int) -> None:
        """See Access."""
