"""The kinds of workers that the contract's suite runs over; a new kind adds an entry to KINDS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protos.inference.v1 import inference_pb2 as pb

_DEMO_MODEL = Path(__file__).parents[2] / "models" / "caravan-demo.gguf"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a worker of one kind is started: `python -m module args…`."""

    name: str
    module: str
    args: Callable[[], list[str]]
    # Whether it runs a model.
    real: bool = False


def _scripted() -> list[str]:
    return ["--tokens", "8", "--interval", "0.001"]


def _scripted_minimal() -> list[str]:
    return [*_scripted(), "--capabilities", "GENERATE,TOKENIZE"]


def _llama() -> list[str]:
    return ["--model", str(_DEMO_MODEL), "--threads", "1"]


KINDS = (
    Kind("llama", "services.llama", _llama, real=True),
    Kind("scripted", "tests.fakes.scripted_worker", _scripted),
    # A worker that can do next to nothing, to see that it says so.
    Kind("scripted-minimal", "tests.fakes.scripted_worker", _scripted_minimal),
)


def short(model: pb.ModelInfo) -> pb.GenerateRequest:
    """A request that the worker can serve, of a few tokens at most."""
    request = pb.GenerateRequest(model_identity=model.identity)
    if pb.CAPABILITY_CHAT in model.capabilities:
        request.chat.messages.add(role=pb.ROLE_USER).content.add(text="Say this is a test")
    else:
        request.text.text = "Say this is a test"
    request.sampling.temperature = 0
    request.sampling.seed = 7
    request.stop.max_tokens = 16
    return request


def long(model: pb.ModelInfo) -> pb.GenerateRequest:
    """A request that goes on for as long as nobody reads its answer.

    Its messages are large where that is possible, so that flow control stops the worker early.
    """
    request = short(model)
    request.stop.ClearField("max_tokens")
    request.stop.ignore_eos = True
    request.output.token_ids = True
    if pb.CAPABILITY_LOGPROBS in model.capabilities:
        request.output.logprobs = True
        request.output.top_logprobs = 20
    return request
