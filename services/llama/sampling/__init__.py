"""Logits to a token: pure arithmetic, numpy only.

Randomness is a function of (seed, choice, position) and nothing else. The order is llama.cpp's:
bias, penalties, DRY; then top_k, typical_p, top_p, min_p and XTC on the untempered distribution;
temperature last. Mirostat, which replaces the four truncations, comes after the temperature.

    params       what a request may say
    sampler      the order, and what the engine calls
    penalties    repetition, presence, frequency
    dry          long verbatim repeats
    masks        which tokens a constraint allows
    truncation   top_k, typical_p, top_p, min_p
    xtc          exclude top choices
    mirostat     perplexity control
    draws        weights to a token
    randomness   the numbers behind it
    reported     logprobs
"""

from services.llama.sampling.arrays import Floats, Ids
from services.llama.sampling.params import Dry, Mirostat, SamplingParams, Xtc
from services.llama.sampling.randomness import uniform
from services.llama.sampling.reported import Logprobs, logprobs
from services.llama.sampling.sampler import Sampler

__all__ = [
    "Dry",
    "Floats",
    "Ids",
    "Logprobs",
    "Mirostat",
    "Sampler",
    "SamplingParams",
    "Xtc",
    "logprobs",
    "uniform",
]
