"""A job on its way into the engine: its choices, each as far as an earlier attempt brought it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from services.llama.constrain import ConstraintError
from services.llama.interface import Vocabulary
from services.llama.job import Job
from services.llama.sequence import Sequence
from services.llama.stream import Stream, Streams
from services.worker.errors import InvalidField


@dataclass(slots=True)
class Arrival:
    """What Engine.submit takes, once."""

    job: Job
    streams: Streams
    sequences: tuple[Sequence, ...]

    def become(self, job: Job) -> Arrival:
        """Takes the same job with the vectors of its images and sounds; itself."""
        self.job = job
        for sequence in self.sequences:
            sequence.job = job
        return self


def arriving(job: Job, vocabulary: Vocabulary, context: int, wake: Callable[[], None]) -> Arrival:
    """Takes some µs for each token that is resumed: not for the engine's thread, nor the loop's.

    Raises InvalidField, ConstraintFailed.
    """
    news = asyncio.Event()
    sequences = []
    for choice in job.choices:
        resumed = job.resumed.get(choice)
        taken = len(resumed.token_ids) if resumed is not None else 0
        stream = Stream(wake, choice, news, taken)
        try:
            sequences.append(Sequence(job, stream, vocabulary, context))
        except ConstraintError:
            message = f"the tokens of choice {choice} are not what the constraint allows"
            raise InvalidField("resume.choices", message) from None
    streams = Streams([sequence.stream for sequence in sequences], news)
    return Arrival(job, streams, tuple(sequences))
