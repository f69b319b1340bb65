"""What a request for a response must satisfy as a whole, in OpenAI's order of checks and words. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from edge import errors
from edge.errors import ApiError, Names, invalid
from edge.openai import invalid as say
from edge.openai import sampling_rules
from edge.openai.checks import only_if_enabled, only_with, unsupported, validate, with_model
from edge.responses import ids
from edge.responses.request import (
    AllowedChoice,
    CountRequest,
    FunctionChoice,
    ResponseRequest,
)

Asked = TypeVar("Asked", ResponseRequest, CountRequest)


def read(
    body: dict[str, Any], default_model: str = "", strict: bool = False, of_path: str = ""
) -> ResponseRequest:
    """The request of a parsed body: model → input present → unknown keys → fields → rules.

    `default_model` is taken where neither the path nor the body names one; `strict` refuses
    unknown keys. Raises ApiError 400.
    """
    request = _read(ResponseRequest, body, default_model, strict, of_path)
    for rule in (_refused, _together, sampling_rules.check):
        rule(request)
    return request


def read_count(
    body: dict[str, Any], default_model: str = "", strict: bool = False, of_path: str = ""
) -> CountRequest:
    """As `read`, for a count of tokens."""
    return _read(CountRequest, body, default_model, strict, of_path)


def _read(
    kind: type[Asked], body: dict[str, Any], default_model: str, strict: bool, of_path: str
) -> Asked:
    body = with_model(body, default_model, of_path)
    if body.get("previous_response_id") == "":
        # As if it were absent: what is stored and told again must not name a response either.
        body = {**body, "previous_response_id": None}
    if body.get("input") is None and not body.get("previous_response_id"):
        raise invalid(
            'One of "input" or "previous_response_id" must be provided.',
            "input",
            "missing_required_parameter",
        )
    if body.get("input") == [] and not body.get("previous_response_id"):
        raise say.empty_array("input")
    request = validate(kind, body, strict)
    if request.conversation is not None:
        raise unsupported(
            "conversation", "There are no conversations here: use 'previous_response_id'."
        )
    if request.previous_response_id:
        ids.check_response(request.previous_response_id, "previous_response_id")
    _tools(request)
    return request


def _refused(request: ResponseRequest) -> None:
    if request.prompt is not None:
        raise unsupported("prompt", "There are no stored prompts here: send their text.")
    if request.moderation is not None:
        raise unsupported("moderation", "Nothing is moderated here.")


def _together(request: ResponseRequest) -> None:
    if request.stream_options is not None and not request.stream:
        raise only_if_enabled("stream_options", "stream")
    if request.background and not request.stored:
        raise only_with("background", "store", "is not false")
    if request.response_format is not None and request.text and request.text.format:
        raise sampling_rules.not_both("text.format", "response_format")


def _tools(request: ResponseRequest | CountRequest) -> None:
    names: set[str] = set()
    for at, tool in enumerate(request.functions):
        if tool.name in names:
            raise invalid(
                f"Invalid value for 'tools[{at}].name': '{tool.name}' is declared twice.",
                f"tools[{at}].name",
                "invalid_value",
            )
        names.add(tool.name)
    match request.tool_choice:
        case "required" if not names:
            raise invalid(
                "Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice"
            )
        case FunctionChoice(name=name):
            _declared(name, names)
        case AllowedChoice(tools=allowed):
            for one in allowed:
                _declared(one.name, names)


def _declared(name: str, names: set[str]) -> None:
    if name not in names:
        raise invalid(
            f"Invalid value for 'tool_choice': no function named '{name[:64]}' was specified in "
            "the 'tools' parameter.",
            "tool_choice",
        )


# ------------------------------------------------------------------------------------- names

# A response is asked for as a chat: what chats call differently, longest first.
_NAMES: Final[Mapping[str, str]] = {
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": "include",
    "messages": "input",
}
# A call is an item of its own.
_MESSAGE: Final = re.compile(r"messages\[(\d+)\](?:\.tool_calls\[(\d+)\](?:\.function)?)?")
_INSIDE: Final = (
    (re.compile(r"\.image_url\.url$"), ".image_url"),
    (re.compile(r"^\.id$"), ".call_id"),
)
# Where a message of the chat, or one of its calls, is among the items of the request; None: it is
# none of them.
Places = Callable[[int, int | None], int | None]


def param(name: str | None, place: Places) -> str | None:
    """A chat's parameter, as responses call it."""
    if name is None:
        return None
    message = _MESSAGE.match(name)
    if message is not None:
        item = place(int(message[1]), None if message[2] is None else int(message[2]))
        if item is None:
            return "input"
        rest = name[message.end() :]
        for pattern, ours in _INSIDE:
            rest = pattern.sub(ours, rest)
        return f"input[{item}]{rest}"
    if name.startswith("tools["):
        return name.replace("].function.", "].")
    for theirs, ours in _NAMES.items():
        if name == theirs or name.startswith((theirs + ".", theirs + "[")):
            return ours + name[len(theirs) :]
    return name


def names(place: Places) -> Names:
    """How errors of workers are to name things."""
    return Names("input", lambda field: param(errors.field_param(field), place))


@contextmanager
def in_our_words(place: Places) -> Iterator[None]:
    """Gives the parameters of errors inside their names in this API, in the message, too."""
    try:
        yield
    except ApiError as error:
        ours = param(error.param, place)
        if error.param and ours and ours != error.param:
            error.message = error.message.replace(f"'{error.param}", f"'{ours}")
        error.param = ours
        raise
