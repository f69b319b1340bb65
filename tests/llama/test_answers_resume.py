"""Chats' answers that go on elsewhere: what was told before does not change what comes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import requests
from services.llama.interface import Logits
from tests.llama.answers_kit import EVERYTHING, VOCABULARY, add, answer, asked, job
from tests.llama.fake_runtime import BOS, FakeRuntime


@pytest.mark.parametrize("logprobs", [False, True])
async def test_resumed_behind_every_delta_it_says_the_rest_with_the_same_ids(start, logprobs):
    def request() -> pb.GenerateRequest:
        made: pb.GenerateRequest = asked()
        made.output.logprobs = logprobs
        return made

    one = job(request())
    (whole,) = (await answer(start, one, EVERYTHING)).values()
    runtime = FakeRuntime(script=EVERYTHING)
    runtime.permits = threading.Semaphore(0)
    streams = start(runtime, drafts=0).submit(one)
    told, cuts = pb.Delta(), []
    while not told.HasField("finish"):
        runtime.permits.release()
        add(told, requests.delta(0, (await streams.next())[1], VOCABULARY).delta)
        before = pb.Delta()
        before.CopyFrom(told)
        cuts.append(before)
    assert told == whole
    assert len(cuts) > 50
    engine = start(FakeRuntime(script=EVERYTHING))
    for before in cuts[:-1]:
        made = request()
        made.resume.choices.add(
            index=0, token_ids=before.token_ids, delivered_bytes=before.delivered_bytes
        )
        streams = engine.submit(job(made))
        gained = None
        while gained is None or gained.ended is None:
            _, gained = await streams.next()
            delta = requests.delta(0, gained, VOCABULARY).delta
            add(before, delta)
        assert before == whole
    own = [e for e, own in zip(whole.logprobs, whole.in_text, strict=False) if own]
    assert b"".join(entry.token for entry in own).decode() == (whole.text if logprobs else "")


class Beginning(FakeRuntime):
    """Says the script and then what it likes."""

    def _logits(self, tokens: list[int]) -> Logits:
        script = self._script or ""
        if tokens[::-1].index(BOS) >= len(script):
            self._script = None
        try:
            return super()._logits(tokens)
        finally:
            self._script = script


@pytest.mark.parametrize("script", ["<think>xxxxxxxx", "a\n<tool_call>"])
async def test_what_was_not_chosen_is_no_surprise_when_it_is_resumed(start, script):
    """Mirostat's state depends on the logits of tokens that were chosen, and on their masks."""

    async def run(ids: Iterable[int]) -> list[int]:
        made = asked()
        made.chat.reasoning_budget = 4
        long = {"type": "string", "minLength": 40, "maxLength": 60}
        note = {"type": "object", "properties": {"text": long}, "required": ["text"]}
        made.chat.tools[1].parameters_json_schema = json.dumps(note)
        made.chat.tool_choice.allowed_names.append("get_time")
        made.sampling.temperature = 1.0
        made.sampling.mirostat.version = 2
        made.sampling.mirostat.tau = 3.0
        made.stop.max_tokens = 80
        if ids:
            made.resume.choices.add(index=0, token_ids=ids)
        streams = start(Beginning(script=script)).submit(job(made))
        found, ended = list(ids), False
        while not ended:
            _, gained = await streams.next()
            found += gained.token_ids
            ended = gained.ended is not None
        return found

    whole = await run([])
    for cut in range(1, len(whole), 7):
        assert await run(whole[:cut]) == whole
