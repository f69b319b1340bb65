"""What the shared parameters of a generation must satisfy together. Pure."""

from __future__ import annotations

from edge.errors import ApiError, invalid
from edge.openai.sampling_fields import Sampled


def check(request: Sampled) -> None:
    """Raises ApiError 400."""
    for key in request.logit_bias or ():
        # isdecimal alone also allows digits of other scripts, which int() would take.
        if not (key.isascii() and key.isdecimal() and len(key) <= 10 and int(key) < 2**31):
            raise invalid(
                f"Invalid key in 'logit_bias': {key[:32]}. You should only be submitting "
                "non-negative integers.",
                "logit_bias",
                "invalid_value",
            )
    for name, other in (("stop", "stop_sequence"), ("repetition_penalty", "repeat_penalty")):
        if getattr(request, name) is not None and getattr(request, other) is not None:
            raise not_both(name, other)


def at_least_n(best_of: int | None, n: int | None) -> None:
    """Raises ApiError 400 where fewer candidates are asked for than choices."""
    if best_of is not None and best_of < (n or 1):
        raise invalid("Invalid value for 'best_of': it must be at least 'n'.", "best_of")


def not_both(name: str, other: str) -> ApiError:
    """Two parameters that exclude each other; the second is named as wrong."""
    return invalid(
        f"Setting '{name}' and '{other}' at the same time is not supported.",
        other,
        "invalid_parameter_combination",
    )
