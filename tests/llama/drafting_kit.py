"""A draft model that is right when it is told to, and engines with it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from services.llama.drafting.drafter import Drafter
from services.llama.engine import Engine, EngineLimits
from services.llama.interface import Logits
from services.llama.job import Job
from services.llama.lookup import SpeculationParams
from tests.llama.engine_kit import check_and_stop, job, until
from tests.llama.fake_runtime import FakeRuntime

# Nothing is looked up: the text never repeats so much.
NO_LOOKUP = SpeculationParams(max_ngram=200)
# Whether it is right after these tokens.
Right = Callable[[list[int]], bool]


def always(tokens: list[int]) -> bool:
    return bool(tokens)


def never(tokens: list[int]) -> bool:
    return not tokens


def sometimes(tokens: list[int]) -> bool:
    return zlib.crc32(bytes(token % 251 for token in tokens[-3:])) % 3 > 0


class Guessing(FakeRuntime):
    """Guesses what the model would choose without temperature, or the token after that."""

    def __init__(self, model: FakeRuntime, right: Right = always, **fields: Any) -> None:
        super().__init__(**fields)
        self._model = model
        self._right = right
        # After how many tokens it does not know.
        self.unsure_at: set[int] = set()

    def _logits(self, tokens: list[int]) -> Logits:
        logits = np.zeros(self.vocabulary.size, np.float32)
        if len(tokens) not in self.unsure_at:
            best = int(self._model._logits(tokens).argmax())
            logits[best if self._right(tokens) else (best + 1) % 256] = 50
        return logits


def follow(draft: FakeRuntime, clock: Callable[[], float] = lambda: 0.0) -> Drafter:
    """Times are those that are assumed, unless there is a clock."""
    return Drafter(draft, draft.vocabulary.size, clock)


@asynccontextmanager
async def engine_of(model: FakeRuntime, drafter: Drafter, **limits: int):
    """An engine that drafts, and must have lost nothing at the end."""
    settings = EngineLimits(limits.pop("context", 1024), **{"parallel": 8, **limits})
    engine = Engine(model, settings, drafter=drafter)
    engine.start()
    try:
        yield engine
        if not drafter.off:
            await until(lambda: not drafter._followers)
    finally:
        await check_and_stop(engine)
    if drafter.off:
        return
    drafter.check()
    draft = drafter._runtime
    assert isinstance(draft, FakeRuntime)
    drafter._kv.check()
    assert drafter._kv.slots[0] == 0
    assert drafter._kv.used == draft.used


def greedy(text: str = "hello", **fields: Any) -> Job:
    return job(text, temperature=0.0, speculation=fields.pop("speculation", NO_LOOKUP), **fields)
