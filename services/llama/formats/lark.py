"""Writes grammars in llguidance's Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from services.llama import guidance

_FIELDS = {"index": "/[0-9]{1,3}/", "id": "/[A-Za-z0-9]{9}/", "code": "/[a-z0-9]{10}/"}
_FIELD = re.compile(r"\{(name|id|code|index|key|string|type)\}")


class Lark:
    """Rules of one grammar."""

    def __init__(self, special: Mapping[str, int]) -> None:
        """`special` are the ids of special tokens by their text."""
        self._special = dict(special)
        longest = sorted(self._special, key=len, reverse=True)
        self._tokens = re.compile("|".join(map(re.escape, longest)) or "(?!)")
        self._rules: dict[str, str] = {}
        # Names by body: one rule for what is the same.
        self._known: dict[str, str] = {}

    def text(self) -> str:
        """The grammar."""
        return "".join(f"{name}: {body}\n" for name, body in self._rules.items())

    def rule(self, name: str, body: str) -> str:
        """A rule's name; "": one is made."""
        body = body.strip() or '""'
        if not name:
            if body in self._known:
                return self._known[body]
            name = f"r{len(self._rules)}"
            self._known[body] = name
        self._rules[name] = body
        return name

    def literal(self, text: str) -> str:
        """A text; "" for none."""
        found: list[str] = []
        at = 0
        for token in self._tokens.finditer(text):
            found += [_string(text[at : token.start()]), f"<[{self._special[token[0]]}]>"]
            at = token.end()
        return " ".join(part for part in [*found, _string(text[at:])] if part)

    def filled(self, text: str, **fields: str) -> str:
        """A text with fields, of which those that are not given are numbers and ids."""
        found: list[str] = []
        rest = ""
        for at, piece in enumerate(_FIELD.split(text)):
            if at % 2 and piece not in fields:
                found += [self.literal(rest), _FIELDS[piece]]
                rest = ""
            else:
                rest += fields[piece] if at % 2 else piece
        return " ".join(part for part in [*found, self.literal(rest)] if part)

    def json(self, schema: Mapping[str, Any]) -> str:
        """JSON by a schema."""
        return self.rule("", "%json " + json.dumps({"x-guidance": guidance.JSON, **schema}))

    def until(self, end: str) -> str:
        """Any text up to behind `end`."""
        token = self._tokens.search(end)
        if token:
            # No text holds a token: what is before it may be a part of the text.
            return f"{self.anything()} {self.literal(end[token.start() :])}"
        name = f"u{len(self._rules)}"
        key = f"[suffix={guidance.string(end)}]"
        if key not in self._known:
            self._known[key] = name
            self._rules[f"{name}{key}"] = "/(?s:.*)/"
        return self._known[key]

    def anything(self) -> str:
        """Any text."""
        return "/(?s:.*)/"


def _string(text: str) -> str:
    """Nothing for no text."""
    return guidance.string(text) if text else ""
