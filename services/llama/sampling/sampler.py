"""The sampler of one choice: what the engine calls, and the order of the steps.

Cost matters: this runs once per token, on the engine's thread, with vocabularies of 150,000.
Greedy is one argmax. What changes logits changes few: it is done in place, and undone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from services.llama.interface import Logits, Mask
from services.llama.sampling import masks, xtc
from services.llama.sampling.arrays import Floats, Ids, tame
from services.llama.sampling.draws import draw
from services.llama.sampling.dry import Repeats
from services.llama.sampling.mirostat import Control
from services.llama.sampling.params import SamplingParams
from services.llama.sampling.penalties import Counts, penalised
from services.llama.sampling.randomness import uniform
from services.llama.sampling.truncation import truncate


class Sampler:
    """Chooses the tokens of one choice.

    Its state follows from its tokens, and under mirostat from their logits too: a generation is
    continued by a new sampler on prompt and completion, or by one on the prompt that accepts the
    completion, with `replay` before each `accept` where `needs_replay`.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        *,
        choice: int = 0,
        never: frozenset[int] = frozenset(),
        piece: Callable[[int], bytes] | None = None,
    ) -> None:
        """`never`: tokens that may not come. `piece`: a token's text, which DRY's breakers need.

        Raises ValueError for DRY with breakers and no `piece`.
        """
        self._params = params
        self._choice = choice
        self._counts = Counts(params.penalty_window, prompt) if params.penalises else None
        self._repeats = None
        if params.dry is not None and params.dry.multiplier > 0:
            self._repeats = Repeats(params.dry, prompt, piece)
        self._control = None
        if params.mirostat is not None and not params.greedy:
            self._control = Control(params.mirostat, params.temperature)
        bias = {**params.logit_bias, **dict.fromkeys(never, -math.inf)}
        self._bias_ids = np.fromiter(bias.keys(), np.int64, len(bias))
        self._bias = np.fromiter(bias.values(), np.float32, len(bias))

    @property
    def needs_replay(self) -> bool:
        """Whether the state depends on the logits of earlier positions, and not on tokens alone."""
        return self._control is not None

    def accept(self, token: int) -> None:
        """Counts a generated token for penalties and DRY; the prompt's are counted already."""
        if self._counts is not None:
            self._counts.add(token)
        if self._repeats is not None:
            self._repeats.add(token)

    def choose(
        self,
        logits: Logits,
        position: int,
        suppressed: Ids | None = None,
        allowed: Mask | None = None,
    ) -> int:
        """The token at this position of the completion (from 0). Leaves `logits` unchanged.

        Never one that the mask `allowed` lacks; if it allows none: ValueError. NaN counts as
        -inf, tokens at +inf as equally likely; where no token is possible, or only suppressed
        ones, the lowest that comes nearest to being permitted.
        """
        among = 0
        if allowed is not None:
            among = masks.count(allowed, len(logits))
            if among <= 1:
                return _only(allowed, len(logits))
        with np.errstate(all="ignore"), self._adjusted(logits, suppressed):
            if self._params.greedy:
                # Mostly it is a number, and allowed.
                token = int(logits.argmax())
                possible = math.isfinite(logits[token])
                if possible and (allowed is None or masks.permits(allowed, token)):
                    return token
            ids, values = None, logits
            if allowed is not None:
                ids, values = masks.restrict(logits, allowed, among)
            values, best, tops = tame(values)
            if best == -math.inf:
                return self._lowest(len(logits), suppressed, allowed)
            index = self._index(values, best, tops, len(logits), position)
            return index if ids is None else int(ids[index])

    def replay(
        self,
        logits: Logits,
        position: int,
        token: int,
        suppressed: Ids | None = None,
        allowed: Mask | None = None,
    ) -> None:
        """Goes on as if `choose` with these arguments had returned `token`; does not accept it.

        Only where `needs_replay` does it do anything.
        """
        if self._control is None:
            return
        ids, among = None, 0
        if allowed is not None:
            among = masks.count(allowed, len(logits))
            if among <= 1:
                return
        with np.errstate(all="ignore"), self._adjusted(logits, suppressed):
            values = logits
            if allowed is not None:
                ids, values = masks.restrict(values, allowed, among)
            values, best, _ = tame(values)
            if best == -math.inf:
                return
            values, best = self._excluded(values, best, position)
            index: int | None = token
            if ids is not None:
                found = np.flatnonzero(ids == token)
                index = int(found[0]) if len(found) else None
            self._control.observe(values, best, len(logits), index)

    @contextmanager
    def _adjusted(self, logits: Logits, suppressed: Ids | None) -> Iterator[None]:
        """While it lasts the logits have bias, penalties and DRY in them."""
        biased = len(self._bias_ids) > 0
        undo: list[tuple[Ids, Logits]] = []

        def change(ids: Ids, values: Floats | float) -> None:
            undo.append((ids, logits[ids]))
            logits[ids] = values

        try:
            if biased:
                change(self._bias_ids, logits[self._bias_ids] + self._bias)
            if self._counts is not None:
                change(*penalised(logits, self._counts, self._params))
            if self._repeats is not None:
                change(*self._repeats.penalised(logits))
            if suppressed is not None:
                change(suppressed, -math.inf)
            yield
        finally:
            for ids, values in reversed(undo):
                logits[ids] = values

    def _index(
        self, values: Floats, best: float, tops: Floats, vocabulary: int, position: int
    ) -> int:
        """Index of the chosen value; `best` is the largest, a number, `tops` are the peaks."""
        params = self._params
        if params.greedy:
            return int(values.argmax())
        number = uniform(params.seed, self._choice, position)
        if self._control is not None:
            values, best = self._excluded(values, best, position)
            return self._control.choose(values, best, vocabulary, number)
        if not params.truncates:
            values, best = self._excluded(values, best, position)
            return draw(values, best, params.temperature, number)
        ids, kept = truncate(values, best, tops, params)
        kept, best = self._excluded(kept, float(kept.max()), position)
        return int(ids[draw(kept, best, params.temperature, number)])

    def _excluded(self, values: Floats, best: float, position: int) -> tuple[Floats, float]:
        """Values and the largest after XTC, if that strikes here."""
        params = self._params
        if params.xtc is None or not xtc.strikes(params.xtc, params.seed, self._choice, position):
            return values, best
        return xtc.exclude(values, best, params.xtc)

    def _lowest(self, size: int, suppressed: Ids | None, allowed: Mask | None) -> int:
        """The lowest token that may come, where the logits leave none."""
        open_ = np.ones(size, np.bool_) if allowed is None else masks.allowed(allowed, size)
        preferred = open_.copy()
        preferred[self._bias_ids[self._bias == -np.inf]] = False
        if suppressed is not None:
            preferred[suppressed] = False
        return int((preferred if preferred.any() else open_).argmax())


def _only(mask: Mask, size: int) -> int:
    """The one token that the mask allows. It says nothing of the logits: no state follows them."""
    ids = masks.tokens(mask, size)
    if not len(ids):
        raise ValueError("the mask allows no token")
    return int(ids[0])
