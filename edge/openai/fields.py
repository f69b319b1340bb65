"""What the request models are made of: their base, and unions that fail with a useful error.

Unions are chosen by callable discriminators whose tags begin with `~`, so that
`edge.openai.invalid` can leave them out of the path of an error.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, Tag

T = TypeVar("T")
# Characters of a client's key that an error shows.
_LONGEST_KEY = 64


class Part(BaseModel):
    """Base of everything in a body: no coercion (a bool is no int, "5" is no int), no NaN."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    # Keys that the API has, too, and that mean nothing here: known where unknown ones are refused.
    # None: any key.
    beside: ClassVar[frozenset[str] | None] = frozenset()


def unknown(part: Part, given: Any) -> tuple[str | int, ...] | None:
    """Where the first key is that nothing in a part knows; None if there is none.

    `given` is what the part was made of.
    """
    if not isinstance(given, dict):
        return None
    fields = {field.alias or name: name for name, field in type(part).model_fields.items()}
    for key, value in given.items():
        if key in fields:
            inside = _unknown_in(getattr(part, fields[key]), value)
            if inside is not None:
                return key, *inside
        elif part.beside is not None and key not in part.beside and key not in fields.values():
            return (key[:_LONGEST_KEY],)
    return None


def _unknown_in(made: Any, given: Any) -> tuple[str | int, ...] | None:
    if isinstance(made, Part):
        return unknown(made, given)
    if isinstance(made, list) and isinstance(given, list):
        for at, (one, raw) in enumerate(zip(made, given, strict=False)):
            inside = _unknown_in(one, raw)
            if inside is not None:
                return at, *inside
    return None


class _First(FailFast):
    """Stops a list at its first error: a body full of errors would take seconds and megabytes."""

    # typing's `|` needs members that hash, which the dataclass it derives from does not.
    __hash__ = object.__hash__


FIRST = _First()
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", min_length=1, max_length=64)]
Object = dict[str, Any]


def tagged(key: str, known: frozenset[str]) -> Discriminator:
    """Chooses by the string under `key`; what is not known is left to the `~other` member."""

    def choose(value: Any) -> str:
        found = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        return f"~{found}" if isinstance(found, str) and found in known else "~other"

    return Discriminator(choose)


def string_or(member: type, tag: str, wanted: str) -> Discriminator:
    """Chooses between a string and `member`; anything else is an error that says `wanted`."""

    def choose(value: Any) -> str | None:
        if isinstance(value, str):
            return "~string"
        return tag if isinstance(value, member) else None

    return Discriminator(
        choose,
        custom_error_type="wanted",
        custom_error_message=wanted,
    )


# What content is: a string, or parts.
StringOrArray = Annotated[
    Annotated[str, Tag("~string")] | Annotated[T, Tag("~array")],
    string_or(list, "~array", "one of a string or array of objects"),
]
