"""What every endpoint's body is checked for, in OpenAI's order: model, unknown keys, fields. Pure."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from edge.errors import ApiError, invalid
from edge.openai import invalid as say
from edge.openai.fields import Part
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
    """The body as its pydantic model; `strict` refuses unknown keys. Raises ApiError 400."""
    if strict:
        known = kind.model_fields
        aliases = {field.alias for field in known.values()}
        for name in body:
            if name not in known and name not in aliases:
                raise say.unknown_parameter(name)
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise say.from_validation(error) from None


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
