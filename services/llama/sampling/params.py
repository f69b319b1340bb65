"""What a request says about sampling: plain data, with the contract's fields and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Below it only the likeliest token has any weight, and 1 / temperature may overflow.
_LEAST_TEMPERATURE = 1e-6


@dataclass(frozen=True, slots=True)
class Dry:
    """Long verbatim repeats are punished: multiplier * base ** (length - allowed_length)."""

    multiplier: float
    base: float = 1.75
    # Tokens of repeat that cost nothing. A repeat has at least one.
    allowed_length: int = 2
    # Tokens back that it looks; 0 is the whole sequence, prompt included.
    window: int = 0
    # A repeat does not reach back across one of these.
    sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")


@dataclass(frozen=True, slots=True)
class Xtc:
    """Exclude top choices: at times, of all that reach a probability only the least likely stays."""

    probability: float
    threshold: float = 0.1


@dataclass(frozen=True, slots=True)
class Mirostat:
    """Perplexity control of version 1 or 2; `tau` is the target surprise in bits."""

    version: int
    tau: float = 5.0
    eta: float = 0.1


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen; the defaults are OpenAI's. Fields as in the contract."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    # Tokens back that the penalties look; 0 is the whole sequence, prompt included.
    penalty_window: int = 0
    seed: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    dry: Dry | None = None
    xtc: Xtc | None = None
    mirostat: Mirostat | None = None

    @property
    def penalises(self) -> bool:
        """Whether repetition, presence or frequency is penalised."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
        )

    @property
    def truncates(self) -> bool:
        """Whether anything cuts the tail of the distribution off."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0 or self.typical_p < 1

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token always comes, XTC or not."""
        if self.temperature < _LEAST_TEMPERATURE:
            return True
        return self.top_k == 1 and self.mirostat is None
