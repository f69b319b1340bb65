"""One choice's way through the engine: its tokens, its text, what its logits mean, when it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence as Many
from typing import Protocol

import numpy as np

from services.llama.interface import Chunk, Logits, Mask, Matcher, Vocabulary
from services.llama.job import Job, StopParams
from services.llama.kv.ledger import Spans
from services.llama.lookup import Lookup
from services.llama.reading import AnswerText, RawText, Text
from services.llama.sampling import Ids, Logprobs, Sampler, logprobs
from services.llama.sampling.masks import permits
from services.llama.scheduler import Candidate
from services.llama.stream import Delta, Ended, Finish, Stream, Timings, Usage
from services.llama.thoughts import Thoughts

# Greater than any position.
_NEVER = 2**62


class Guesser(Protocol):
    """Where drafts come from."""

    def result(self, drafted: int, accepted: int) -> None:
        """How a draft did."""


class Sequence:
    """The state of one choice. Belongs to the engine's thread; only `stream` is shared."""

    def __init__(self, job: Job, stream: Stream, vocabulary: Vocabulary, context: int) -> None:
        # Order of arrival, once it is queued.
        self.id = 0
        self.job = job
        self.choice = choice = stream.choice
        self.stream = stream
        self.timings = Timings()
        self.usage = Usage()
        self.tokens = list(job.prompt)
        # Where its cells are; None: it waits.
        self.slot: int | None = None
        # How many of its tokens have cells.
        self.cached = 0
        # Tokens guessed to come next, and evaluated with the last one.
        self.draft: list[int] = []
        # Since when its reader has been too far behind, on time.monotonic(). None: it is not.
        self.paused_since: float | None = None
        self.limit = job.limit(context)
        self._vocabulary = vocabulary
        self._text = _text(job, choice)
        self._kept = job.reading.kept if job.reading is not None else frozenset()
        # What the constraint waits for, and the position of the first token that it held for.
        trigger = job.reading.trigger if job.reading is not None else None
        self._awaited = trigger.search() if trigger is not None else None
        self._constrained_from = _NEVER
        self._behind = b""
        self._matcher: Matcher | None = None
        if job.grammar is not None and trigger is None:
            self._matcher = job.grammar.matcher()
        self._mask: Mask | None = None
        budget = job.reading.budget if job.reading is not None else None
        self._thoughts = Thoughts(self._text, budget, vocabulary)
        self._ends = job.stop.token_ids | vocabulary.ends
        self._suppressed = _suppressed(job.stop, vocabulary)
        self._sampler = Sampler(
            job.sampling,
            job.words,
            choice=choice,
            never=vocabulary.ends if job.stop.ignore_eos else frozenset(),
            piece=lambda token: vocabulary.piece(token, special=True),
        )
        self._lookup = Lookup(job.speculation) if job.speculation.enabled else None
        # Where its draft is from.
        self._guesser: Guesser | None = None
        # The next prompt token whose logprob is wanted: for all choices, choice 0 tells them.
        wants_prompt = job.output.prompt_logprobs and choice == 0 and len(job.prompt) > 1
        self._next_of_prompt = 1 if wants_prompt else _NEVER
        # The next token of an earlier attempt whose logits the sampler has yet to see.
        self._next_replayed = _NEVER
        # Follows the text as far as that.
        self._replayed: Matcher | None = None
        # What waits for the next delta, and completion tokens as of the last one.
        self._sent = 0
        self._token_ids: list[int] = []
        self._logprobs: list[Logprobs] = []
        self._prompt_logprobs: list[Logprobs] = []
        if job.output.prompt_logprobs and choice == 0:
            self._prompt_logprobs.append(Logprobs(job.prompt[0], math.nan, ()))
        # Set when what an earlier attempt left is all there is.
        self.ended_before: Delta | None = None
        self._resume()

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

    @property
    def rows_from(self) -> int:
        """Position from which on its logits are needed; cells from there on are of no use to it."""
        return min(len(self.tokens), self._next_of_prompt, self._next_replayed) - 1

    def candidate(self, spans: Spans, *, cached: int | None = None, stalled: bool) -> Candidate:
        """What the scheduler needs to know. `cached`: the cells that it would get, if it waits."""
        return Candidate(
            self.id,
            len(self.tokens),
            self.cached if cached is None else cached,
            self.limit,
            spans=spans,
            priority=self.job.priority,
            draft=len(self.draft),
            rows_from=self.rows_from,
            paused=self.paused_since is not None,
            stalled=stalled,
            reach=self.job.layout.reach(self.cached, len(self.tokens)),
            together=self.job.layout.together(self.cached),
        )

    def behind(self) -> int:
        """Tokens sent that the reader has not taken."""
        return self._sent - self.stream.taken

    def guess(self, most: int) -> None:
        """Looks for a draft of at most `most` tokens; one that decodes only."""
        self.draft = []
        most = min(most, self.draft_room())
        if most > 0 and self._lookup is not None:
            self.draft = self._lookup.draft(self.tokens, most)
            self._guesser = self._lookup

    def draft_room(self) -> int:
        """Tokens that a draft may have; 0 unless it decodes and may be guessed at."""
        if len(self.tokens) - self.cached != 1 or not self.job.speculation.enabled:
            return 0
        return min(self.limit - len(self.tokens) - 1, self.job.speculation.max_draft_tokens)

    def offer(self, draft: list[int], guesser: Guesser) -> None:
        """Takes a draft of at most `draft_room` tokens; the guesser is told how it did."""
        self.draft, self._guesser = draft, guesser

    def chunk(self, count: int, draft: int) -> Chunk:
        """The next tokens to evaluate, and so many of the draft behind them."""
        assert self.slot is not None
        embedded = self.job.layout.chunk(self.slot, self.cached, count)
        if embedded is not None:
            return embedded
        self.draft = self.draft[:draft]
        end = self.cached + count
        outputs = end + draft - max(self.rows_from, self.cached)
        tokens = self.tokens[self.cached : end] + self.draft
        start = self.job.layout.position(self.cached)
        return Chunk(self.slot, start, tokens, outputs=max(0, outputs))

    @property
    def prepares(self) -> bool:
        """Whether `prepare` has something to do."""
        return self._matcher is not None and self._mask is None

    def prepare(self) -> None:
        """Computes what the next sampling needs and does not depend on logits. On any thread."""
        if self._matcher is not None and self._mask is None:
            self._mask = self._matcher.mask()

    def take(self, rows: Many[Logits], count: int, now: float) -> Delta | None:
        """The logits after its next `count` tokens and its draft; what the reader can be told.

        The delta has `ended` set when the last token has come. Then, as always, `cached` counts
        the cells that hold its tokens; the runtime may hold more, of drafts that did not come out.
        """
        position = self.cached + count + len(self.draft) - len(rows)
        self.cached += count
        drafted, before, accepted = len(self.draft), len(self.tokens), 0
        ended: Ended | None = None
        for row in rows:
            if position + 1 < len(self.job.prompt):
                self._of_prompt(row, position + 1)
            elif position + 1 < before:
                self._replay(row, position + 1)
            else:
                ended = self._next(row, now)
                # The next row is of use if the token came that it was computed with.
                known = before + accepted
                guessed = accepted < drafted and self.tokens[known:] == [self.draft[accepted]]
                if ended is not None or not guessed:
                    break
                accepted += 1
            position += 1
        if drafted:
            self.cached += accepted
            self._count_draft(drafted, accepted)
        # All of the prompt's at once, which end with the first token at the latest.
        prompt = self.generated > 0 and bool(self._prompt_logprobs)
        news = prompt or self._text.news or self._token_ids or self._logprobs
        return self._delta(ended) if news or ended is not None else None

    def _of_prompt(self, row: Logits, position: int) -> None:
        """The logits that told of a prompt token."""
        if position >= self._next_of_prompt:
            entry = logprobs(row, self.tokens[position], self.job.output.top_logprobs)
            self._prompt_logprobs.append(entry)
            last = position + 1 == len(self.job.prompt)
            self._next_of_prompt = _NEVER if last else position + 1

    def _replay(self, row: Logits, position: int) -> None:
        """The logits that a token of an earlier attempt was chosen from."""
        if position >= self._next_replayed:
            token, completed = self.tokens[position], position - len(self.job.prompt)
            if completed == self._constrained_from and self.job.grammar is not None:
                self._replayed = self.job.grammar.behind(self._behind)
            mask = None if self._replayed is None else self._replayed.mask()
            if completed not in self._thoughts.forced:
                self._sampler.replay(row, completed, token, self._suppressed_at(completed), mask)
            self._sampler.accept(token)
            if self._replayed is not None and token not in self._ends:
                self._replayed.accept(token)
            last = position + 1 == len(self.tokens)
            self._next_replayed = _NEVER if last else position + 1

    def _next(self, row: Logits, now: float) -> Ended | None:
        """Chooses and appends the next token."""
        timings = self.timings
        timings.first_token = timings.first_token or now
        timings.last_token = now
        if len(self.tokens) >= self.limit:  # max_tokens = 0: the prompt was all there is to do
            return self._finished(Finish.LENGTH)
        position = self.generated
        self.prepare()
        token = self._thoughts.next
        if token is None or not (self._mask is None or permits(self._mask, token)):
            token = self._sampler.choose(row, position, self._suppressed_at(position), self._mask)
        if self.job.output.logprobs:
            self._logprobs.append(logprobs(row, token, self.job.output.top_logprobs))
        ended = self._chosen(token)
        if self._matcher is None or self.job.output.logprobs or ended is not None:
            return ended
        # What can only come so needs no logits: it is evaluated with the next token.
        for forced in self._matcher.forced():
            if ended is not None or self._thoughts.next is not None:
                break
            ended = self._chosen(forced)
        return ended

    def _chosen(self, token: int) -> Ended | None:
        self._sampler.accept(token)
        if self.job.output.token_ids:
            self._token_ids.append(token)
        return self._append(token)

    def _append(self, token: int) -> Ended | None:
        """Takes a chosen token in; depends on nothing but the tokens."""
        armed = self._armed(self.generated)
        self.tokens.append(token)
        if token in self._ends:
            return self._finished(Finish.STOP)
        if self._matcher is not None:
            self._matcher.accept(token)
            self._mask = None
        special = not self.job.output.skip_special_tokens or token in self._kept
        piece = self._vocabulary.piece(token, special=special)
        self._text.feed(piece, armed=armed)
        if self._text.matched is not None:
            return self._ended(Finish.STOP, self._text.matched)
        if self._awaited is not None:
            self._constrain(piece)
        if self._matcher is not None and self._matcher.finished:
            return self._finished(Finish.STOP)
        if len(self.tokens) >= self.limit:
            return self._finished(Finish.LENGTH)
        self._thoughts.appended(token, self.generated)
        return None

    def _constrain(self, piece: bytes) -> None:
        """The constraint holds for what follows its trigger, if that has come."""
        assert self._awaited is not None
        behind = self._awaited.feed(piece)
        # Thoughts may be about calls.
        if behind is None or self._text.thinking:
            return
        self._matcher = self.job.grammar.behind(behind) if self.job.grammar is not None else None
        if self._matcher is not None:
            self._awaited = None
            self._constrained_from, self._behind = self.generated, behind

    def _armed(self, position: int) -> bool:
        """Whether the token at this position of the completion may end it."""
        return position + 1 >= self.job.stop.min_tokens

    def _suppressed_at(self, position: int) -> Ids | None:
        return None if self._armed(position) else self._suppressed

    def _resume(self) -> None:
        """Goes through what an earlier attempt generated, up to where it stood."""
        resumed = self.job.resumed.get(self.choice)
        if resumed is None:
            return
        ended = None
        if self._sampler.needs_replay and resumed.token_ids:
            self._next_replayed = len(self.job.prompt)
            if self.job.grammar is not None and self._awaited is None:
                self._replayed = self.job.grammar.matcher()
        for token in resumed.token_ids:
            if not self._sampler.needs_replay:
                self._sampler.accept(token)
            ended = self._append(token)
            if ended is not None:
                self.ended_before = self._delta(ended)
                break
        self._sent = self.generated

    def _count_draft(self, drafted: int, accepted: int) -> None:
        self.usage.drafted += drafted
        self.usage.accepted += accepted
        if self._guesser is not None:
            self._guesser.result(drafted, accepted)
        self.draft = []

    def _finished(self, reason: Finish) -> Ended:
        """At an end that is not a stop string."""
        self._text.finish(cut_off=reason is Finish.LENGTH)
        return self._ended(reason)

    def _ended(self, reason: Finish, matched: str = "") -> Ended:
        if reason is Finish.STOP and self._text.calls:
            reason = Finish.TOOL_CALLS
        self.usage.reasoning = self._text.reasoning_tokens
        return Ended(reason, matched, self.timings, self.usage)

    def _delta(self, ended: Ended | None) -> Delta:
        self._sent = self.generated
        said = self._text.take()
        delta = Delta(
            text=said.text,
            reasoning=said.reasoning,
            calls=said.calls,
            owned=said.owned,
            token_ids=self._token_ids,
            logprobs=self._logprobs,
            prompt_logprobs=self._prompt_logprobs,
            completion_tokens=self._sent,
            delivered_bytes=self._text.delivered_bytes,
            ended=ended,
        )
        self._token_ids, self._logprobs, self._prompt_logprobs = [], [], []
        return delta


def _text(job: Job, choice: int) -> Text:
    """What the choice's tokens say, without what an earlier attempt has told."""
    stop = job.stop
    told = job.resumed[choice].delivered_bytes if choice in job.resumed else 0
    if job.reading is None:
        return RawText(stop.strings, include_matched=stop.include_matched, told=told)
    return AnswerText(
        job.reading,
        stop.strings,
        include_matched=stop.include_matched,
        told=told,
        seed=job.sampling.seed,
        choice=choice,
        owned=job.output.logprobs,
    )


def _suppressed(stop: StopParams, vocabulary: Vocabulary) -> Ids | None:
    """Tokens that must not come before min_tokens."""
    if not stop.min_tokens:
        return None
    return np.array(sorted(stop.token_ids | vocabulary.ends), np.int64)
