"""Thoughts as an opaque text that a client carries along (`encrypted_content`). Pure.

It hides nothing: whoever asks for it has the thoughts in the open beside it. Clients that keep no
thoughts send back this and nothing else. It is not packed, so that opening it cannot cost more
than its length.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

_MARK: Final = "cvr1."
_DIGEST: Final = 8


def closed(text: str) -> str:
    """The opaque form of a text."""
    data = text.encode()
    return _MARK + base64.urlsafe_b64encode(_digest(data) + data).decode()


def opened(given: str) -> str | None:
    """The text; None where it was not closed here, or was cut."""
    if not given.startswith(_MARK):
        return None
    try:
        whole = base64.b64decode(given[len(_MARK) :], altchars=b"-_", validate=True)
        digest, data = whole[:_DIGEST], whole[_DIGEST:]
        return data.decode() if digest == _digest(data) else None
    except (binascii.Error, ValueError):
        return None


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_DIGEST]
