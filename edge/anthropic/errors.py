"""Errors as Anthropic's clients know them: types, statuses, words. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import ValidationError

from edge.errors import ApiError, Names, invalid

# Whoever sends it is one of Anthropic's clients, also where the path is OpenAI's as well.
VERSION_HEADER: Final = "anthropic-version"
# Where those look for the request's id.
REQUEST_ID_HEADER: Final = "request-id"

_KINDS: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
# By which the SDKs know that a conversation must be sent whole. They begin one that the server is to
# keep without being asked, wherever they run tools.
_NO_THREADS: Final = "thread_unsupported_request"
# Of a message: a tag that does not exist stands in it.
_LONGEST: Final = 1000


def status(error: ApiError) -> int:
    """The HTTP status: 529 is Anthropic's for overload."""
    return 529 if error.status == 503 else error.status


def body(error: ApiError) -> dict[str, Any]:
    """The JSON body, which is also the data of an error in a stream."""
    kind = "api_error" if error.status >= 500 else "invalid_request_error"
    message = error.message
    if error.param and error.param not in message:
        # There is no other place for it.
        message = f"{error.param}: {message}"
    told: dict[str, Any] = {"type": _KINDS.get(error.status, kind), "message": message}
    if error.code == _NO_THREADS:
        told["details"] = {"error_code": error.code}
    return {"type": "error", "error": told, "request_id": error.request_id or None}


def from_validation(error: ValidationError) -> ApiError:
    """The first error of a validation (400), with its path and pydantic's own words."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"] if not str(part).startswith("~"))
    if (first["type"], path) == ("too_short", "messages"):
        return wrong(path, "at least one message is required")
    return wrong(path, first["msg"])


def wrong(path: str, message: str) -> ApiError:
    """400: what is at this path is wrong."""
    return invalid(f"{path}: {message}"[:_LONGEST], path)


def no_threads() -> ApiError:
    """400: no conversation is kept here."""
    return invalid(
        "thread: This server keeps no conversations: send all messages, without `thread`.",
        "thread",
        _NO_THREADS,
    )


def too_long(context_length: str, prompt_tokens: str) -> str:
    """Of a prompt; coding agents look for these words, and then make it shorter."""
    return f"prompt is too long: {prompt_tokens} tokens > {context_length} maximum"


# Paths of the contract, and of whatever is in them, by Anthropic's names.
_FIELDS: Final = {
    # Which of them cannot be said: results of tools are messages of their own in the contract.
    "chat.messages": "messages",
    "chat.tools": "tools",
    "chat.tool_choice": "tool_choice",
    "chat.reasoning_budget": "thinking.budget_tokens",
    "chat.enable_thinking": "thinking",
    "constraint": "output_config.format.schema",
    "stop.strings": "stop_sequences",
    "stop.max_tokens": "max_tokens",
    "sampling.temperature": "temperature",
    "sampling.top_p": "top_p",
    "sampling.top_k": "top_k",
}
_INDEX: Final = re.compile(r"\[(\d+)\]")


def _field(path: str) -> str | None:
    for field, name in _FIELDS.items():
        if path == field or path.startswith((field + ".", field + "[")):
            if name != "tools":
                return name
            rest = path.removeprefix(field).replace("parameters_json_schema", "input_schema")
            return name + _INDEX.sub(r".\1", rest)
    return None


NAMES: Final = Names(
    prompt="prompt",
    field=_field,
    overflow=too_long,
    # `body` puts the parameter before it.
    wrong=lambda _, words: words,
)
