"""Which web pages may call from a browser (CORS): headers for a request's `Origin`. Pure.

Keys travel in headers that a page sets itself, never in cookies: credentials in CORS' sense are
not allowed to anybody.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

ANY: Final = "*"
ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/,]+")
_METHODS: Final = "GET, HEAD, POST, DELETE"
# What scripts may read of an answer's head, besides what CORS always shows.
_EXPOSED: Final = ", ".join(
    (
        "x-request-id",
        "request-id",
        "openai-model",
        "openai-processing-ms",
        "openai-version",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        *(
            f"x-ratelimit-{what}-{of}"
            for what in ("limit", "remaining", "reset")
            for of in ("requests", "tokens")
        ),
    )
)
_NAMES: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2000}")
# Seconds that a browser may remember it, which is the most that Chromium does.
_MAX_AGE: Final = "7200"


class Cors:
    """The rules for a set of origins; `*` among them: any; empty: none."""

    def __init__(self, origins: Collection[str]) -> None:
        self._any = ANY in origins
        self._origins = frozenset(origins)

    @property
    def varies(self) -> bool:
        """Whether answers depend on the origin, which caches must know."""
        return bool(self._origins) and not self._any

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """What every answer to a page of that origin says; None: no page asks."""
        allowed = self._allowed(origin)
        if allowed is None:
            return {}
        return {"Access-Control-Allow-Origin": allowed, "Access-Control-Expose-Headers": _EXPOSED}

    def preflight(self, method: str, headers: Mapping[str, str]) -> Mapping[str, str] | None:
        """What a browser is told that asks before it calls; None: this is no such question."""
        if (
            method != "OPTIONS"
            or "Access-Control-Request-Method" not in headers
            or self._allowed(headers.get("Origin")) is None
        ):
            return None
        told = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Max-Age": _MAX_AGE}
        wanted = headers.get("Access-Control-Request-Headers", "")
        # Every client has headers of its own, and none of them means anything dangerous here.
        return (
            {**told, "Access-Control-Allow-Headers": wanted} if _NAMES.fullmatch(wanted) else told
        )

    def _allowed(self, origin: str | None) -> str | None:
        if origin is None:
            return None
        if self._any:
            return ANY
        return origin if origin.lower() in self._origins else None
