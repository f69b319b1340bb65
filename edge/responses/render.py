"""The response object: what was asked, told again with all keys, and what came of it. Pure."""

from __future__ import annotations

from typing import Any, Final

from edge.errors import ApiError
from edge.openai.structure_fields import JsonObjectFormat
from edge.responses.request import (
    AllowedChoice,
    FunctionChoice,
    FunctionTool,
    ResponseRequest,
    SchemaFormat,
)
from protos.inference.v1 import inference_pb2 as pb

Json = dict[str, Any]

# What a response can end as.
COMPLETED, INCOMPLETE, FAILED, CANCELLED = "completed", "incomplete", "failed", "cancelled"
# What it is before.
QUEUED, IN_PROGRESS = "queued", "in_progress"
LIVE = frozenset({QUEUED, IN_PROGRESS})
_INCOMPLETE: Final[dict[pb.FinishReason.ValueType, str]] = {
    pb.FINISH_REASON_LENGTH: "max_output_tokens",
    pb.FINISH_REASON_CONTENT_FILTER: "content_filter",
}


def header(request: ResponseRequest, id_: str, created: int, defaults: pb.SamplingParams) -> Json:
    """What every form of one response repeats, as it is before anything was generated.

    `created` is in seconds since 1970, `defaults` the model's where the request says nothing.
    """
    reasoning = request.reasoning
    return {
        "id": id_,
        "object": "response",
        "created_at": created,
        "status": IN_PROGRESS,
        "background": bool(request.background),
        "completed_at": None,
        "error": None,
        "frequency_penalty": _number(request, defaults, "frequency_penalty", 0.0),
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "model": request.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "presence_penalty": _number(request, defaults, "presence_penalty", 0.0),
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "prompt_cache_retention": request.prompt_cache_retention,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": (reasoning.summary or reasoning.generate_summary) if reasoning else None,
        },
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": request.stored,
        "temperature": _number(request, defaults, "temperature", 1.0),
        "text": {
            "format": _format(request),
            "verbosity": (request.text.verbosity if request.text else None) or "medium",
        },
        "tool_choice": _tool_choice(request),
        "tools": [_tool(tool) for tool in request.functions],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": _number(request, defaults, "top_p", 1.0),
        "truncation": request.truncation or "disabled",
        "usage": None,
        "user": request.user,
        "metadata": request.metadata or {},
    }


def ended(
    head: Json,
    output: list[Json],
    used: pb.Usage,
    reason: pb.FinishReason.ValueType,
    now: int,
) -> Json:
    """A response that came to its end; `now` in seconds since 1970."""
    incomplete = _INCOMPLETE.get(reason)
    return {
        **head,
        "status": INCOMPLETE if incomplete else COMPLETED,
        "completed_at": None if incomplete else now,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "output": output,
        "usage": usage(used),
    }


def failed(head: Json, output: list[Json], error: ApiError) -> Json:
    """A response that an error cut off."""
    code = "rate_limit_exceeded" if error.status == 429 else "server_error"
    if error.status < 500 and error.status != 429:
        code = "invalid_prompt"
    return {
        **head,
        "status": FAILED,
        "error": {"code": code, "message": error.message},
        "output": output,
    }


def cancelled(head: Json, output: list[Json]) -> Json:
    """A response that somebody cancelled."""
    return {**head, "status": CANCELLED, "output": output}


def usage(used: pb.Usage) -> Json:
    """Counts of tokens, with their details."""
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


def _number(
    request: ResponseRequest, defaults: pb.SamplingParams, name: str, otherwise: float
) -> float:
    asked: float | None = getattr(request, name)
    if asked is not None:
        return asked
    if defaults.HasField(name):  # type: ignore[arg-type]
        # Single precision: 0.6 and not 0.6000000238.
        return float(f"{getattr(defaults, name):.6g}")
    return otherwise


def _format(request: ResponseRequest) -> Json:
    match request.text.format if request.text else None:
        case SchemaFormat() as asked:
            return {
                "type": "json_schema",
                "description": asked.description,
                "name": asked.name,
                "schema": asked.schema_,
                "strict": bool(asked.strict),
            }
        case JsonObjectFormat():
            return {"type": "json_object"}
    return {"type": "text"}


def _tool(tool: FunctionTool) -> Json:
    return {
        "type": "function",
        "description": tool.description,
        "name": tool.name,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def _tool_choice(request: ResponseRequest) -> str | Json:
    match request.tool_choice:
        case FunctionChoice(name=name):
            return {"type": "function", "name": name}
        case AllowedChoice(mode=mode, tools=tools):
            named = [{"type": "function", "name": tool.name} for tool in tools]
            return {"type": "allowed_tools", "mode": mode, "tools": named}
        case str() as plain:
            return plain
    return "auto"
