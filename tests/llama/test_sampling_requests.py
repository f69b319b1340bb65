from __future__ import annotations

from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import requests
from services.llama.sampling import Dry, Mirostat, SamplingParams, Xtc

DEFAULTS = pb.SamplingParams(temperature=0.5)


def sampling(**fields: Any) -> SamplingParams:
    request = pb.GenerateRequest(sampling=pb.SamplingParams(seed=1, **fields))
    return requests.job(request, [1], DEFAULTS, None).sampling


def test_what_is_absent_is_off():
    plain = SamplingParams(temperature=0.5, seed=1)
    assert sampling() == plain
    assert sampling(dry=pb.Dry(base=2, window=9)) == plain
    assert sampling(xtc=pb.Xtc(threshold=0.2)) == plain


def test_defaults_are_the_contracts():
    made = sampling(
        dry=pb.Dry(multiplier=0.5), xtc=pb.Xtc(probability=0.5), mirostat=pb.Mirostat(version=2)
    )
    assert made.dry == Dry(0.5, 1.75, 2, 0, ("\n", ":", '"', "*"))
    assert made.xtc == Xtc(0.5, 0.1)
    assert made.mirostat == Mirostat(2, 5.0, 0.1)


def test_what_is_said_counts_even_when_it_is_zero():
    made = sampling(
        dry=pb.Dry(
            multiplier=2, base=1, allowed_length=0, window=64, sequence_breakers=["<|end|>", "."]
        ),
        xtc=pb.Xtc(probability=1, threshold=0),
        mirostat=pb.Mirostat(version=1, tau=3, eta=0.25),
    )
    assert made.dry == Dry(2, 1, 0, 64, ("<|end|>", "."))
    assert made.xtc == Xtc(1, 0)
    assert made.mirostat == Mirostat(1, 3, 0.25)


def test_a_default_is_switched_off_by_a_zero_and_replaced_as_a_whole():
    defaults = pb.SamplingParams(
        dry=pb.Dry(multiplier=0.5, base=3),
        xtc=pb.Xtc(probability=0.5),
        mirostat=pb.Mirostat(version=2, tau=3),
    )

    def made(**fields: Any) -> SamplingParams:
        request = pb.GenerateRequest(sampling=pb.SamplingParams(seed=1, **fields))
        return requests.job(request, [1], defaults, None).sampling

    assert made().dry == Dry(0.5, base=3)
    assert made().xtc == Xtc(0.5)
    assert made().mirostat == Mirostat(2, tau=3)
    assert made(dry=pb.Dry(multiplier=0.25)).dry == Dry(0.25)
    off = made(dry=pb.Dry(), xtc=pb.Xtc(), mirostat=pb.Mirostat())
    assert off == SamplingParams(seed=1)


@pytest.mark.parametrize("typical_p", [0.0, 0.25])
def test_typical_p(typical_p):
    assert sampling(typical_p=typical_p).typical_p == typical_p
