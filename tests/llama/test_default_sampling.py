"""Defaults of sampling: how an operator says them, what a model's file may say, what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from common.settings import ConfigError
from protos.inference.v1 import inference_pb2 as pb
from services.llama.config import LlamaSettings
from services.llama.default_sampling import default_sampling
from services.llama.sampling.defaults import BOUNDS, parse
from services.worker import validation
from tests.llama.real_kit import collect, request

PLAIN = default_sampling({}, {})


def settings(*args: str) -> LlamaSettings:
    return LlamaSettings.read("x", ["--model", "m", *args])


def general(**fields: Any) -> dict[str, Any]:
    return {f"general.sampling.{name}": value for name, value in fields.items()}


def test_nothing_said_is_openais():
    made = default_sampling({}, {})
    assert made == pb.SamplingParams(temperature=1, top_p=1, top_k=0, min_p=0, repetition_penalty=1)
    # Zeros are told, too: they are what is done.
    assert made.HasField("top_k")


def test_operator_then_model_then_openai():
    made = default_sampling({"temperature": 0.5}, general(temp=0.9, top_k=20))
    assert (made.temperature, made.top_k, made.top_p) == (0.5, 20, 1)


@pytest.mark.parametrize(
    "args",
    [
        ("--sampling-defaults", "temperature=0.5,top_k=20"),
        ("--sampling-defaults", "temperature=0.5", "--sampling-defaults", " top_k = 20"),
        ("--temperature", "0.5", "--sampling-defaults=top_k=20"),
    ],
)
def test_as_flags(args: tuple[str, ...]):
    assert settings(*args).default_sampling() == {"temperature": 0.5, "top_k": 20}


def test_as_a_variable_and_in_a_file(tmp_path, monkeypatch):
    file = tmp_path / "c.yaml"
    file.write_text("sampling_defaults:\n  temperature: 0.5\n  top_k: 20\n")
    assert settings("--config", str(file)).default_sampling() == {"temperature": 0.5, "top_k": 20}
    file.write_text("sampling_defaults: min_p=0.1\n")
    assert settings("--config", str(file)).default_sampling() == {"min_p": 0.1}
    monkeypatch.setenv("LLAMA_SAMPLING_DEFAULTS", "min_p=0.25")
    assert settings("--config", str(file)).default_sampling() == {"min_p": 0.25}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("temperature", "write KEY=VALUE"),
        ("temp=1", "not one of temperature, top_p"),
        ("temperature=hot", "temperature is a number from 0 to 2"),
        ("temperature=nan", "temperature is a number from 0 to 2"),
        ("temperature=2.5", "temperature is a number from 0 to 2"),
        ("top_k=1.5", "top_k is an integer from 0 to 2147483647"),
        ("mirostat=3", "mirostat is an integer from 0 to 2"),
        ("top_p=1,top_p=0", "said twice"),
    ],
)
def test_a_mistake_ends_the_start_with_a_sentence(said: str, why: str):
    with pytest.raises(ConfigError, match=why):
        settings("--sampling-defaults", said)


@pytest.mark.parametrize(("flag", "said"), [("top-k", "5000000000"), ("repetition-penalty", "inf")])
def test_so_does_one_in_a_flag_of_its_own(flag: str, said: str):
    with pytest.raises(ConfigError, match=f"--{flag}: {flag.replace('-', '_')} is an? "):
        settings(f"--{flag}", said)


def test_one_thing_is_said_once():
    with pytest.raises(ConfigError, match="--top-p says it"):
        settings("--top-p", "0.5", "--sampling-defaults", "top_p=0.5")


def test_a_file_with_something_else_than_numbers(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("sampling_defaults:\n  temperature: true\n")
    with pytest.raises(ConfigError, match="a number from 0 to 2"):
        settings("--config", str(file))


@pytest.mark.parametrize("name", BOUNDS)
def test_every_default_is_one_that_a_request_could_ask_for(name: str):
    bounds = BOUNDS[name]
    for value in (bounds.least, bounds.most):
        said = {
            "dry_multiplier": 1.0,
            "xtc_probability": 1.0,
            "mirostat": 2,
            name: int(value) if bounds.whole else value,
        }
        assert parse(f"{key}={number}" for key, number in said.items()) == said
        made = pb.GenerateRequest(text=pb.TextInput(text="x"), sampling=default_sampling(said, {}))
        validation.generate(made, pb.ModelInfo())


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"repeat_last_n": 64}, {"penalty_window": 64}),
        ({"repeat_last_n": -1}, {"penalty_window": 0}),
        (
            {"repeat_last_n": 0, "repetition_penalty": 1.5},
            {"repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0},
        ),
        ({"typical_p": 0.5}, {"typical_p": 0.5}),
        ({"dry_base": 2.0}, {}),
        ({"dry_multiplier": 0.5, "dry_penalty_last_n": 0}, {}),
        (
            {"dry_multiplier": 0.5, "dry_base": 2.0, "dry_allowed_length": 0},
            {"dry": pb.Dry(multiplier=0.5, base=2, allowed_length=0)},
        ),
        (
            {"dry_multiplier": 0.5, "dry_penalty_last_n": 9},
            {"dry": pb.Dry(multiplier=0.5, window=9)},
        ),
        (
            {"xtc_probability": 0.5, "xtc_threshold": 0.0},
            {"xtc": pb.Xtc(probability=0.5, threshold=0)},
        ),
        ({"mirostat": 0, "mirostat_tau": 2.0}, {}),
        ({"mirostat": 1, "mirostat_tau": 2.0}, {"mirostat": pb.Mirostat(version=1, tau=2)}),
    ],
)
def test_in_the_contract(said: dict[str, float], found: dict[str, Any]):
    wanted = pb.SamplingParams()
    wanted.CopyFrom(PLAIN)
    for message in ("dry", "xtc", "mirostat"):
        if message in found:
            getattr(wanted, message).CopyFrom(found.pop(message))
    wanted.MergeFrom(pb.SamplingParams(**found))
    assert default_sampling(said, {}) == wanted


def test_what_a_file_recommends():
    made = default_sampling({}, general(
        temp=0.5, top_p=0.75, top_k=9, min_p=0.25, penalty_repeat=1.5, penalty_last_n=32,
        xtc_probability=0.5, xtc_threshold=0.25, mirostat=2, mirostat_tau=4.0, mirostat_eta=0.5,
    ))  # fmt: skip
    assert made == pb.SamplingParams(
        temperature=0.5,
        top_p=0.75,
        top_k=9,
        min_p=0.25,
        repetition_penalty=1.5,
        penalty_window=32,
        xtc=pb.Xtc(probability=0.5, threshold=0.25),
        mirostat=pb.Mirostat(version=2, tau=4, eta=0.5),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temp", float("nan")), ("temp", -0.1), ("temp", "hot"), ("temp", True),
        ("top_k", -1), ("top_k", 40.0), ("top_k", 2**32), ("top_p", 1.5), ("min_p", float("inf")),
        ("penalty_repeat", 0.0), ("penalty_repeat", float("inf")), ("penalty_repeat", 10**400),
        ("penalty_last_n", -2), ("mirostat", 3), ("xtc_probability", [0.5]),
    ],
)  # fmt: skip
def test_a_recommendation_that_no_request_could_make_is_ignored(key: str, value: object):
    with capture_logs() as logs:
        assert default_sampling({}, general(**{key: value})) == PLAIN
    assert [line["log_level"] for line in logs] == ["warning"]


@pytest.mark.real
async def test_a_worker_does_as_its_operator_says(serve):
    """Greedy by default, and as the request says where it says something."""
    backend = await serve(sampling_defaults=("top_k=1",))
    assert backend.model().default_sampling.top_k == 1
    assert backend.model().identity != (await serve()).model().identity

    async def answer(seed: int, **fields: Any) -> str:
        made = request("Say something about gravity and zebras, please", ignore_eos=True)
        made.sampling.CopyFrom(pb.SamplingParams(temperature=2, seed=seed, **fields))
        return "".join(r.delta.text for r in await collect(backend, made))

    assert len({await answer(seed) for seed in range(3)}) == 1
    assert len({await answer(seed, top_k=0) for seed in range(3)}) == 3
