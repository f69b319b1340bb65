"""Finding markers in a text that is still growing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

# White space at a marker belongs to it, as far as any family would write it; and so much of it is
# held back at the end of a text.
SPACE = " \t\r\n"
MAX_SPACE = 16
_S = r"[ \t\r\n]"
_NEVER = "(?!)"


class Markers:
    """A set of texts to look for. Patterns match from the white space before one.

    Group "full" is a whole marker, group "bare" a character that begins a bare call. A match with
    neither is what may become one, to the end of the text; `…_end` patterns have none of these.
    Of markers of which one begins another the longest is found, as soon as that is certain.
    """

    __slots__ = ("here", "here_end", "next", "next_end")

    def __init__(self, texts: tuple[str, ...], bare: str, spaces: int) -> None:
        """`bare` characters count at the beginning of a line only, and right `here`."""
        space = f"{_S}{{0,{spaces}}}"
        full = "|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or _NEVER
        full = f"(?P<full>{full})"
        begun = f"(?:{beginnings(texts)})\\Z"
        opener = f"(?P<bare>[{re.escape(bare)}])" if bare else f"(?P<bare>{_NEVER})"
        line = f"{_S}{{0,{spaces}}}\\n[ \\t]{{0,{spaces}}}{opener}|" if bare else ""
        rest = f"|{_S}{{1,{spaces}}}\\Z" if spaces else ""
        self.next = re.compile(f"{line}{space}(?:{begun}|{full}){rest}")
        self.next_end = re.compile(f"{line}{space}{full}")
        self.here = re.compile(f"{space}(?:{begun}|{full}|{opener}|\\Z)")
        self.here_end = re.compile(f"{space}(?:{full}|{opener})")


@lru_cache(maxsize=512)
def markers(texts: frozenset[str], bare: str = "", spaces: int = MAX_SPACE) -> Markers:
    """The compiled set; kept, because there are few."""
    return Markers(tuple(sorted(texts)), bare, spaces)


def beginnings(texts: Iterable[str]) -> str:
    """A pattern of what is the beginning of one of the texts, but none of them in whole."""
    rests: dict[str, list[str]] = {}
    for text in texts:
        if len(text) > 1:
            rests.setdefault(text[0], []).append(text[1:])
    found = []
    for first, behind in sorted(rests.items()):
        inner = beginnings(behind)
        found.append(re.escape(first) + (f"(?:{inner})?" if inner != _NEVER else ""))
    return "|".join(found) or _NEVER
