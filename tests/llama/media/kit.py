"""What the tests of images and sounds over real models share."""

from __future__ import annotations

from typing import Any

from protos.inference.v1 import inference_pb2 as pb
from tests.llama.media import files


def chat(*parts: str | bytes, **stop: Any) -> pb.GenerateRequest:
    """A user's message of texts and files; a WAV is a sound, all others are images."""
    made = pb.GenerateRequest(
        sampling=pb.SamplingParams(temperature=0, seed=1),
        stop=pb.StopConditions(**{"max_tokens": 8, "ignore_eos": True, **stop}),
        output=pb.OutputOptions(logprobs=True, top_logprobs=5, token_ids=True),
    )
    message = made.chat.messages.add(role=pb.ROLE_USER)
    for part in parts:
        if isinstance(part, str):
            message.content.add(text=part)
        else:
            sound = part[:4] in (b"RIFF", b"fLaC") or part[:2] == b"\xff\xfb"
            mime = "audio/wav" if sound else "image/png"
            message.content.add(media=pb.Media(mime_type=mime, data=part))
    return made


def about(colour: tuple[int, int, int] = (255, 0, 0), **stop: Any) -> pb.GenerateRequest:
    return chat("What is in this picture?", files.png(colour=colour), "Answer shortly.", **stop)


def tokens(responses: list[Any], choice: int = 0) -> list[int]:
    return [t for r in responses for t in r.delta.token_ids if r.delta.index == choice]


def first_logprobs(responses: list[Any]) -> list[tuple[int, float]]:
    """Of the first token: the likeliest five."""
    delta = next(r.delta for r in responses if r.delta.logprobs)
    return [(entry.token_id, entry.logprob) for entry in delta.logprobs[0].top]


def usage(responses: list[Any]) -> pb.Usage:
    found: pb.Usage = responses[-1].finished.usage
    return found
