from __future__ import annotations

import grpc
import pytest

from common.transport import Failure
from edge import errors
from edge.errors import ApiError
from edge.openai import embedding_request, rerank_request
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import ContextLengthExceeded

C = grpc.StatusCode
NONE = pb.ERROR_REASON_UNSPECIFIED

ROWS = [
    (C.INVALID_ARGUMENT, pb.ERROR_REASON_INVALID_FIELD, 400, "invalid_request_error", "invalid_value"),
    (C.INVALID_ARGUMENT, pb.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED, 400, "invalid_request_error",
     "context_length_exceeded"),
    (C.INVALID_ARGUMENT, pb.ERROR_REASON_TEMPLATE_FAILED, 400, "invalid_request_error",
     "invalid_value"),
    (C.INVALID_ARGUMENT, pb.ERROR_REASON_CONSTRAINT_FAILED, 400, "invalid_request_error",
     "invalid_value"),
    (C.UNIMPLEMENTED, pb.ERROR_REASON_UNSUPPORTED, 400, "invalid_request_error",
     "unsupported_parameter"),
    (C.FAILED_PRECONDITION, pb.ERROR_REASON_MODEL_MISMATCH, 503, "server_error",
     "service_unavailable"),
    (C.RESOURCE_EXHAUSTED, pb.ERROR_REASON_QUEUE_FULL, 503, "server_error", "service_unavailable"),
    (C.RESOURCE_EXHAUSTED, NONE, 413, "invalid_request_error", None),
    (C.UNAVAILABLE, pb.ERROR_REASON_DRAINING, 503, "server_error", "service_unavailable"),
    (C.UNAVAILABLE, pb.ERROR_REASON_LOADING, 503, "server_error", "service_unavailable"),
    (C.UNAVAILABLE, NONE, 503, "server_error", "service_unavailable"),
    (C.DEADLINE_EXCEEDED, pb.ERROR_REASON_DEADLINE, 504, "server_error", "timeout"),
    (C.DEADLINE_EXCEEDED, NONE, 504, "server_error", "timeout"),
    (C.INTERNAL, pb.ERROR_REASON_ENGINE_FAILED, 500, "server_error", "internal_error"),
    (C.UNKNOWN, NONE, 500, "server_error", "internal_error"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "reason", "status", "kind", "oai"), ROWS)
def test_row(
    code: grpc.StatusCode,
    reason: pb.ErrorReason.ValueType,
    status: int,
    kind: str,
    oai: str | None,
) -> None:
    error = errors.from_failure(Failure(code, "words", reason))
    assert (error.status, error.kind, error.code) == (status, kind, oai)
    assert set(error.body()["error"]) == {"message", "type", "param", "code"}
    # A worker's own words are for the client only where the client is at fault.
    assert ("words" in error.message) == (
        status == 400 and reason != pb.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED
    )
    assert ("Retry-After" in error.headers()) == (status == 503)


@pytest.mark.parametrize("reason", pb.ErrorReason.values())
def test_every_reason_of_the_contract_has_a_row(reason: pb.ErrorReason.ValueType) -> None:
    assert (
        reason == NONE
        or any(key[1] == reason for key in errors.TABLE)
        or (reason == pb.ERROR_REASON_ENGINE_FAILED)
    )


def _embedding(given: object) -> embedding_request.EmbeddingRequest:
    return embedding_request.read({"model": "m", "input": given})


def test_context_overflow_names_both_numbers() -> None:
    failure = Failure(
        C.INVALID_ARGUMENT,
        "",
        pb.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
        {"prompt_tokens": "5000", "context_length": "4096"},
    )
    error = errors.from_failure(failure)
    assert error.param == "messages"
    assert "4096" in error.message
    assert "resulted in 5000 tokens" in error.message


@pytest.mark.parametrize(
    ("names", "field", "param"),
    [
        (embedding_request.names(_embedding(["a", "b"]), 8), "inputs[1].text", "input[9]"),
        (embedding_request.names(_embedding([[1], [2]])), "inputs[1].tokens.ids", "input[1]"),
        (embedding_request.names(_embedding("a")), "inputs[0].text", "input"),
        (rerank_request.names(4), "documents[2]", "documents[6]"),
        (rerank_request.names(), "query", "query"),
        (errors.CHAT, "tokens.ids", "messages"),
    ],
)
def test_context_overflow_of_one_of_several_whose_length_nobody_knows(
    names: errors.Names, field: str, param: str
) -> None:
    fault = ContextLengthExceeded(5000, 4096, field=field, lower_bound=True)
    error = errors.from_failure(fault.failure(), names)
    assert error.param == param
    assert error.message.startswith(
        f"This model's maximum context length is 4096 tokens. However, your {param} resulted in "
        "more than 4999 tokens."
    )


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("sampling.temperature", "temperature"),
        ("sampling.logit_bias[5]", "logit_bias[5]"),
        ("chat.messages[2].role", "messages[2].role"),
        (
            "chat.messages[1].tool_calls[2].arguments_json",
            "messages[1].tool_calls[2].function.arguments",
        ),
        ("chat.messages[1].tool_calls[2].name", "messages[1].tool_calls[2].function.name"),
        ("chat.messages[1].tool_calls[2].id", "messages[1].tool_calls[2].id"),
        ("chat.messages[1].name", "messages[1].name"),
        ("chat.tools[0].name", "tools[0].function.name"),
        ("chat.tools[0].parameters_json_schema", "tools[0].function.parameters"),
        ("stop.max_tokens", "max_tokens"),
        ("stop.strings[1]", "stop[1]"),
        ("constraint.json_schema", "response_format"),
        ("constraint.json_object", "response_format"),
        ("constraint", "response_format"),
        ("constraint.regex", "guided_regex"),
        ("constraint.choice.values[3]", "guided_choice[3]"),
        ("constraint.gbnf", "guided_grammar"),
        ("constraint.lark", "guided_grammar"),
        ("output.top_logprobs", "top_logprobs"),
        ("n", "n"),
        ("tenant", None),
        ("", None),
    ],
)
def test_fields_have_their_openai_names(field: str, param: str | None) -> None:
    failure = Failure(C.INVALID_ARGUMENT, "x", pb.ERROR_REASON_INVALID_FIELD, {"field": field})
    assert errors.from_failure(failure).param == param


@pytest.mark.parametrize(
    ("field", "words", "message"),
    [
        ("stop.token_ids[1]", "is no token", "Invalid 'stop_token_ids[1]': is no token."),
        ("constraint.regex", "unclosed group.", "Invalid 'guided_regex': unclosed group."),
        ("tenant", "is odd", "is odd"),
        ("n", "", "The request is invalid."),
    ],
)
def test_workers_words_say_what_they_are_about(field: str, words: str, message: str) -> None:
    failure = Failure(C.INVALID_ARGUMENT, words, pb.ERROR_REASON_INVALID_FIELD, {"field": field})
    assert errors.from_failure(failure).message == message


@pytest.mark.parametrize(
    ("seconds", "whole", "ms"), [(0.0, "1", "1"), (0.2, "1", "200"), (1.2, "2", "1200")]
)
def test_retry_after(seconds: float, whole: str, ms: str) -> None:
    failure = Failure(C.RESOURCE_EXHAUSTED, "", pb.ERROR_REASON_QUEUE_FULL, retry_after=seconds)
    headers = errors.from_failure(failure).headers()
    assert headers == {"Retry-After": whole, "retry-after-ms": ms}


def test_no_retry_after_without_a_reason() -> None:
    assert ApiError(400, "x").headers() == {}
