"""The parameters that all APIs share which generate: ranges, and what they are in the contract."""

from __future__ import annotations

from typing import Any

import pytest

from edge.errors import ApiError
from edge.openai import (
    abilities,
    checks,
    sampling_from_proto,
    sampling_rules,
    sampling_to_proto,
)
from edge.openai.sampling_fields import Sampled
from protos.inference.v1 import inference_pb2 as pb
from tests.fakes.scripted import model_info


def read(**fields: Any) -> Sampled:
    request = checks.validate(Sampled, fields)
    sampling_rules.check(request)
    return request


def to_proto(**fields: Any) -> pb.SamplingParams:
    out = pb.SamplingParams()
    sampling_to_proto.sampling(read(seed=1, **fields), out, 7)
    out.ClearField("seed")
    return out


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, pb.SamplingParams()),
        ({"top_k": -1}, pb.SamplingParams(top_k=0)),
        ({"repeat_penalty": 1.5}, pb.SamplingParams(repetition_penalty=1.5)),
        ({"repeat_last_n": 64}, pb.SamplingParams(penalty_window=64)),
        ({"repeat_last_n": -1}, pb.SamplingParams(penalty_window=0)),
        (
            {"repeat_last_n": 0, "repeat_penalty": 1.5},
            pb.SamplingParams(repetition_penalty=1, presence_penalty=0, frequency_penalty=0),
        ),
        # DRY without a multiplier means nothing, switched off it means that.
        ({"dry_base": 2.0}, pb.SamplingParams()),
        ({"dry_multiplier": 0}, pb.SamplingParams(dry=pb.Dry())),
        ({"dry_multiplier": 0.5, "dry_penalty_last_n": 0}, pb.SamplingParams(dry=pb.Dry())),
        (
            {
                "dry_multiplier": 0.5,
                "dry_base": 2.0,
                "dry_allowed_length": 0,
                "dry_penalty_last_n": -1,
                "dry_sequence_breakers": ["\n"],
            },
            pb.SamplingParams(
                dry=pb.Dry(
                    multiplier=0.5, base=2, allowed_length=0, window=0, sequence_breakers=["\n"]
                )
            ),
        ),
        (
            {"xtc_probability": 0.5, "xtc_threshold": 0.25},
            pb.SamplingParams(xtc=pb.Xtc(probability=0.5, threshold=0.25)),
        ),
        (
            {"mirostat": 2, "mirostat_tau": 3.0, "mirostat_eta": 0.5},
            pb.SamplingParams(mirostat=pb.Mirostat(version=2, tau=3, eta=0.5)),
        ),
        ({"mirostat": 0}, pb.SamplingParams(mirostat=pb.Mirostat())),
    ],
)
def test_in_the_contract(fields: dict[str, Any], found: pb.SamplingParams) -> None:
    made = to_proto(**fields)
    assert made == found
    assert {field.name for field, _ in made.ListFields()} == {
        field.name for field, _ in found.ListFields()
    }


def test_stop_sequence_is_stop() -> None:
    for name in ("stop", "stop_sequence"):
        for value, strings in (("a", ["a"]), (["a", "b"], ["a", "b"]), ([], [])):
            out = pb.StopConditions()
            sampling_to_proto.stop(read(**{name: value}), out)
            assert list(out.strings) == strings


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"stop": "a", "stop_sequence": "a"}, "stop_sequence", "invalid_parameter_combination"),
        (
            {"repetition_penalty": 1.1, "repeat_penalty": 1.1},
            "repeat_penalty",
            "invalid_parameter_combination",
        ),
        ({"dry_multiplier": -1}, "dry_multiplier", "decimal_below_min_value"),
        ({"dry_multiplier": 1e300}, "dry_multiplier", "decimal_above_max_value"),
        ({"dry_base": 0.5}, "dry_base", "decimal_below_min_value"),
        ({"dry_sequence_breakers": ["x"] * 17}, "dry_sequence_breakers", "array_above_max_length"),
        ({"dry_sequence_breakers": [""]}, "dry_sequence_breakers[0]", "empty_string"),
        ({"repeat_last_n": -2}, "repeat_last_n", "integer_below_min_value"),
        ({"xtc_probability": 1.5}, "xtc_probability", "decimal_above_max_value"),
        ({"mirostat": 3}, "mirostat", "integer_above_max_value"),
        ({"mirostat_tau": 0}, "mirostat_tau", "decimal_below_min_value"),
    ],
)
def test_refused(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ApiError) as error:
        read(**fields)
    assert (error.value.status, error.value.param, error.value.code) == (400, param, code)


@pytest.mark.parametrize(
    ("field", "on", "off"),
    [
        ("typical_p", 0.5, 1.0),
        ("dry_multiplier", 1.0, 0.0),
        ("xtc_probability", 0.5, 0.0),
        ("mirostat", 1, 0),
    ],
)
def test_what_is_off_needs_no_capability(field: str, on: float, off: float) -> None:
    plain = model_info(capabilities=[pb.CAPABILITY_GENERATE])
    for value in (on, off):
        request = pb.GenerateRequest(sampling=to_proto(**{field: value}))
        needs = list(abilities.of_generation(request))
        if value == on:
            with pytest.raises(ApiError) as error:
                abilities.check(needs, plain)
            assert error.value.param == field
        else:
            abilities.check(needs, plain)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0.7, "top_k": 0, "min_p": 0.05},
        {"repeat_last_n": -1, "repetition_penalty": 1.1},
        {"repeat_last_n": 64},
        {"dry_multiplier": 0.5},
        {
            "dry_multiplier": 0.8,
            "dry_base": 1.75,
            "dry_allowed_length": 0,
            "dry_penalty_last_n": -1,
        },
        {"xtc_probability": 0.1, "xtc_threshold": 0.5},
        {"mirostat": 2, "mirostat_tau": 5.0, "mirostat_eta": 0.1},
    ],
)
def test_told_as_it_was_said(fields: dict[str, Any]) -> None:
    assert sampling_from_proto.numbers(to_proto(**fields)) == fields
