"""How llguidance is asked, the same by every grammar here: JSON's white space, strings of Lark. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

# Options of JSON in any grammar.
JSON: Final[dict[str, Any]] = {
    # Once between any two parts: a space, or a new line with its indentation. Endless white space is
    # what small models fall into.
    "whitespace_pattern": r"[ ]|\n[ \t]{0,20}",
    # No \uXXXX: a property's name could be spelled with it, and so be there twice.
    "json_allowed_escapes": 'nrbtf\\"',
    "lenient": False,
    "coerce_one_of": False,
}


def string(text: str) -> str:
    """The text as a string of a Lark grammar."""
    # JSON's escapes are Lark's, but it has none for this character.
    return json.dumps(text).replace("\x7f", "\\u007f")
