from __future__ import annotations

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import requests
from services.llama.job import OutputParams, Resumed, StopParams
from services.llama.sampling import Logprobs, SamplingParams
from services.llama.stream import Delta, Ended, Finish, Timings, Usage
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
    ended = Ended(Finish.STOP, "END", Timings(1.0, 1.5, 3.0, 7.0), Usage(2, 5, 4))
    entry = Logprobs(97, -0.5, ((97, -0.5), (256, -2.0)))
    gained = Delta("a", [97], [entry], 1, 1, ended=ended)
    delta = requests.delta(0, gained, FakeVocabulary()).delta
    assert delta.finish == pb.ChoiceFinish(reason=pb.FINISH_REASON_STOP, matched_stop="END")
    assert [(t.token_id, t.token) for t in delta.logprobs[0].top] == [(97, b"a"), (256, b"<s>")]
    job = requests.job(pb.GenerateRequest(), [1, 2, 3], DEFAULTS, None)
    finished = requests.finished(pb.GenerateRequest(), job, {0: (1, ended)}).finished
    assert finished.usage == pb.Usage(
        prompt_tokens=3,
        completion_tokens=1,
        cached_tokens=2,
        draft_tokens=5,
        accepted_draft_tokens=4,
    )
    timings = finished.timings
    assert [timings.queued.ToMilliseconds(), timings.prefill.ToMilliseconds()] == [500, 1500]
    assert timings.decode.ToMilliseconds() == 4000


def test_choices_together():
    request = pb.GenerateRequest(n=3)
    request.resume.choices.add(index=1, token_ids=[5, 6], finished=True)
    request.resume.choices.add(index=2, token_ids=[7], delivered_bytes=3)
    job = requests.job(request, [1, 2], DEFAULTS, None)
    assert job.choices == (0, 2)
    assert job.resumed == {2: Resumed((7,), 3)}
    first = Ended(Finish.STOP, "", Timings(1.0, 2.0, 3.0, 4.0), Usage(1, 2, 1))
    other = Ended(Finish.STOP, "", Timings(1.0, 1.5, 3.5, 9.0), Usage(9, 3, 3))
    finished = requests.finished(request, job, {2: (4, other), 0: (10, first)}).finished
    assert finished.usage == pb.Usage(
        prompt_tokens=2,
        completion_tokens=16,
        cached_tokens=1,
        draft_tokens=5,
        accepted_draft_tokens=4,
    )
    timings = finished.timings
    assert [timings.queued.ToMilliseconds(), timings.prefill.ToMilliseconds()] == [500, 1500]
    assert timings.decode.ToMilliseconds() == 6000


def test_candidates_of_which_the_best_are_wanted_tell_their_logprobs():
    job = requests.job(pb.GenerateRequest(n=1, best_of=4), [1], DEFAULTS, None)
    assert job.choices == (0, 1, 2, 3)
    assert job.output.logprobs
