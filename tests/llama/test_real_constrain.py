"""Constrained output through the whole worker, over llama.cpp and the bundled model."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import InvalidField
from tests.llama.real_kit import collect, request
from tests.llama.test_real_choices import texts, usage

pytestmark = pytest.mark.real

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["camel", "horse"]},
        "legs": {"type": "integer", "minimum": 0, "maximum": 9},
        "wells": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "kind", "legs", "wells"],
    "additionalProperties": False,
}


def constrained(text: str = "Tell me about a camel.", **kind: object) -> pb.GenerateRequest:
    made = request(text, max_tokens=200)
    made.constraint.CopyFrom(pb.Constraint(**kind))  # type: ignore[arg-type]
    return made


async def test_a_schema(serve):
    backend = await serve()
    assert pb.CAPABILITY_CONSTRAINT in backend.model().capabilities
    some = [constrained(json_schema=json.dumps(SCHEMA)) for _ in range(4)]
    for seed, made in enumerate(some):
        made.sampling.temperature, made.sampling.seed = 2.0, seed
        made.output.logprobs = seed == 3
    results = await asyncio.gather(*(collect(backend, made) for made in some))
    for responses in results:
        answer = json.loads(texts(responses)[0])
        assert set(answer) == {"name", "kind", "legs", "wells"}
        assert answer["kind"] in ("camel", "horse")
        assert 0 <= answer["legs"] <= 9
        assert 1 <= len(answer["wells"]) <= 2
        (end,) = [r.delta.finish for r in responses if r.delta.HasField("finish")]
        assert end.reason == pb.FINISH_REASON_STOP
    # What could only come so was not chosen token by token.
    steps = sum(bucket.get() for bucket in backend._metrics.batch_tokens._buckets)
    assert steps < sum(usage(responses).completion_tokens for responses in results)


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ({"regex": "[a-c]{3}-[0-9]{2}"}, "[a-c]{3}-[0-9]{2}"),
        (
            {"choice": pb.ChoiceList(values=["Paris", "Rome is far", "Oslo"])},
            "Paris|Rome is far|Oslo",
        ),
        ({"gbnf": 'root ::= ("yes" | "no") "!"'}, "(yes|no)!"),
        ({"lark": 'start: /[xyz]+/ "end"'}, "[xyz]+end"),
    ],
)
async def test_every_kind(serve, kind, pattern):
    backend = await serve()
    made = constrained(**kind)
    made.stop.max_tokens = 400
    responses = await collect(backend, made)
    (end,) = [r.delta.finish for r in responses if r.delta.HasField("finish")]
    if end.reason == pb.FINISH_REASON_STOP:
        assert re.fullmatch(pattern, texts(responses)[0])
    else:
        assert pattern.startswith("[xyz]+")


async def test_json_objects_and_a_resumption_within_one(serve):
    backend = await serve()
    made = constrained("Answer in JSON: What is the capital of France?", json_object=True)
    made.sampling.seed = 1
    made.output.token_ids = True
    whole = await collect(backend, made)
    answer = texts(whole)[0]
    assert isinstance(json.loads(answer), dict)
    ids = [token for response in whole for token in response.delta.token_ids]
    made.resume.choices.add(index=0, token_ids=ids[:3], delivered_bytes=0)
    assert texts(await collect(backend, made))[0] == answer


async def test_a_bad_schema_says_where(serve):
    backend = await serve()
    bad = {"type": "object", "properties": {"a": {"type": "wrong"}}}
    with pytest.raises(InvalidField, match="properties") as caught:
        await collect(backend, constrained(json_schema=json.dumps(bad)))
    assert caught.value.metadata["field"] == "constraint.json_schema"
