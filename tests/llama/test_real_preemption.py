"""Everything a request can ask for at once, over the bundled model and a cache for two of eight.

Texts are compared where nothing depends on the last bits of a logit; see test_soak_real for all of
the cells, and test_engine_soak for texts that are exact.
"""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from jsonschema import Draft202012Validator

from protos.inference.v1 import inference_pb2 as pb
from tests.llama.engine_kit import until
from tests.llama.real_kit import collect, request
from tests.llama.test_adapters import lora
from tests.llama.test_real_choices import texts
from tests.llama.test_real_constrain import SCHEMA

pytestmark = pytest.mark.real

GBNF = 'root ::= ("yes" | "no") [ a-z]{30,90} "!"'


def asked(text: str = "Count from 1 to 12.", **sampling: object) -> pb.GenerateRequest:
    made = request(text, max_tokens=120)
    made.sampling.seed = 7
    made.sampling.MergeFrom(pb.SamplingParams(**sampling))  # type: ignore[arg-type]
    return made


def everything() -> dict[str, pb.GenerateRequest]:
    story = "Write a long story about the sea and its ships."
    some = {
        # These two go first, and have no room beside each other.
        "long": asked(story),
        "longer": asked(f"{story} And its whales."),
        "greedy": asked(),
        "stopped": asked(),
        "logprobs": asked(),
        "prompt": asked("What is the capital of France?"),
        "choices": asked(story, temperature=1),
        "best": asked(story, temperature=1),
        "penalties": asked(story, temperature=0.8, repetition_penalty=1.3, presence_penalty=0.5),
        "mirostat": asked(story, temperature=1, mirostat=pb.Mirostat(version=1, tau=3)),
        "dry": asked(story, temperature=1, dry=pb.Dry(multiplier=0.8)),
        "schema": asked("Tell me about a camel.", temperature=1.5),
        "mirostat schema": asked(temperature=1, mirostat=pb.Mirostat(version=2, tau=3)),
        "gbnf": asked(temperature=1),
        "adapter": asked(story),
    }
    some["stopped"].stop.strings.append("8,")
    some["logprobs"].output.logprobs = some["prompt"].output.logprobs = True
    some["prompt"].output.prompt_logprobs = True
    some["prompt"].n = some["choices"].n = some["schema"].n = 2
    some["best"].best_of = 3
    some["adapter"].adapter = "salt"
    for name in ("long", "longer"):
        some[name].stop.max_tokens, some[name].stop.ignore_eos, some[name].priority = 150, True, 1
    for name in ("schema", "mirostat schema"):
        some[name].constraint.json_schema = json.dumps(SCHEMA)
    some["gbnf"].constraint.gbnf = GBNF
    for name, made in some.items():
        made.stop.ignore_eos |= name in (
            "choices",
            "best",
            "penalties",
            "mirostat",
            "dry",
            "adapter",
        )
    return some


async def test_who_steps_back_loses_nothing(serve, tmp_path):
    adapter = f"salt={lora(tmp_path / 'lora.gguf')}:0.03"
    backend = await serve(ctx_size=256, parallel=8, lora=(adapter,))
    some = everything()
    alone = {name: await collect(backend, some[name]) for name in ("greedy", "stopped", "prompt")}
    assert not backend._metrics.preemptions._value.get()
    found = await asyncio.gather(*(collect(backend, made) for made in some.values()))
    told = dict(zip(some, found, strict=True))
    assert backend._metrics.preemptions._value.get()
    for name in ("greedy", "stopped"):
        assert texts(told[name]) == texts(alone[name])
    assert texts(told["stopped"])[0].endswith("7, ")
    assert _of_prompt(told["prompt"]) == _of_prompt(alone["prompt"])
    assert all(_lengths(told["logprobs"]))
    assert {len(texts(told[name])) for name in ("choices", "schema", "prompt")} == {2}
    assert len(texts(told["best"])) == 1
    for name in ("schema", "mirostat schema", "gbnf"):
        ends = _ends(told[name])
        for choice, text in texts(told[name]).items():
            if ends[choice] != pb.FINISH_REASON_STOP:
                continue
            if name == "gbnf":
                assert re.fullmatch("(yes|no)[ a-z]{30,90}!", text)
            else:
                Draft202012Validator(SCHEMA).validate(json.loads(text))
    engine = backend._residence.resident.engine
    await until(lambda: engine.load.running == engine.load.waiting == 0)
    engine._roster.kv.check()
    assert engine._roster.kv.slots[0] == 0


def _of_prompt(responses: list[pb.GenerateResponse]) -> list[int]:
    return [entry.token_id for r in responses for entry in r.delta.prompt_logprobs]


def _lengths(responses: list[pb.GenerateResponse]) -> list[bool]:
    """Of each delta with tokens, whether each has its logprob."""
    deltas = [r.delta for r in responses if r.HasField("delta")]
    so_far = 0
    found = []
    for delta in deltas:
        so_far += len(delta.logprobs)
        found.append(so_far == delta.completion_tokens)
    return found


def _ends(responses: list[pb.GenerateResponse]) -> dict[int, int]:
    return {r.delta.index: r.delta.finish.reason for r in responses if r.delta.HasField("finish")}
