"""What the tests over the bundled model share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from protos.inference.v1 import inference_pb2 as pb
from services.llama.backend import LlamaBackend
from services.worker.backend import Call

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "caravan-demo.gguf"


def call(seconds: float | None = None) -> Call:
    return Call("test", None if seconds is None else time.monotonic() + seconds)


def request(text: str = "What is the capital of France?", **stop: Any) -> pb.GenerateRequest:
    made = pb.GenerateRequest(
        sampling=pb.SamplingParams(temperature=0),
        stop=pb.StopConditions(**{"max_tokens": 24, **stop}),
    )
    made.chat.messages.add(role=pb.ROLE_USER).content.add(text=text)
    return made


async def collect(backend: LlamaBackend, made: pb.GenerateRequest, **fields: Any) -> list[Any]:
    return [response async for response in backend.generate(made, call(**fields))]
