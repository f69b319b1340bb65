"""What every API that generates takes about it: how tokens are chosen, when a choice ends."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Tag

from edge.openai.fields import FIRST, Part, string_or

MAX_INT32 = 2**31 - 1

StopString = Annotated[str, Field(min_length=1, max_length=256)]
Stop = Annotated[
    Annotated[StopString, Tag("~string")]
    | Annotated[Annotated[list[StopString], FIRST, Field(max_length=16)], Tag("~array")],
    string_or(list, "~array", "one of a string or array of strings"),
]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
# What single precision, which the contract has, tells from 0 and from infinity.
Factor = Annotated[float, Field(ge=0, le=1e6)]
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]
Tokens = Annotated[int, Field(ge=0, le=MAX_INT32)]
# Tokens back; -1 is all of them.
Window = Annotated[int, Field(ge=-1, le=MAX_INT32)]
LogitBias = Annotated[
    dict[str, Annotated[float, Field(ge=-100, le=100)]], FIRST, Field(max_length=1024)
]


class StreamOptions(Part):
    """What a stream carries besides the deltas. Obfuscation is accepted and not done."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Sampled(Part):
    """`None` is absent: the model's default counts."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Share | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stop | None = None
    stop_sequence: Stop | None = None
    """`stop` under an older name."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None

    # Beyond OpenAI: what `extra_body` of the SDK puts at the top level; vLLM's names, then those
    # of llama.cpp's server. top_k -1 is off, as 0.
    top_k: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    min_tokens: Tokens | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[Tokens], FIRST, Field(max_length=64)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None

    repeat_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    """`repetition_penalty` under llama.cpp's name."""
    repeat_last_n: Window | None = None
    """Tokens back that the penalties look; 0 switches them off."""
    dry_multiplier: Factor | None = None
    dry_base: Annotated[float, Field(ge=1, le=1e6)] | None = None
    dry_allowed_length: Tokens | None = None
    dry_penalty_last_n: Window | None = None
    """Tokens back that DRY looks; 0 switches it off."""
    dry_sequence_breakers: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=64)]], FIRST, Field(max_length=16)
        ]
        | None
    ) = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    mirostat: Annotated[int, Field(ge=0, le=2)] | None = None
    """0 is off."""
    mirostat_tau: Positive | None = None
    mirostat_eta: Positive | None = None
