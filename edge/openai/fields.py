"""What the request models are made of: their base, and unions that fail with a useful error.

Unions are chosen by callable discriminators whose tags begin with `~`, so that
`edge.openai.invalid` can leave them out of the path of an error.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, Tag

T = TypeVar("T")


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
