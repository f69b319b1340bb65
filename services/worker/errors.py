"""What can go wrong with a request at a worker; each type names the one status it becomes."""

# ruff: noqa: N818 -- the names are the contract's reasons; that they are errors their base says

from __future__ import annotations

from typing import ClassVar

import grpc

from common.transport import Failure
from protos.inference.v1 import inference_pb2 as pb


class WorkerError(Exception):
    """A request that failed for a reason the caller may know. Its text goes to the caller."""

    code: ClassVar[grpc.StatusCode]
    reason: ClassVar[pb.ErrorReason.ValueType]

    def __init__(self, message: str, retry_after: float | None = None, **metadata: str) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.metadata = metadata

    def failure(self) -> Failure:
        """As the contract describes it."""
        return Failure(self.code, str(self), self.reason, self.metadata, self.retry_after)


class InvalidField(WorkerError):
    """A field is missing, malformed or out of range. `field` is its path in the contract."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = pb.ERROR_REASON_INVALID_FIELD

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, field=field)


class ContextLengthExceeded(WorkerError):
    """The prompt alone fills the context; of several inputs the one at `field`.

    `lower_bound`: it has that many tokens or more, and nobody counted them.
    """

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = pb.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED

    def __init__(
        self,
        prompt_tokens: int,
        context_length: int,
        *,
        field: str = "",
        lower_bound: bool = False,
    ) -> None:
        count = f"more than {prompt_tokens - 1}" if lower_bound else str(prompt_tokens)
        super().__init__(
            f"the prompt has {count} tokens, the context {context_length}",
            prompt_tokens=str(prompt_tokens),
            context_length=str(context_length),
        )
        if field:
            self.metadata["field"] = field
        if lower_bound:
            self.metadata["lower_bound"] = "true"


class TemplateFailed(WorkerError):
    """The chat template refused the messages; the message is the template's own."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = pb.ERROR_REASON_TEMPLATE_FAILED


class ModelMismatch(WorkerError):
    """The request is for another model."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = pb.ERROR_REASON_MODEL_MISMATCH

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__("this worker serves another model", expected=expected, actual=actual)


class Unsupported(WorkerError):
    """The model or the worker lacks what the request asks for."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = pb.ERROR_REASON_UNSUPPORTED

    def __init__(self, capability: pb.Capability.ValueType) -> None:
        name = pb.Capability.Name(capability).removeprefix("CAPABILITY_")
        super().__init__(f"this worker does not support {name}", capability=name)


class QueueFull(WorkerError):
    """The waiting queue is full. `retry_after` is in seconds."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = pb.ERROR_REASON_QUEUE_FULL


class Draining(WorkerError):
    """The worker takes nothing new."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = pb.ERROR_REASON_DRAINING


class Loading(WorkerError):
    """The model is being loaded."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = pb.ERROR_REASON_LOADING


class DeadlineExceeded(WorkerError):
    """The deadline passed. `phase` is queued, prefill or decode."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = pb.ERROR_REASON_DEADLINE

    def __init__(self, phase: str) -> None:
        super().__init__("the deadline passed", phase=phase)


class ConstraintFailed(WorkerError):
    """The text cannot go on as its constraint wants; `field` is the constraint's path."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = pb.ERROR_REASON_CONSTRAINT_FAILED

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, field=field)


class EngineFailed(WorkerError):
    """The engine failed; the caller learns no more than that."""

    code = grpc.StatusCode.INTERNAL
    reason = pb.ERROR_REASON_ENGINE_FAILED

    def __init__(self) -> None:
        super().__init__("the engine failed")
