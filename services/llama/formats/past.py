"""Calls that were made, as their family writes them: for templates that show none. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from services.llama.formats import heads
from services.llama.formats.description import Format, Json, Literals
from services.llama.formats.grammar import Unsupported, body_of, shape

# A text, and whether it is the family's own and no user's.
Piece = tuple[str, bool]


def written(family: Format, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Piece] | None:
    """Names with arguments, as one answer.

    None where that is not known: calls that no marker tells from content, more than one where an
    answer holds one, and arguments between tags (the templates of all such families show calls).
    """
    try:
        how = shape(family)
    except Unsupported:
        return None
    body = body_of(family)
    python = isinstance(body, Literals) and body.escapes
    if len(calls) > 1 and not how.several:
        return None
    if family.channels is not None or not (python or isinstance(body, Json)):
        return None
    if not (family.calls[0].open or family.calls[0].call_open):
        return None
    pieces: list[Piece] = [(how.begin, True)]
    for at, (name, arguments) in enumerate(calls):
        if at:
            pieces.append((how.between, True))
        pieces += heads.filled(how.before, name=name, index=str(at), id=f"{at:09}")
        text = (
            _members(body, arguments)
            if isinstance(body, Literals)
            else json.dumps(arguments, ensure_ascii=False)
        )
        pieces += [(text, False), (how.after, True)]
    pieces.append((how.end, True))
    return [piece for piece in pieces if piece[0]]


def _members(shape: Literals, arguments: Mapping[str, Any]) -> str:
    each = (f"{key}{shape.assign}{_literal(shape, value)}" for key, value in arguments.items())
    return f"{shape.open}{shape.separator.join(each)}{shape.close}"


def _literal(shape: Literals, value: Any) -> str:
    match value:
        case bool():
            return shape.constants[0 if value else 1]
        case None:
            return shape.constants[2]
        case list():
            return f"[{', '.join(_literal(shape, each) for each in value)}]"
        case dict():
            members = (
                f"{json.dumps(key, ensure_ascii=False)}: {_literal(shape, each)}"
                for key, each in value.items()
            )
            return f"{{{', '.join(members)}}}"
        case _:
            return json.dumps(value, ensure_ascii=False)
