from __future__ import annotations

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import requests
from services.llama.sampling import Logprobs, SamplingParams
from services.llama.sequence import OutputParams, StopParams
from services.llama.stream import Delta, Ended, Finish, Timings
from tests.llama.fake_runtime import FakeVocabulary

DEFAULTS = pb.SamplingParams(temperature=0.7, top_k=40)


def test_absent_fields_take_the_defaults():
    job = requests.job(pb.GenerateRequest(), [1, 2], DEFAULTS, 5.0)
    assert job.prompt == [1, 2]
    assert job.deadline == 5.0
    assert job.stop == StopParams()
    assert job.output == OutputParams()
    assert job.sampling.temperature == pytest.approx(0.7)
    assert job.sampling.top_k == 40
    assert job.sampling.top_p == 1


def test_present_fields_win_even_when_they_are_zero():
    request = pb.GenerateRequest(
        sampling=pb.SamplingParams(temperature=0, top_k=0, seed=0, logit_bias={5: -1}),
        stop=pb.StopConditions(max_tokens=0, strings=["x"], token_ids=[9], ignore_eos=True),
        output=pb.OutputOptions(token_ids=True, skip_special_tokens=False),
    )
    job = requests.job(request, [1], DEFAULTS, None)
    assert job.sampling == SamplingParams(temperature=0, top_k=0, seed=0, logit_bias={5: -1})
    assert job.stop == StopParams(
        max_tokens=0, strings=("x",), token_ids=frozenset((9,)), ignore_eos=True
    )
    assert job.output == OutputParams(token_ids=True, skip_special_tokens=False)


def test_seeds_are_drawn_when_absent():
    seeds = {
        requests.job(pb.GenerateRequest(), [1], DEFAULTS, None).sampling.seed for _ in range(5)
    }
    assert len(seeds) == 5


def test_delta_and_finished():
    ended = Ended(Finish.STOP, "END", Timings(1.0, 1.5, 3.0, 7.0))
    entry = Logprobs(97, -0.5, ((97, -0.5), (256, -2.0)))
    gained = Delta("a", [97], [entry], 1, 1, ended)
    delta = requests.delta(gained, FakeVocabulary()).delta
    assert delta.finish == pb.ChoiceFinish(reason=pb.FINISH_REASON_STOP, matched_stop="END")
    assert [(t.token_id, t.token) for t in delta.logprobs[0].top] == [(97, b"a"), (256, b"<s>")]
    job = requests.job(pb.GenerateRequest(), [1, 2, 3], DEFAULTS, None)
    finished = requests.finished(job, 1, ended).finished
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (3, 1)
    timings = finished.timings
    assert [timings.queued.ToMilliseconds(), timings.prefill.ToMilliseconds()] == [500, 1500]
    assert timings.decode.ToMilliseconds() == 4000
