"""The signature of a thinking block. Clients give it back; it is what they could not read, or a name.

Thoughts are the client's to change as any other text of its prompt, so nothing is verified.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

_NAMED: Final = "caravan1."
_SEALED: Final = "caravan1t."


def of(thinking: str, *, shown: bool) -> str:
    """The signature of these thoughts; where they are not shown it carries them."""
    if shown:
        digest = hashlib.sha256(thinking.encode()).digest()
        return _NAMED + base64.urlsafe_b64encode(digest).decode()
    return _SEALED + base64.urlsafe_b64encode(thinking.encode()).decode()


def thoughts(thinking: str, signature: str) -> str:
    """What was thought: as shown, or as the signature carries it."""
    if thinking or not signature.startswith(_SEALED):
        return thinking
    try:
        return base64.urlsafe_b64decode(signature.removeprefix(_SEALED)).decode()
    except (binascii.Error, ValueError):
        # Another server's, or a damaged one: thoughts are no condition for an answer.
        return ""
