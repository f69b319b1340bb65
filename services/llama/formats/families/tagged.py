"""Families that write arguments one by one between tags."""

# ruff: noqa: RUF001 -- the fullwidth bars are DeepSeek's

from __future__ import annotations

from services.llama.formats.description import (
    Calls,
    Elements,
    Format,
    Inside,
    Outside,
    Reasoning,
    Tagged,
)
from services.llama.formats.families.shapes import QWEN_FUNCTION

# Qwen3-Coder, Qwen 3.5, Nemotron 3, Step 3.5.
QWEN3_CODER = Format(
    name="qwen3-coder",
    signs=(("<tool_call>", "<function=", "<parameter="),),
    calls=(
        Calls(
            call=(QWEN_FUNCTION, Inside()),
            open="<tool_call>\n",
            close="</tool_call>",
            again="\n",
        ),
        # The outer tag is forgotten now and then.
        Calls(
            call=(Outside(("{name}>\n",), QWEN_FUNCTION.body, QWEN_FUNCTION.end),),
            open="<function=",
            close="</tool_call>",
            certain=False,
        ),
    ),
    reasoning=(Reasoning(until_calls=True),),
)

SEED_OSS = Format(
    name="seed-oss",
    signs=(("<seed:tool_call>",),),
    calls=(
        Calls(
            call=(
                Outside(
                    ("<function={name}>\n",),
                    Tagged(("<parameter={key}>",), "</parameter>"),
                    end=("</function>\n",),
                ),
            ),
            open="<seed:tool_call>\n",
            close="</seed:tool_call>",
            again="\n",
        ),
    ),
    reasoning=(Reasoning("<seed:think>", "</seed:think>"),),
)

# GLM 4.5 to 4.7, Ling 3, Laguna, Spark.
GLM = Format(
    name="glm-4.5",
    signs=(("<tool_call>", "<arg_key>"),),
    calls=(
        Calls(
            call=(
                Outside(
                    ("{name}",),
                    Tagged(("<arg_key>{key}</arg_key>\n<arg_value>",), "</arg_value>", before="\n"),
                ),
                Inside(),
            ),
            open="<tool_call>",
            close="</tool_call>",
            again="\n",
        ),
    ),
    reasoning=(Reasoning(until_calls=True),),
)

# Hunyuan: the same tags with a suffix.
HUNYUAN = Format(
    name="hunyuan",
    signs=(("HYTK = ':opensource'",), ("<tool_sep:opensource>",)),
    calls=(
        Calls(
            call=(
                Outside(
                    ("{name}<tool_sep:opensource>\n",),
                    Tagged(
                        ("<arg_key:opensource>{key}</arg_key:opensource>\n<arg_value:opensource>",),
                        "</arg_value:opensource>",
                    ),
                ),
            ),
            open="<tool_calls:opensource>\n",
            close="</tool_calls:opensource>",
            call_open="<tool_call:opensource>",
            call_close="</tool_call:opensource>\n",
        ),
    ),
    reasoning=(Reasoning("<think:opensource>", "</think:opensource>"),),
)


def _invoke(prefix: str, attribute: str = "") -> Outside:
    """<invoke name="…"> and <parameter name="…">, with a prefix."""
    return Outside(
        (f'<{prefix}invoke name="{{name}}">\n',),
        Tagged((f'<{prefix}parameter name="{{key}}"{attribute}>',), f"</{prefix}parameter>"),
        end=(f"</{prefix}invoke>",),
    )


MINIMAX_M2 = Format(
    name="minimax-m2",
    signs=(("<minimax:tool_call>",),),
    calls=(
        Calls(
            call=(_invoke(""),),
            open="<minimax:tool_call>\n",
            close="\n</minimax:tool_call>",
            separator="\n",
        ),
    ),
)

_DSML = _invoke("｜DSML｜", ' string="{string}"')
_FUNCTION_CALLS = Calls(
    call=(_DSML,),
    open="<｜DSML｜function_calls>\n",
    close="\n</｜DSML｜function_calls>",
    separator="\n",
)
_TOOL_CALLS = Calls(
    call=(_DSML,),
    open="<｜DSML｜tool_calls>\n",
    close="\n</｜DSML｜tool_calls>",
    separator="\n",
)
DEEPSEEK_V3_2 = Format(
    name="deepseek-v3.2",
    signs=(("｜DSML｜", "function_calls>"),),
    calls=(_FUNCTION_CALLS, _TOOL_CALLS),
)
DEEPSEEK_V4 = Format(
    name="deepseek-v4",
    signs=(("｜DSML｜", "tool_calls>"),),
    calls=(_TOOL_CALLS, _FUNCTION_CALLS),
)

# Values may be objects and arrays, and then are written as elements too.
_M3 = "]<]minimax[>["
MINIMAX_M3 = Format(
    name="minimax-m3",
    signs=((_M3,),),
    calls=(
        Calls(
            call=(
                Outside(
                    (f'{_M3}<invoke name="{{name}}">',), Elements(_M3), end=(f"{_M3}</invoke>",)
                ),
            ),
            open=f"{_M3}<tool_call>\n",
            close=f"\n{_M3}</tool_call>",
            separator="\n",
        ),
    ),
    reasoning=(Reasoning("<mm:think>", "</mm:think>"),),
)

MINICPM_5 = Format(
    name="minicpm5",
    signs=(('<function name="', '<param name="'),),
    calls=(
        Calls(
            call=(
                Outside(
                    ('{name}">',),
                    Tagged(('<param name="{key}">',), "</param>", between="", cdata=True),
                    end=("</function>",),
                ),
            ),
            open='<function name="',
            again="\n",
        ),
    ),
)

KIMI_K3 = Format(
    name="kimi-k3",
    signs=(("<|open|>", "<|close|>", "<|end_of_msg|>"),),
    calls=(
        Calls(
            call=(
                Outside(
                    ('{name}" index="{index}"<|sep|>', '{name}"<|sep|>'),
                    Tagged(
                        ('<|open|>argument key="{key}" type="{type}"<|sep|>',),
                        "<|close|>argument<|sep|>",
                        between="",
                    ),
                ),
            ),
            open="<|open|>tools<|sep|>",
            close="<|close|>tools<|sep|>",
            call_open='<|open|>call tool="',
            call_close="<|close|>call<|sep|>",
        ),
    ),
    reasoning=(
        Reasoning("<|open|>think<|sep|>", "<|close|>think<|sep|>", anywhere=True, until_calls=True),
    ),
    wrappers=(("<|open|>response<|sep|>", "<|close|>response<|sep|>"),),
    stops=("<|close|>message<|sep|>",),
)
