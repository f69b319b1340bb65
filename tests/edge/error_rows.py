"""Every row of OpenAI's table of errors, API by API: what is sent, and what is said of it."""

from __future__ import annotations

import json
from typing import Any

from tests.edge.running import CHAT
from tests.fakes.scripted import DIMENSIONS

COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
USER = {"role": "user", "content": "hi"}
FUNCTION = {"type": "function", "function": {"name": "f"}}
# Of a field that is left out.
ABSENT = object()
BASES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [USER]},
    COMPLETIONS: {"prompt": "hi"},
    EMBEDDINGS: {"input": "hi"},
    RERANK: {"query": "hi", "documents": ["a", "b"]},
}

# What is sent, and what of it is wrong: param, code, message.
Row = tuple[dict[str, Any], str | None, str | None, str]
NO_MODEL = (None, None, "you must provide a model parameter")


def missing(param: str) -> tuple[str, str, str]:
    return param, "missing_required_parameter", f"Missing required parameter: '{param}'."


def wrong_type(param: str, wanted: str, got: str) -> tuple[str, str, str]:
    words = f"Invalid type for '{param}': expected {wanted}, but got {got} instead."
    return param, "invalid_type", words


def below(param: str, kind: str, limit: str, got: str) -> tuple[str, str, str]:
    words = f"{kind} below minimum value. Expected a value >= {limit}, but got {got} instead."
    return param, f"{kind}_below_min_value", f"Invalid '{param}': {words}"


def above(param: str, kind: str, limit: str, got: str) -> tuple[str, str, str]:
    words = f"{kind} above maximum value. Expected a value <= {limit}, but got {got} instead."
    return param, f"{kind}_above_max_value", f"Invalid '{param}': {words}"


def too_long(param: str, what: str, limit: int, got: int) -> tuple[str, str, str]:
    words = (
        f"{what} too long. Expected a{'n' * (what == 'array')} {what} with maximum length {limit}, "
        f"but got a{'n' * (what == 'array')} {what} with length {got} instead."
    )
    return param, f"{what}_above_max_length", f"Invalid '{param}': {words}"


def empty_array(param: str) -> tuple[str, str, str]:
    words = "Expected an array with minimum length 1, but got an empty array instead."
    return param, "empty_array", f"Invalid '{param}': empty array. {words}"


def empty_string(param: str) -> tuple[str, str, str]:
    words = "Expected a string with minimum length 1, but got an empty string instead."
    return param, "empty_string", f"Invalid '{param}': empty string. {words}"


def none_of(param: str, value: str, listed: str) -> tuple[str, str, str]:
    return param, "invalid_value", f"Invalid value: '{value}'. Supported values are: {listed}."


def switched(param: str, switch: str) -> tuple[str, None, str]:
    words = f"The '{param}' parameter is only allowed when '{switch}' is enabled."
    return param, None, words


def undeclared(param: str, name: str, where: str) -> tuple[str, None, str]:
    words = f"no function named '{name}' was specified in the '{where}' parameter."
    return param, None, f"Invalid value for '{param}': {words}"


# Of everything that generates.
SAMPLED: list[Row] = [
    ({"temperature": -0.5}, *below("temperature", "decimal", "0", "-0.5")),
    # No rounding that makes it read like the limit.
    ({"temperature": 2.0000001}, *above("temperature", "decimal", "2", "2.0000001")),
    ({"temperature": "1"}, *wrong_type("temperature", "a decimal number", "a string")),
    ({"top_p": -1}, *below("top_p", "decimal", "0", "-1")),
    ({"top_p": 1.5}, *above("top_p", "decimal", "1", "1.5")),
    ({"presence_penalty": -2.5}, *below("presence_penalty", "decimal", "-2", "-2.5")),
    ({"presence_penalty": 3}, *above("presence_penalty", "decimal", "2", "3")),
    ({"frequency_penalty": -3}, *below("frequency_penalty", "decimal", "-2", "-3")),
    ({"frequency_penalty": 2.5}, *above("frequency_penalty", "decimal", "2", "2.5")),
    ({"n": 0}, *below("n", "integer", "1", "0")),
    ({"n": 1234567}, *above("n", "integer", "128", "1234567")),
    ({"n": "1"}, *wrong_type("n", "an integer", "a string")),
    ({"seed": 2**63}, *above("seed", "integer", str(2**63 - 1), str(2**63))),
    ({"seed": -1e20}, *below("seed", "integer", str(-(2**63)), "-1e+20")),
    ({"logit_bias": {"5": 101}}, *above("logit_bias.5", "decimal", "100", "101")),
    ({"logit_bias": {"5": -101}}, *below("logit_bias.5", "decimal", "-100", "-101")),
    ({"logit_bias": []}, *wrong_type("logit_bias", "an object", "an array")),
    ({"stop": 5}, *wrong_type("stop", "one of a string or array of strings", "an integer")),
    ({"stop": ["a", ""]}, *empty_string("stop[1]")),
    ({"stop": ["a"] * 17}, *too_long("stop", "array", 16, 17)),
    ({"stream": "yes"}, *wrong_type("stream", "a boolean", "a string")),
    ({"stream_options": {"include_usage": True}}, *switched("stream_options", "stream")),
    ({"model": ABSENT}, *NO_MODEL),
    ({"model": None}, *NO_MODEL),
    ({"model": ""}, *NO_MODEL),
    ({"model": 5}, *wrong_type("model", "a string", "an integer")),
]

CONTENT = "messages[0].content"
TEXTS = "one of a string or array of objects"
TOO_MANY = (
    "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got "
    "an object with 17 properties instead."
)
ORPHAN = (
    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
    "'tool_calls'."
)
PATTERN = (
    "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches "
    "the pattern '^[A-Za-z0-9_-]+$'."
)
NO_TOOLS = (
    "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
)


def said(**message: Any) -> dict[str, Any]:
    return {"messages": [message]}


def named(name: str) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": name}}]}


def formatted(**response_format: Any) -> dict[str, Any]:
    return {"response_format": response_format}


CHATS: list[Row] = [
    ({"messages": ABSENT}, *missing("messages")),
    ({"messages": None}, *missing("messages")),
    ({"messages": []}, *empty_array("messages")),
    ({"messages": "hi"}, *wrong_type("messages", "an array of objects", "a string")),
    ({"messages": ["hi"]}, *wrong_type("messages[0]", "an object", "a string")),
    (said(role="user"), *missing(CONTENT)),
    (said(role="user", content=5), *wrong_type(CONTENT, TEXTS, "an integer")),
    (said(role="user", content=None), *wrong_type(CONTENT, TEXTS, "null")),
    (said(role="user", content=[]), *empty_array(CONTENT)),
    (
        said(role="bot", content="x"),
        *none_of(
            "messages[0].role",
            "bot",
            "'system', 'assistant', 'user', 'function', 'tool', and 'developer'",
        ),
    ),
    (
        said(role="user", content=[{"type": "video"}]),
        *none_of(f"{CONTENT}[0].type", "video", "'text', 'image_url', 'input_audio', and 'file'"),
    ),
    (
        said(role="user", content=[{"type": "image_url", "image_url": {"url": "", "detail": "x"}}]),
        *none_of(f"{CONTENT}[0].image_url.detail", "x", "'auto', 'low', 'high', and 'original'"),
    ),
    (
        {"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "c"}]},
        "messages.[1].role",
        None,
        ORPHAN,
    ),
    ({"max_tokens": 0}, *below("max_tokens", "integer", "1", "0")),
    ({"max_tokens": 2**31}, *above("max_tokens", "integer", "2147483647", "2147483648")),
    ({"max_completion_tokens": 0}, *below("max_completion_tokens", "integer", "1", "0")),
    ({"logprobs": 1}, *wrong_type("logprobs", "a boolean", "an integer")),
    ({"logprobs": True, "top_logprobs": 21}, *above("top_logprobs", "integer", "20", "21")),
    ({"logprobs": True, "top_logprobs": -1}, *below("top_logprobs", "integer", "0", "-1")),
    ({"top_logprobs": 1}, *switched("top_logprobs", "logprobs")),
    ({"top_logprobs": 1, "logprobs": False}, *switched("top_logprobs", "logprobs")),
    (
        formatted(type="xml"),
        *none_of("response_format.type", "xml", "'json_object', 'json_schema', and 'text'"),
    ),
    (formatted(type="json_schema"), *missing("response_format.json_schema")),
    (
        formatted(type="json_schema", json_schema={"schema": {}}),
        *missing("response_format.json_schema.name"),
    ),
    (named(""), *empty_string("tools[0].function.name")),
    (named("a b"), "tools[0].function.name", "invalid_value", PATTERN),
    (named("a" * 65), *too_long("tools[0].function.name", "string", 64, 65)),
    ({"tools": [FUNCTION] * 129}, *too_long("tools", "array", 128, 129)),
    ({"tools": {}}, *wrong_type("tools", "an array of objects", "an object")),
    ({"tool_choice": "auto"}, "tool_choice", None, NO_TOOLS),
    (
        {"tools": [FUNCTION], "tool_choice": "any"},
        *none_of("tool_choice", "any", "'none', 'auto', and 'required'"),
    ),
    (
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        *undeclared("tool_choice", "g", "tools"),
    ),
    (
        {
            "tools": [FUNCTION],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "g"}}]},
            },
        },
        *undeclared("tool_choice", "g", "tools"),
    ),
    (
        {"functions": [{"name": "f"}], "function_call": {"name": "g"}},
        *undeclared("function_call", "g", "functions"),
    ),
    ({"metadata": {str(at): "" for at in range(17)}}, "metadata", "object_above_max_properties",
     TOO_MANY),
    ({"metadata": {"a": "x" * 513}}, *too_long("metadata.a", "string", 512, 513)),
    ({"metadata": {"k" * 65: "x"}}, *too_long("metadata", "string", 64, 65)),
    (
        {"moderation": {"model": "omni-moderation-latest"}},
        "moderation",
        "unsupported_parameter",
        "Unsupported parameter: 'moderation'. Nothing is moderated here.",
    ),
]  # fmt: skip

PROMPTS = "one of a string, array of strings, array of integers, or array of integer arrays"
CANDIDATES = "Invalid value for 'best_of': results cannot be streamed where it is greater than 'n'."
ROWS: dict[str, list[Row]] = {
    CHAT: [*SAMPLED, *CHATS],
    COMPLETIONS: [
        *SAMPLED,
        ({"prompt": 5}, *wrong_type("prompt", PROMPTS, "an integer")),
        ({"prompt": []}, *empty_array("prompt")),
        ({"prompt": [[]]}, *empty_array("prompt[0]")),
        ({"prompt": ["a", 5]}, *wrong_type("prompt[1]", "a string", "an integer")),
        ({"prompt": [-1]}, *below("prompt[0]", "integer", "0", "-1")),
        ({"max_tokens": -1}, *below("max_tokens", "integer", "0", "-1")),
        ({"logprobs": 6}, *above("logprobs", "integer", "5", "6")),
        ({"logprobs": -1}, *below("logprobs", "integer", "0", "-1")),
        ({"best_of": 21}, *above("best_of", "integer", "20", "21")),
        (
            {"best_of": 1, "n": 2},
            "best_of",
            None,
            "Invalid value for 'best_of': it must be at least 'n'.",
        ),
        ({"best_of": 2, "stream": True}, "best_of", None, CANDIDATES),
        ({"echo": 1}, *wrong_type("echo", "a boolean", "an integer")),
        ({"suffix": 1}, *wrong_type("suffix", "a string", "an integer")),
    ],
    EMBEDDINGS: [
        ({"model": ABSENT}, *NO_MODEL),
        ({"input": ABSENT}, *missing("input")),
        (
            {"input": ""},
            "input",
            "empty_string",
            "Invalid 'input': input cannot be an empty string.",
        ),
        ({"input": []}, *empty_array("input")),
        ({"input": ["a"] * 2049}, *too_long("input", "array", 2048, 2049)),
        ({"encoding_format": "int8"}, *none_of("encoding_format", "int8", "'float' and 'base64'")),
        ({"dimensions": 0}, *below("dimensions", "integer", "1", "0")),
        (
            {"dimensions": DIMENSIONS + 1},
            *above("dimensions", "integer", str(DIMENSIONS), str(DIMENSIONS + 1)),
        ),
    ],
    RERANK: [
        ({"model": ABSENT}, *NO_MODEL),
        ({"query": ABSENT}, *missing("query")),
        ({"query": ""}, *empty_string("query")),
        ({"documents": ABSENT}, *missing("documents")),
        ({"documents": []}, *empty_array("documents")),
        ({"documents": "a"}, *wrong_type("documents", "an array of objects", "a string")),
        ({"documents": [5]}, *wrong_type("documents[0]", "one of a string or object", "an integer")),
        ({"documents": [{}]}, *missing("documents[0].text")),
        ({"top_n": 0}, *below("top_n", "integer", "1", "0")),
    ],
}  # fmt: skip

# At the very edge of what is allowed.
ALLOWED: list[tuple[str, dict[str, Any]]] = [
    *(
        (path, fields)
        for path in (CHAT, COMPLETIONS)
        for fields in (
            {"temperature": 0, "top_p": 0, "presence_penalty": -2, "frequency_penalty": -2},
            {"temperature": 2, "top_p": 1, "presence_penalty": 2.0, "frequency_penalty": 2},
            {"n": 128, "seed": 2**63 - 1, "logit_bias": {"0": -100, "65535": 100}},
            {"n": 1, "seed": -(2**63), "stop": "a" * 256, "logit_bias": {}},
            {"stop": ["a", "b", "c", "d"], "stream": False},
            {"n": None, "seed": None, "stop": None, "stream": None, "stream_options": None},
            {"temperature": None, "top_p": None, "logit_bias": None, "logprobs": None, "user": None},
            {"presence_penalty": None, "frequency_penalty": None, "max_tokens": None},
        )
    ),
    (CHAT, {"max_completion_tokens": 1}),
    (CHAT, {"max_completion_tokens": None, "max_tokens": 1}),
    (CHAT, {"logprobs": True, "top_logprobs": 0}),
    (CHAT, {"logprobs": True, "top_logprobs": 20}),
    (CHAT, {"metadata": {f"{at:064}": "x" * 512 for at in range(16)}}),
    (CHAT, {"tools": [{"type": "function", "function": {"name": f"{at:064}"}} for at in range(128)]}),
    (CHAT, {"tools": None, "tool_choice": None, "response_format": None, "metadata": None}),
    (CHAT, {"messages": [{"role": "user", "content": ""}]}),
    (COMPLETIONS, {"prompt": ABSENT}),
    (COMPLETIONS, {"max_tokens": 0, "echo": True, "logprobs": 5}),
    (COMPLETIONS, {"best_of": 0, "suffix": None}),
    (COMPLETIONS, {"best_of": 20, "n": 20, "logprobs": 0}),
    (EMBEDDINGS, {"input": ["a"] * 2048, "dimensions": 1, "encoding_format": "base64"}),
    (EMBEDDINGS, {"input": [[0, 65535]], "dimensions": DIMENSIONS, "user": "u"}),
    (RERANK, {"top_n": 1, "documents": [{"text": "a"}, "b"] * 512}),
]  # fmt: skip


def body(path: str, fields: dict[str, Any]) -> bytes:
    """A body that is right but for these fields."""
    whole = {"model": "scripted", **BASES[path], **fields}
    return json.dumps(
        {name: value for name, value in whole.items() if value is not ABSENT}
    ).encode()
