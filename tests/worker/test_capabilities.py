"""What each request needs, and that a switched-off thing needs nothing."""

from __future__ import annotations

from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.worker import capabilities
from services.worker.errors import Unsupported
from tests.fakes.scripted import model_info


def text(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(text=pb.TextInput(text="a"), **fields)


def sampling(**fields: Any) -> pb.GenerateRequest:
    return text(sampling=pb.SamplingParams(**fields))


def chat(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(chat=pb.ChatInput(**fields))


def media(mime_type: str) -> pb.GenerateRequest:
    part = pb.ContentPart(media=pb.Media(mime_type=mime_type, data=b"x"))
    return chat(messages=[pb.Message(role=pb.ROLE_USER, content=[part])])


CASES: list[tuple[capabilities.Checked, str]] = [
    (text(), "GENERATE"),
    (pb.GenerateRequest(tokens=pb.TokenInput(ids=[1])), "GENERATE"),
    (pb.GenerateRequest(text=pb.TextInput(suffix="b")), "GENERATE INFILL"),
    (chat(), "CHAT"),
    (chat(tools=[pb.Tool(name="f")]), "CHAT TOOLS"),
    (chat(enable_thinking=False), "CHAT REASONING"),
    (chat(reasoning_budget=5), "CHAT REASONING"),
    (media("image/png"), "CHAT IMAGE"),
    (media("audio/wav"), "CHAT AUDIO"),
    (text(output=pb.OutputOptions(logprobs=True)), "GENERATE LOGPROBS"),
    (text(output=pb.OutputOptions(prompt_logprobs=True)), "GENERATE PROMPT_LOGPROBS"),
    (text(constraint=pb.Constraint(json_object=True)), "GENERATE CONSTRAINT"),
    (text(resume=pb.Resume()), "GENERATE RESUME"),
    (text(n=1, best_of=1), "GENERATE"),
    (text(n=2), "GENERATE MULTIPLE_CHOICES"),
    (text(best_of=2), "GENERATE BEST_OF"),
    (text(n=2, best_of=2), "GENERATE MULTIPLE_CHOICES"),
    (text(n=2, best_of=3), "GENERATE MULTIPLE_CHOICES BEST_OF"),
    (text(adapter="a"), "GENERATE ADAPTERS"),
    (sampling(temperature=1, top_k=1, penalty_window=5, seed=1), "GENERATE"),
    (sampling(typical_p=1), "GENERATE"),
    (sampling(typical_p=0.5), "GENERATE EXTENDED_SAMPLING"),
    (sampling(dry=pb.Dry()), "GENERATE"),
    (sampling(dry=pb.Dry(multiplier=1)), "GENERATE EXTENDED_SAMPLING"),
    (sampling(xtc=pb.Xtc(threshold=0.1)), "GENERATE"),
    (sampling(xtc=pb.Xtc(probability=0.1)), "GENERATE EXTENDED_SAMPLING"),
    (sampling(mirostat=pb.Mirostat(version=1)), "GENERATE EXTENDED_SAMPLING"),
    (sampling(mirostat=pb.Mirostat(version=0)), "GENERATE"),
    (text(speculation=pb.Speculation()), "GENERATE SPECULATION"),
    (text(speculation=pb.Speculation(enabled=False)), "GENERATE"),
    (pb.EmbedRequest(), "EMBED"),
    (pb.RerankRequest(), "RERANK"),
    (pb.TokenizeRequest(), "TOKENIZE"),
    (pb.TokenizeRequest(text=pb.TextInput(suffix="b")), "TOKENIZE INFILL"),
    (pb.DetokenizeRequest(), "TOKENIZE"),
    (pb.RenderPromptRequest(), "CHAT"),
    (pb.RenderPromptRequest(chat=pb.ChatInput(tools=[pb.Tool()])), "CHAT TOOLS"),
]


@pytest.mark.parametrize(("request_", "names"), CASES)
def test_needed(request_: capabilities.Checked, names: str):
    found = [pb.Capability.Name(value) for value in capabilities.needed(request_)]
    assert [name.removeprefix("CAPABILITY_") for name in found] == names.split()


def test_the_first_that_is_lacking_is_named():
    model = model_info(capabilities=[pb.CAPABILITY_GENERATE])
    with pytest.raises(Unsupported) as caught:
        capabilities.check(text(n=2, adapter="a"), model)
    assert caught.value.metadata == {"capability": "MULTIPLE_CHOICES"}


def test_what_is_listed_passes():
    capabilities.check(text(n=2), model_info())


def test_an_rpc_is_judged_before_its_fields():
    with pytest.raises(Unsupported):
        capabilities.check_rpc(pb.EmbedRequest(), model_info(capabilities=[]))
