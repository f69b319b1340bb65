"""Valid bodies of every endpoint that takes one, rich in what they may have, to draw others from."""

from __future__ import annotations

from typing import Any

from edge.openapi.describe import routes
from edge.openapi.operations import OPERATIONS
from edge.routes import mounted

Body = dict[str, Any]
MODEL = "scripted"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {
    "name": "weather",
    "description": "Looks outside.",
    "parameters": SCHEMA,
    "strict": True,
}
SAMPLING: Body = {
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["x", "y"],
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "logit_bias": {"5": 1, "70": -100},
    "seed": 7,
    "top_k": 40,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "min_tokens": 1,
    "stop_token_ids": [3],
    "cache_salt": "a",
}

CHAT: list[Body] = [
    {
        "messages": [
            {"role": "system", "content": "Be brief.", "name": "a"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {
                        "type": "image_url",
                        "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "cold"},
            {"role": "assistant", "content": "Cold.", "reasoning_content": "Hm."},
            {"role": "user", "content": "And there?"},
        ],
        **SAMPLING,
        "max_completion_tokens": 5,
        "n": 2,
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "auto",
                "tools": [{"type": "function", "function": {"name": "weather"}}],
            },
        },
        "parallel_tool_calls": False,
        "metadata": {"a": "b"},
        "chat_template_kwargs": {"enable_thinking": False, "x": [1]},
        "reasoning_effort": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    {
        "messages": [{"role": "user", "content": "hi"}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "place", "schema": SCHEMA, "strict": True},
        },
        "max_tokens": 5,
        "documents": [{"title": "a", "text": "b"}],
    },
    {
        "messages": [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "weather", "arguments": "{}"},
            },
            {"role": "function", "name": "weather", "content": "cold"},
        ],
        "functions": [FUNCTION],
        "function_call": {"name": "weather"},
    },
    {
        "messages": [{"role": "user", "content": "hi"}],
        "structured_outputs": {"choice": ["a", "b"]},
        "stop": "x",
    },
]

COMPLETIONS: list[Body] = [
    {
        "prompt": ["Once", "Twice"],
        **SAMPLING,
        "max_tokens": 5,
        "n": 2,
        "best_of": 2,
        "logprobs": 2,
        "echo": True,
        "user": "u",
    },
    {"prompt": "Once", "suffix": "end", "max_tokens": 3, "stream": True, "guided_regex": "a+"},
    {"prompt": [[1, 2], [3]], "stream": True, "stream_options": {"include_usage": True}},
    {"prompt": [1, 2, 3], "max_tokens": 0, "echo": True, "logprobs": 0},
]

MESSAGES: list[Body] = [
    {
        "max_tokens": 9,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                    },
                    {
                        "type": "document",
                        "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                        "title": "t",
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                    {"type": "text", "text": "Wait."},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": "cold"}],
                        "is_error": False,
                    }
                ],
            },
        ],
        "tools": [{"name": "weather", "description": "Looks.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 5},
        "stop_sequences": ["x"],
        "temperature": 0.5,
        "top_k": 5,
        "top_p": 0.9,
        "metadata": {"user_id": "u"},
        "stream": True,
    },
    {
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    },
]

RESPONSES: list[Body] = [
    {
        "input": [
            {"role": "user", "content": "hi"},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                ],
            },
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "Hm."}],
            },
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "weather",
                "arguments": '{"city":"Oslo"}',
            },
            {"type": "function_call_output", "call_id": "c1", "output": "cold"},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Cold.", "annotations": []}],
            },
        ],
        "instructions": "Be brief.",
        **SAMPLING,
        "max_output_tokens": 9,
        "tools": [{"type": "function", **FUNCTION}],
        "tool_choice": {"type": "function", "name": "weather"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "top_logprobs": 2,
        "metadata": {"a": "b"},
        "truncation": "auto",
        "store": False,
        "stream": True,
    },
    {
        "input": "hi",
        "text": {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA}},
        "previous_response_id": "resp_none",
    },
    {"input": "hi", "max_output_tokens": 4, "store": True},
    # As it comes back from a response: a message with an id, which is also what a reference has.
    {"input": [{"role": "user", "content": "hi", "id": "msg_1"}], "store": False},
]

_RICH: dict[str, list[Body]] = {
    "/v1/chat/completions": CHAT,
    "/v1/apply-template": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": MESSAGES,
    "/v1/responses": RESPONSES,
    "/v1/responses/input_tokens": RESPONSES,
    "/v1/embeddings": [
        {"input": ["a", "b"], "encoding_format": "base64", "dimensions": 4, "user": "u"},
        {"input": [[1, 2], [3]], "truncate": "END"},
    ],
    "/v1/rerank": [
        {
            "query": "a b",
            "documents": ["a", {"text": "b", "more": 1}],
            "top_n": 1,
            "return_documents": True,
        }
    ],
    "/v1/tokenize": [
        {"prompt": "a b", "add_special_tokens": True, "return_token_strs": True},
        {"text": ["a", "b"], "max_length": 2, "padding_side": "left"},
        {"content": "a", "with_pieces": True, "parse_special": False},
        CHAT[0],
    ],
    "/v1/detokenize": [{"tokens": [72, 105], "skip_special_tokens": True}],
}


def seeds() -> dict[str, list[Body]]:
    """By path: what stands above, and the example of the description; no endpoint is left out."""
    found: dict[str, list[Body]] = {}
    for (_, path), each in routes(mounted()).items():
        told = OPERATIONS[each.route.handler]
        if told.request is not None and "{" not in path:
            examples = [told.example] if told.example else []
            found[path] = [{**body, "model": MODEL} for body in (*_RICH.get(path, ()), *examples)]
            assert found[path], f"give an example of {path} in edge/openapi/operations.py"
    return found
