"""Families that write a call's name by itself, and its arguments as JSON."""

# ruff: noqa: RUF001 -- the fullwidth bars are DeepSeek's

from __future__ import annotations

from services.llama.formats.description import Calls, Format, Inside, Json, Outside, Reasoning

_THINK = (Reasoning("[THINK]", "[/THINK]"), Reasoning())
_WITH_ID = "{name}[CALL_ID]{id}[ARGS]"
_WITHOUT_ID = "{name}[ARGS]"

# Mistral Small 3.2.
MISTRAL_IDS = Format(
    name="mistral-ids",
    signs=(("[TOOL_CALLS]", "[CALL_ID]"),),
    calls=(
        Calls(
            call=(Outside((_WITH_ID, _WITHOUT_ID, "{name}"), Json()), Inside(id="id")),
            open="[TOOL_CALLS]",
        ),
    ),
    reasoning=_THINK,
)

# Devstral, Magistral, Ministral 3, Large 3.
MISTRAL_ARGS = Format(
    name="mistral-args",
    signs=(("[TOOL_CALLS]", "[ARGS]"),),
    calls=(
        Calls(
            call=(Outside((_WITHOUT_ID, _WITH_ID, "{name}"), Json()), Inside(id="id")),
            open="[TOOL_CALLS]",
        ),
    ),
    reasoning=_THINK,
)

FUNCTIONARY_3_1 = Format(
    name="functionary-v3.1",
    signs=(("<function=example_function_name>{",),),
    calls=(Calls(call=(Outside(("{name}>",), Json(), end=("</function>",)),), open="<function="),),
    stops=("<|eom_id|>",),
)

_V3_1 = "{name}<｜tool▁sep｜>"


def _deepseek(call: Outside, separator: str = "") -> Calls:
    return Calls(
        call=(call,),
        open="<｜tool▁calls▁begin｜>",
        close="<｜tool▁calls▁end｜>",
        call_open="<｜tool▁call▁begin｜>",
        call_close="<｜tool▁call▁end｜>",
        separator=separator,
    )


# V3, R1 and what was distilled from it.
DEEPSEEK_R1 = Format(
    name="deepseek-r1",
    signs=(("<｜tool▁sep｜>", "```json"),),
    calls=(
        _deepseek(
            Outside(
                (
                    "function<｜tool▁sep｜>{name}\n```json\n",
                    "function<｜tool▁sep｜>{name}\n",
                    _V3_1,
                ),
                Json(),
                end=("\n```",),
            ),
            separator="\n",
        ),
    ),
)

DEEPSEEK_V3_1 = Format(
    name="deepseek-v3.1",
    signs=(("<｜tool▁sep｜>",),),
    calls=(_deepseek(Outside((_V3_1,), Json())),),
)

KIMI_K2 = Format(
    name="kimi-k2",
    signs=(("<|tool_calls_section_begin|>",),),
    calls=(
        Calls(
            call=(
                Outside(
                    (
                        "functions.{name}:{index}<|tool_call_argument_begin|>",
                        "{name}:{index}<|tool_call_argument_begin|>",
                        "{name}<|tool_call_argument_begin|>",
                    ),
                    Json(),
                    id="functions.{name}:{index}",
                    strip=("functions.",),
                ),
            ),
            open="<|tool_calls_section_begin|>",
            close="<|tool_calls_section_end|>",
            call_open="<|tool_call_begin|>",
            call_close="<|tool_call_end|>",
        ),
    ),
    reasoning=(Reasoning(until_calls=True),),
)
