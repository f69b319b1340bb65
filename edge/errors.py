"""Every error a client can see: one table from a worker's failure to OpenAI's error body.

No I/O. The rows follow OpenAI's own answers. Workers know no HTTP status: only the edge has any.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc

from common.transport import Failure
from protos.inference.v1 import inference_pb2 as pb

INVALID_REQUEST: Final = "invalid_request_error"
SERVER_ERROR: Final = "server_error"

# Seconds a client is told to wait where no worker said a figure.
DEFAULT_RETRY_AFTER: Final = 1.0


class ApiError(Exception):
    """A request that ends with an error, as OpenAI's clients expect to see it.

    `retry_after` is in seconds; None sends no Retry-After header.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after = retry_after
        # Of the request, for APIs whose bodies tell it; set when the error is written.
        self.request_id = ""

    def body(self) -> dict[str, Any]:
        """The JSON body: all four keys, always."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def headers(self) -> dict[str, str]:
        """Headers that belong to the error; `retry-after` is in whole seconds, at least 1."""
        if self.status == 401:
            return {"WWW-Authenticate": 'Bearer realm="caravan"'}
        if self.retry_after is None:
            return {}
        return {
            "Retry-After": str(max(1, math.ceil(self.retry_after))),
            "retry-after-ms": str(max(1, round(self.retry_after * 1000))),
        }


# How an API writes an error's body.
Shape = Callable[[ApiError], dict[str, Any]]
# The status that an API has for an error.
Status = Callable[[ApiError], int]


def own_status(error: ApiError) -> int:
    """OpenAI's."""
    return error.status


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request itself is at fault."""
    return ApiError(400, message, param=param, code=code)


def no_key() -> ApiError:
    """401: keys are needed, and none was sent."""
    return ApiError(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header "
        "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
    )


def wrong_key() -> ApiError:
    """401: nobody has this key. It is not repeated: it may be somebody's elsewhere."""
    return ApiError(401, "Incorrect API key provided.", code="invalid_api_key")


def model_not_found(model: str) -> ApiError:
    """404: no worker has ever said that it serves this model."""
    return ApiError(
        404,
        f"The model `{model[:200]}` does not exist or you do not have access to it.",
        code="model_not_found",
    )


def unknown_url(method: str, path: str) -> ApiError:
    """404: no such route."""
    return ApiError(404, f"Invalid URL ({method} {path[:200]})")


def wrong_method(method: str, path: str) -> ApiError:
    """405: the route exists, with other methods."""
    return ApiError(
        405,
        f"Not allowed to {method} on {path[:200]}. "
        "(HINT: Perhaps you meant to use a different HTTP method?)",
    )


def too_large(limit: int) -> ApiError:
    """413: the body has more than `limit` bytes."""
    return ApiError(413, f"Request body too large. The maximum is {limit} bytes.")


def unsupported_encoding() -> ApiError:
    """415: the body is compressed in a way that is not understood here."""
    return ApiError(415, "Unsupported Content-Encoding: only gzip and deflate are understood.")


def unknown_expectation() -> ApiError:
    """417: the request expects something else than `100-continue`."""
    return ApiError(417, "Unknown Expect: only 100-continue is understood.")


def too_slow() -> ApiError:
    """408: the request did not arrive in time."""
    return ApiError(408, "The request did not arrive in time.")


def unavailable(message: str) -> ApiError:
    """503: overloaded, draining, or no worker."""
    return ApiError(
        503,
        message,
        kind=SERVER_ERROR,
        code="service_unavailable",
        retry_after=DEFAULT_RETRY_AFTER,
    )


def no_worker() -> ApiError:
    """503: nothing can answer now."""
    return unavailable("No worker is available to serve this request. Please try again later.")


def shutting_down() -> ApiError:
    """503: this process is about to end."""
    return unavailable("The server is shutting down. Please retry your request.")


def timed_out() -> ApiError:
    """504: the deadline of the request, or no progress for too long."""
    return ApiError(504, "The request timed out.", kind=SERVER_ERROR, code="timeout")


def internal() -> ApiError:
    """500, saying nothing: the log has the details."""
    return ApiError(
        500,
        "The server had an error while processing your request. Sorry about that!",
        kind=SERVER_ERROR,
        code="internal_error",
    )


@dataclass(frozen=True, slots=True)
class Row:
    """What a failure becomes. `message` None: the worker's own words are meant for the client."""

    status: int
    kind: str = SERVER_ERROR
    code: str | None = None
    param: str | None = None
    message: str | None = None
    retry: bool = False


_ANY: Final = pb.ERROR_REASON_UNSPECIFIED
_UNAVAILABLE = Row(
    503,
    code="service_unavailable",
    message="The server is overloaded or not ready yet. Please try again later.",
    retry=True,
)
_LOST = Row(
    503,
    code="service_unavailable",
    message="The connection to the worker was lost. Please retry your request.",
    retry=True,
)
_INTERNAL = Row(500, code="internal_error", message=internal().message)
_TIMEOUT = Row(504, code="timeout", message=timed_out().message)

# The row of (status, reason), else of (status, any reason), else _INTERNAL.
TABLE: Final[dict[tuple[grpc.StatusCode, pb.ErrorReason.ValueType], Row]] = {
    (grpc.StatusCode.INVALID_ARGUMENT, pb.ERROR_REASON_INVALID_FIELD): Row(
        400, INVALID_REQUEST, "invalid_value"
    ),
    (grpc.StatusCode.INVALID_ARGUMENT, pb.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED): Row(
        400, INVALID_REQUEST, "context_length_exceeded", "messages"
    ),
    (grpc.StatusCode.INVALID_ARGUMENT, pb.ERROR_REASON_TEMPLATE_FAILED): Row(
        400, INVALID_REQUEST, "invalid_value", "messages"
    ),
    (grpc.StatusCode.INVALID_ARGUMENT, pb.ERROR_REASON_CONSTRAINT_FAILED): Row(
        400, INVALID_REQUEST, "invalid_value"
    ),
    (grpc.StatusCode.INVALID_ARGUMENT, _ANY): Row(400, INVALID_REQUEST),
    (grpc.StatusCode.UNIMPLEMENTED, pb.ERROR_REASON_UNSUPPORTED): Row(
        400, INVALID_REQUEST, "unsupported_parameter"
    ),
    (grpc.StatusCode.FAILED_PRECONDITION, pb.ERROR_REASON_MODEL_MISMATCH): _UNAVAILABLE,
    (grpc.StatusCode.RESOURCE_EXHAUSTED, pb.ERROR_REASON_QUEUE_FULL): _UNAVAILABLE,
    # Without a reason it is the transport's: a message above the size limit.
    (grpc.StatusCode.RESOURCE_EXHAUSTED, _ANY): Row(
        413, INVALID_REQUEST, message="The request is too large."
    ),
    (grpc.StatusCode.UNAVAILABLE, pb.ERROR_REASON_DRAINING): _UNAVAILABLE,
    (grpc.StatusCode.UNAVAILABLE, pb.ERROR_REASON_LOADING): _UNAVAILABLE,
    (grpc.StatusCode.UNAVAILABLE, _ANY): _LOST,
    (grpc.StatusCode.CANCELLED, _ANY): _LOST,
    (grpc.StatusCode.DEADLINE_EXCEEDED, pb.ERROR_REASON_DEADLINE): _TIMEOUT,
    (grpc.StatusCode.DEADLINE_EXCEEDED, _ANY): _TIMEOUT,
    (grpc.StatusCode.INTERNAL, _ANY): _INTERNAL,
}

# The contract's field, up to the first dot or bracket that matters, and OpenAI's name for it.
_FIELDS: Final[dict[str, str]] = {
    "stop.max_tokens": "max_tokens",
    "stop.strings": "stop",
    "stop.token_ids": "stop_token_ids",
    "chat.template_args_json": "chat_template_kwargs",
    "chat.documents_json": "documents",
    "cache_namespace": "cache_salt",
    # The commonest of the names that clients have for these.
    "constraint.regex": "guided_regex",
    "constraint.choice.values": "guided_choice",
    "constraint.choice": "guided_choice",
    "constraint.gbnf": "guided_grammar",
    "constraint.lark": "guided_grammar",
}
_PREFIXES: Final = ("sampling.", "stop.", "output.", "chat.")
# Inside of messages and tools.
_INSIDE: Final = (
    (re.compile(r"\]\.parameters_json_schema"), "].function.parameters"),
    (re.compile(r"(\.tool_calls\[\d+\])\.arguments_json"), r"\1.function.arguments"),
    (re.compile(r"((?:^tools|\.tool_calls)\[\d+\])\.name"), r"\1.function.name"),
)

_CAPABILITY_PARAMS: Final[dict[str, str]] = {
    "CHAT": "messages",
    "TOOLS": "tools",
    "REASONING": "chat_template_kwargs",
    "LOGPROBS": "logprobs",
    "CONSTRAINT": "response_format",
    "MULTIPLE_CHOICES": "n",
    "BEST_OF": "best_of",
    "IMAGE": "messages",
    "AUDIO": "messages",
    "EXTENDED_SAMPLING": "typical_p",
    # Whole RPCs: another model may do it.
    "EMBED": "model",
    "RERANK": "model",
    "TOKENIZE": "model",
}


def field_param(field: str) -> str | None:
    """OpenAI's name of a field of the contract; None for fields that no client sets."""
    if not field:
        return None
    for name, param in _FIELDS.items():
        if field == name or field.startswith((name + "[", name + ".")):
            return param + field[len(name) :]
    if field.startswith("constraint"):
        return "response_format"
    for prefix in _PREFIXES:
        if field.startswith(prefix):
            param = field.removeprefix(prefix)
            for theirs, ours in _INSIDE:
                param = theirs.sub(ours, param)
            return param
    return field if field in ("n", "best_of", "adapter") else None


def wrong_field(param: str, words: str) -> str:
    """What a worker says of a field, as a sentence about the parameter."""
    return f"Invalid '{param}': {words.removesuffix('.')}."


@dataclass(frozen=True, slots=True)
class Names:
    """What an API calls the things of the contract that a failure may be about.

    `prompt` is the parameter that is too long; `field` names a field by its path in the contract;
    `overflow` says it of a prompt by the context's length and the prompt's, both in tokens;
    `wrong` says what is wrong with a parameter, by its name and a worker's words.
    """

    prompt: str = "messages"
    field: Callable[[str], str | None] = field_param
    overflow: Callable[[str, str], str] | None = None
    wrong: Callable[[str, str], str] = wrong_field


CHAT: Final = Names()


def from_failure(failure: Failure, names: Names = CHAT) -> ApiError:
    """What a client sees of a worker's failure, in its API's names."""
    row = TABLE.get((failure.code, failure.reason)) or TABLE.get((failure.code, _ANY), _INTERNAL)
    param = row.param
    message = row.message if row.message is not None else failure.message
    match failure.reason:
        case pb.ERROR_REASON_INVALID_FIELD | pb.ERROR_REASON_CONSTRAINT_FAILED:
            param = names.field(failure.metadata.get("field", ""))
            if param and message:
                message = names.wrong(param, message)
        case pb.ERROR_REASON_UNSUPPORTED:
            param = _CAPABILITY_PARAMS.get(failure.metadata.get("capability", ""))
        case pb.ERROR_REASON_TEMPLATE_FAILED:
            param = names.prompt
        case pb.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED:
            param = names.field(failure.metadata.get("field", "")) or names.prompt
            lengths = failure.metadata.get("context_length", "?"), _prompt_tokens(failure)
            said = names.overflow
            message = said(*lengths) if said else context_overflow(*lengths, param)
    retry = failure.retry_after if failure.retry_after is not None else DEFAULT_RETRY_AFTER
    return ApiError(
        row.status,
        message or "The request is invalid.",
        kind=row.kind,
        param=param,
        code=row.code,
        retry_after=retry if row.retry else None,
    )


def _prompt_tokens(failure: Failure) -> str:
    """How many tokens a prompt has that does not fit, as far as the worker knows."""
    count = failure.metadata.get("prompt_tokens", "")
    if failure.metadata.get("lower_bound") == "true" and count.isdecimal():
        return f"more than {int(count) - 1}"
    return count or "?"


def context_overflow(context_length: str, prompt_tokens: str, param: str) -> str:
    """OpenAI's words for a prompt that does not fit, with both numbers."""
    return (
        f"This model's maximum context length is {context_length} tokens. However, your {param} "
        f"resulted in {prompt_tokens} tokens. Please reduce the length of the {param}."
    )
