"""What the readers of a soak over a real model were told, and what must be true of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from services.llama.interface import Vocabulary
from services.llama.job import Job
from services.llama.prompt import detokenize
from services.llama.sampling import Logprobs
from services.llama.stream import Delta, Ended, Finish


@dataclass(slots=True)
class Told:
    """All that the reader of one choice was told."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: list[Logprobs] = field(default_factory=list)
    of_prompt: list[Logprobs] = field(default_factory=list)
    completed: int = 0
    delivered: int = 0
    ended: Ended | None = None

    def add(self, delta: Delta) -> None:
        assert self.ended is None, "told something after its end"
        self.text += delta.text
        self.ids += delta.token_ids
        self.logprobs += delta.logprobs
        self.of_prompt += delta.prompt_logprobs
        self.completed, self.delivered = delta.completion_tokens, delta.delivered_bytes
        self.ended = delta.ended


@dataclass(frozen=True, slots=True)
class Answer:
    """A job that was done to its end."""

    job: Job
    # By choice.
    told: dict[int, Told]


def check_text(job: Job, told: Told, vocabulary: Vocabulary, context: int) -> None:
    """The text is that of the tokens, and it ends where it should."""
    stop, ended = job.stop, told.ended
    assert ended is not None
    ends = stop.token_ids | vocabulary.ends
    end = told.ids[-1] if told.ids and told.ids[-1] in ends else None
    spoken = told.ids[:-1] if end is not None else told.ids
    assert not ends & set(spoken), "nothing comes behind an end"
    whole = detokenize(vocabulary, spoken, skip_special=True)
    if ended.matched_stop:
        assert ended.matched_stop in stop.strings
        shown = told.text if stop.include_matched else told.text + ended.matched_stop
        assert shown.endswith(ended.matched_stop)
        assert whole.startswith(shown)
    else:
        assert told.text == whole
    limit = context - len(job.prompt)
    limit = limit if stop.max_tokens is None else min(limit, stop.max_tokens)
    if ended.reason is Finish.LENGTH:
        assert len(told.ids) == limit
    else:
        assert len(told.ids) <= limit
        assert end is not None or ended.matched_stop or job.grammar is not None
        assert len(told.ids) >= stop.min_tokens or job.grammar is not None
    cut_off = told.text.removesuffix(ended.matched_stop) if ended.matched_stop else told.text
    if not stop.min_tokens:
        assert not any(string in cut_off for string in stop.strings)


def check_usage(job: Job, told: Told, *, resumed: bool) -> None:
    ended = told.ended
    assert ended is not None
    assert told.completed == len(told.ids)
    assert told.delivered == len(told.text.encode())
    usage, timings = ended.usage, ended.timings
    assert 0 <= usage.reused <= len(job.prompt) - (not resumed)
    assert 0 <= usage.accepted <= usage.drafted
    assert job.speculation.enabled or not usage.drafted
    assert 0 < timings.arrived <= timings.admitted <= timings.first_token <= timings.last_token


def check_logprobs(job: Job, told: Told, *, first: bool) -> None:
    wanted = told.ids if job.output.logprobs else []
    assert [entry.token for entry in told.logprobs] == wanted
    wanted = list(job.prompt) if job.output.prompt_logprobs and first else []
    assert [entry.token for entry in told.of_prompt] == wanted
    for entry in told.logprobs + told.of_prompt[1:]:
        assert entry.logprob <= 0
        assert len(entry.top) == job.output.top_logprobs
        likelier = [value for token, value in entry.top if token != entry.token]
        assert job.output.top_logprobs == 0 or max(entry.logprob, *likelier) == entry.top[0][1]
    assert all(math.isnan(entry.logprob) for entry in told.of_prompt[:1])
