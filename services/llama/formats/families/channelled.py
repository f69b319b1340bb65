"""Families whose output is messages, each with a head."""

from __future__ import annotations

from services.llama.formats.description import Channels, Format, Tagged

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

# What `<|end|>` ends is a message; the turn ends where nothing follows.
SOLAR_OPEN = Format(
    name="solar-open",
    signs=(("<|tool_call:begin|>", "<|tool_call:args|>"),),
    channels=Channels(
        start=("<|begin|>assistant",),
        heads=("<|tool_call:begin|>", "<|tool_calls|>"),
        content=("<|content|>",),
        reasoning=("<|think|>",),
        calls=("<|tool_call:begin|>{code}<|tool_call:name|>{name}<|tool_call:args|>",),
        ends=("<|end|>", "<|calls|>", "<|tool_call:end|>"),
        several=True,
        end=("<|tool_call:end|>",),
        open="<|tool_calls|>",
        close="<|calls|>",
        between="",
    ),
    reasoning=(),
    stops=("<|calls|>", "<|flush|>"),
)

# Messages to the model itself, to the user, to functions.
MUSE_GLIMMER = Format(
    name="muse-glimmer",
    signs=(("<atem:function_calls>",),),
    channels=Channels(
        start=("<|start|>assistant",),
        content=(" to=user<|message|>", "<|message|>"),
        reasoning=(" to=self<|message|>",),
        calls=(' to={name}<|message|><atem:function_calls>\n<atem:invoke name="{name}">\n',),
        ends=("<|eom|>", "<|eot|>"),
        nobody=("self", "user"),
        several=True,
        body=Tagged(('<atem:parameter name="{key}">',), "</atem:parameter>"),
        end=("</atem:invoke>\n", "</atem:function_calls>"),
        between="<|eom|><|start|>assistant",
        proof="<|message|><atem:function_calls>",
    ),
    reasoning=(),
    stops=("<|eot|>",),
)
