"""What the description says differently for one edge than for another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """`default_model`: a request may name none; `strict`: unknown keys are refused; `keys`: one is needed."""

    version: str
    default_model: bool = False
    strict: bool = False
    keys: bool = False
