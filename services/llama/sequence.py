"""One request's way through the engine: its tokens, its cells, its text, when it ends."""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

import numpy as np

from services.llama.detokenize import TextStream
from services.llama.interface import Logits, Vocabulary
from services.llama.sampling import Ids, Logprobs, Sampler, SamplingParams, logprobs
from services.llama.scheduler import Candidate
from services.llama.stream import Delta, Ended, Finish, Stream, Timings


@dataclass(frozen=True, slots=True)
class StopParams:
    """When a choice ends. Fields as in the contract."""

    # None: what the context leaves.
    max_tokens: int | None = None
    min_tokens: int = 0
    strings: tuple[str, ...] = ()
    token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    include_matched: bool = False


@dataclass(frozen=True, slots=True)
class OutputParams:
    """What comes back besides text. Fields as in the contract."""

    token_ids: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    skip_special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """A choice to generate, checked and tokenized: what the event loop hands to the engine."""

    # At least 1, fewer than the context.
    prompt: Tokens[int]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: StopParams = field(default_factory=StopParams)
    output: OutputParams = field(default_factory=OutputParams)
    # On time.monotonic(), seconds. None: no deadline.
    deadline: float | None = None


class Sequence:
    """The state of one choice. Belongs to the engine's thread; only `stream` is shared."""

    def __init__(
        self,
        number: int,
        job: Job,
        vocabulary: Vocabulary,
        context: int,
        stream: Stream,
        arrived: float,
    ) -> None:
        # Order of arrival.
        self.id = number
        self.job = job
        self.stream = stream
        self.timings = Timings(arrived=arrived)
        self.tokens = list(job.prompt)
        # Where its cells are; None: it waits.
        self.slot: int | None = None
        # How many of its tokens have cells.
        self.cached = 0
        # Since when its reader has been too far behind, on time.monotonic(). None: it is not.
        self.paused_since: float | None = None
        self.limit = _limit(job, context)
        self._vocabulary = vocabulary
        self._text = TextStream(job.stop.strings, include_matched=job.stop.include_matched)
        self._ends = job.stop.token_ids | vocabulary.ends
        self._suppressed = _suppressed(job.stop, vocabulary)
        self._sampler = Sampler(
            job.sampling,
            job.prompt,
            never=vocabulary.ends if job.stop.ignore_eos else frozenset(),
        )
        # Completion tokens as of the last delta, and what waits for the next one.
        self._sent = 0
        self._token_ids: list[int] = []
        self._logprobs: list[Logprobs] = []

    def __repr__(self) -> str:
        where = "waiting" if self.slot is None else f"slot {self.slot}"
        return (
            f"<Sequence {self.id} {where}, {len(self.job.prompt)} + {self.generated} of "
            f"{self.limit} tokens, {self.cached} cached>"
        )

    @property
    def generated(self) -> int:
        """Completion tokens so far."""
        return len(self.tokens) - len(self.job.prompt)

    @property
    def phase(self) -> str:
        """What it is in the middle of, in the contract's words for a missed deadline."""
        if self.timings.first_token:
            return "decode"
        return "prefill" if self.timings.admitted else "queued"

    def candidate(self, *, stalled: bool = False) -> Candidate:
        """What the scheduler needs to know."""
        return Candidate(
            self.id,
            len(self.tokens),
            self.cached,
            self.limit,
            paused=self.paused_since is not None,
            stalled=stalled,
        )

    def behind(self) -> int:
        """Tokens sent that the reader has not taken."""
        return self._sent - self.stream.taken

    def sample(self, logits: Logits, now: float) -> Delta | None:
        """Chooses and appends the next token; what the reader can be told about it.

        The delta has `ended` set when this was the last token.
        """
        timings = self.timings
        timings.first_token = timings.first_token or now
        timings.last_token = now
        if len(self.tokens) >= self.limit:  # max_tokens = 0: the prompt was all there is to do
            return self._end(Finish.LENGTH)
        position = self.generated
        armed = position + 1 >= self.job.stop.min_tokens
        token = self._sampler.choose(logits, position, None if armed else self._suppressed)
        self._sampler.accept(token)
        self.tokens.append(token)
        output = self.job.output
        if output.token_ids:
            self._token_ids.append(token)
        if output.logprobs:
            self._logprobs.append(logprobs(logits, token, output.top_logprobs))
        if token in self._ends:
            return self._end(Finish.STOP)
        piece = self._vocabulary.piece(token, special=not output.skip_special_tokens)
        text = self._text.feed(piece, armed=armed)
        if self._text.matched is not None:
            return self._delta(text, self._ended(Finish.STOP, self._text.matched))
        if len(self.tokens) >= self.limit:
            return self._end(Finish.LENGTH, text)
        return self._delta(text) if text or self._token_ids or self._logprobs else None

    def _end(self, reason: Finish, text: str = "") -> Delta:
        return self._delta(text + self._text.finish(), self._ended(reason))

    def _ended(self, reason: Finish, matched: str = "") -> Ended:
        return Ended(reason, matched, self.timings)

    def _delta(self, text: str, ended: Ended | None = None) -> Delta:
        self._sent = self.generated
        delta = Delta(
            text, self._token_ids, self._logprobs, self._sent, self._text.delivered_bytes, ended
        )
        self._token_ids, self._logprobs = [], []
        return delta


def _limit(job: Job, context: int) -> int:
    wanted = job.stop.max_tokens
    return context if wanted is None else min(context, len(job.prompt) + wanted)


def _suppressed(stop: StopParams, vocabulary: Vocabulary) -> Ids | None:
    """Tokens that must not come before min_tokens."""
    if not stop.min_tokens:
        return None
    return np.array(sorted(stop.token_ids | vocabulary.ends), np.int64)
