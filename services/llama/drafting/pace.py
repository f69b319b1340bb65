"""Who gets a draft from a model, and how long: the decision, pure.

Every token that is guessed costs a decode of the draft model, for all sequences together, and a
row of the model's batch for each. It saves a step if it comes out, and it can only come out if all
before it did. So one guesses as far as tokens per second grow by it, and not at all where they
never would. Times are in steps of the model: what a decode without drafts takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Tokens of a draft at the most.
MOST_GUESSED = 8
# What a row more in a batch costs, in steps: 0.05 to 0.25 on CPUs, by the model's size.
ROW_COST = 0.1
# A decode of the draft model, in steps, until it has been measured.
USUAL_COST = 0.2

# That a guess comes out, before anything is known; and the weight of the latest one.
_FIRST_CHANCE = 0.75
_WEIGHT = 1 / 8
# Certainty would never be given up.
_LEAST_CHANCE, _MOST_CHANCE = 0.02, 0.98
# Rests, each twice as long as the one before, after which a sequence is given up.
_RESTS = 6
# A measured time: the weight of the latest, and what is forgotten with every step without one.
_NEWEST = 0.1
_FORGOTTEN = 0.002


@dataclass(frozen=True, slots=True)
class Wish:
    """A sequence that may get a draft."""

    # That one more guess comes out.
    chance: float
    # Tokens at the most.
    most: int


def lengths(wishes: Sequence[Wish], *, decoding: int, rows: int, cost: float) -> list[int]:
    """How many tokens to guess for each, all together at most `rows`.

    `decoding`: sequences that get a token in this step, with or without a draft. `cost`: of one
    decode of the draft model, in steps.
    """
    best, rate = [0] * len(wishes), float(decoding)
    for rounds in range(1, MOST_GUESSED + 1):
        found, tokens_per_step = _within(wishes, decoding, rows, rounds, cost)
        if tokens_per_step <= rate:
            break  # each decode gives less than the one before
        best, rate = found, tokens_per_step
    return best


def _within(
    wishes: Sequence[Wish], decoding: int, rows: int, rounds: int, cost: float
) -> tuple[list[int], float]:
    """The best that so many decodes of the draft model give, and tokens per step with it."""
    guesses = sorted(
        (-(wish.chance**place), place, index)
        for index, wish in enumerate(wishes)
        for place in range(1, min(rounds, wish.most) + 1)
    )
    found = [0] * len(wishes)
    tokens, time = float(decoding), 1 + rounds * cost
    for negative, _, index in guesses[: max(0, rows)]:
        if -negative / ROW_COST <= tokens / time:
            break
        tokens, time = tokens - negative, time + ROW_COST
        found[index] += 1
    return found, tokens / time


def worth(chance: float, most: int) -> int:
    """How far to guess, 1 to `most` tokens, where guessing costs nothing but rows."""
    length, tokens, time = 0, 1.0, 1.0
    while length < most and chance ** (length + 1) / ROW_COST > tokens / time:
        length, tokens, time = length + 1, tokens + chance ** (length + 1), time + ROW_COST
    return max(1, length)


class Chance:
    """That one more guess comes out, as far as those before tell."""

    def __init__(self) -> None:
        self.value = _FIRST_CHANCE

    def result(self, drafted: int, accepted: int) -> None:
        """How a draft did."""
        for _ in range(accepted):
            self.learn(came=True)
        # What stands behind a wrong guess says nothing.
        if accepted < drafted:
            self.learn(came=False)

    def learn(self, *, came: bool) -> None:
        """How one guess did."""
        value = self.value + _WEIGHT * (came - self.value)
        self.value = min(_MOST_CHANCE, max(_LEAST_CHANCE, value))


class Pace:
    """How the drafts of one sequence do, and whether it is to have more."""

    def __init__(self) -> None:
        self._chance = Chance()
        # It did not pay for so long that it is to have no more.
        self.over = False
        self._refusals = 0
        # The draft of this step, if there is one, is not expected to pay.
        self._trying = False

    def __repr__(self) -> str:
        state = "over" if self.over else f"every {self._period()} steps"
        return f"<Pace {state}, {self.chance:.2f}>"

    @property
    def chance(self) -> float:
        """That one more guess comes out."""
        return self._chance.value

    def ready(self, step: int) -> bool:
        """Whether it may have a draft in this step, a number that all sequences have in common.

        So those that rest awake together: what does not pay for one may pay for several.
        """
        return not self.over and step % self._period() == 0

    def _period(self) -> int:
        return 2 << self._refusals if self._refusals else 1

    def granted(self, length: int) -> int:
        """Takes what it pays to guess; how far to guess then.

        Where it does not pay it rests, and after the rest one token is guessed nevertheless: else
        nobody would learn that the text has become easier.
        """
        self._trying = not length
        if length:
            return length
        rested = self._refusals > 0
        self.refused()
        return int(rested)

    def refused(self) -> None:
        """There is nothing to be gained, or no room: it rests."""
        self._refusals += 1
        self.over = self._refusals > _RESTS

    def result(self, drafted: int, accepted: int) -> None:
        """How a draft did."""
        if accepted and not self._trying:
            self._refusals = 0
        self._chance.result(drafted, accepted)

    def unsure(self) -> None:
        """A decode of the draft model gave nothing that is worth a row."""
        self._chance.learn(came=False)


class Costs:
    """What a decode of the draft model costs, in steps of the model, as measured of late."""

    def __init__(self) -> None:
        self._round = 0.0
        self._step = 0.0
        # How far what was measured still counts.
        self._trust = 0.0

    @property
    def cost(self) -> float:
        """In steps."""
        if not self._round or not self._step:
            return USUAL_COST
        return USUAL_COST + self._trust * (self._round / self._step - USUAL_COST)

    def round(self, seconds: float) -> None:
        """A decode of the draft model took so long, one token for each."""
        self._round = _average(self._round, seconds)
        self._trust = 1.0

    def step(self, seconds: float) -> None:
        """A step of the model took so long, without prefill."""
        self._step = _average(self._step, seconds)
        # What is not measured any more, because it seemed too dear, must get another chance.
        self._trust *= 1 - _FORGOTTEN


def _average(known: float, newest: float) -> float:
    return known + _NEWEST * (newest - known) if known else newest
