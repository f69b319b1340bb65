"""Families whose output is messages, each with a head."""

from __future__ import annotations

from services.llama.formats.description import Channels, Format

# gpt-oss.
HARMONY = Format(
    name="harmony",
    signs=(("<|channel|>", "<|message|>"),),
    channels=Channels(
        start=("<|start|>assistant",),
        heads=("<|channel|>",),
        content=(
            "<|channel|>final<|message|>",
            "<|channel|>commentary<|message|>",
            "<|channel|>final <|constrain|>{type}<|message|>",
            "<|channel|>final {type}<|message|>",
            "<|message|>",
        ),
        reasoning=("<|channel|>analysis<|message|>",),
        calls=(
            "<|channel|>commentary to={name} <|constrain|>json<|message|>",
            "<|channel|>{channel} to={name} <|constrain|>{type}<|message|>",
            "<|channel|>{channel} to={name} {type}<|message|>",
            "<|channel|>{channel} to={name}<|message|>",
            " to={name}<|channel|>{channel} <|constrain|>{type}<|message|>",
            " to={name}<|channel|>{channel} {type}<|message|>",
            " to={name}<|channel|>{channel}<|message|>",
            " to={name}<|message|>",
        ),
        ends=("<|end|>", "<|call|>", "<|return|>"),
        namespace="functions.",
        nobody=("assistant", "user"),
    ),
    reasoning=(),
    stops=("<|call|>", "<|return|>"),
)

FUNCTIONARY_3_2 = Format(
    name="functionary-v3.2",
    signs=((">>>all",),),
    channels=Channels(
        start=(">>>",),
        content=("all\n",),
        reasoning=(),
        calls=("{name}\n",),
        ends=(),
        several=True,
    ),
    reasoning=(),
)
