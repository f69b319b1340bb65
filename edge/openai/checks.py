"""What every endpoint's body is checked for, in OpenAI's order: model, unknown keys, fields. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from edge.errors import ApiError, invalid
from edge.openai import invalid as say
from edge.openai.fields import Part, unknown
from protos.inference.v1 import inference_pb2 as pb

Body = TypeVar("Body", bound=Part)


def with_model(body: dict[str, Any], default: str = "", of_path: str = "") -> dict[str, Any]:
    """The body with its model: the path's before its own, before the default.

    Raises ApiError 400 where there is none.
    """
    if of_path:
        return {**body, "model": of_path}
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise say.wrong_type("model", "a string", model)
    if model:
        return body
    if not default:
        raise invalid("you must provide a model parameter")
    return {**body, "model": default}


def validate(kind: type[Body], body: dict[str, Any], strict: bool = False) -> Body:
    """The body as its pydantic model; `strict` refuses unknown keys, those of its objects last.

    Raises ApiError 400.
    """
    if strict:
        known = kind.model_fields
        aliases = {field.alias for field in known.values()}
        for name in body:
            if name not in known and name not in aliases:
                raise say.unknown_parameter(name)
    try:
        request = kind.model_validate(body)
    except ValidationError as error:
        raise say.from_validation(error, _exactly(kind, body, error)) from None
    inside = unknown(request, body) if strict else None
    if inside is not None:
        raise say.unknown_parameter(say.path(inside))
    return request


def _exactly(
    kind: type[Part], body: dict[str, Any], error: ValidationError
) -> ValidationError | None:
    """What would be wrong if an integer beyond 64 bits had not been parsed as a decimal number."""
    first = error.errors(include_url=False)[0]
    value, where = first["input"], [part for part in first["loc"] if not str(part).startswith("~")]
    if first["type"] != "int_type" or not isinstance(value, float) or abs(value) < 2**63:
        return None
    try:
        kind.model_validate(_with(body, where, int(value)))
    except ValidationError as exact:
        return exact if exact.errors()[0]["loc"] == first["loc"] else None
    return None


def _with(given: Any, where: Sequence[int | str], value: Any) -> Any:
    """A copy with the value there."""
    if not where:
        return value
    copied: Any = given.copy()
    copied[where[0]] = _with(given[where[0]], where[1:], value)
    return copied


def only_if_enabled(field: str, switch: str) -> ApiError:
    """A field that means nothing while its switch is off."""
    return invalid(f"The '{field}' parameter is only allowed when '{switch}' is enabled.", field)


def only_with(field: str, other: str, how: str) -> ApiError:
    """A field that needs another one."""
    return invalid(
        f"Invalid value for '{field}': '{field}' is only allowed when '{other}' {how}.", field
    )


def unsupported(param: str, why: str) -> ApiError:
    """400: a parameter that cannot be ignored."""
    return invalid(f"Unsupported parameter: '{param}'. {why}", param, "unsupported_parameter")


def able(model: pb.ModelInfo, capability: pb.Capability.ValueType, what: str) -> None:
    """Raises ApiError 400 where the model lacks what the endpoint is for."""
    if capability not in model.capabilities:
        raise invalid(
            f"The model '{model.name}' does not support {what}.", "model", "unsupported_parameter"
        )
