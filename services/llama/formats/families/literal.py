"""Families that write arguments as literals of a language."""

from __future__ import annotations

from services.llama.formats.description import Calls, Format, Inside, Literals, Outside, Reasoning
from services.llama.formats.families.shapes import PYTHON

LFM2 = Format(
    name="lfm2",
    signs=(("<|tool_list_start|>",), ("<|tool_call_start|>",), ("List of tools: [",)),
    calls=(
        Calls(
            call=(Outside(("{name}",), PYTHON), Inside()),
            open="<|tool_call_start|>",
            close="<|tool_call_end|>",
            separator=", ",
            array=True,
        ),
    ),
)

LLAMA_4 = Format(
    name="llama4",
    signs=(("<|header_start|>",),),
    calls=(
        Calls(call=(Outside(("{name}",), PYTHON),), separator=", ", array=True, certain=False),
        Calls(
            call=(Outside(("{name}",), PYTHON), Inside()),
            open="<|python_start|>",
            close="<|python_end|>",
            separator=", ",
            array=True,
        ),
        Calls(
            call=(Inside('{"name": "{name}", "parameters": {arguments}}'),),
            separator=", ",
            certain=False,
        ),
    ),
)

OLMO_3 = Format(
    name="olmo3",
    signs=(("<function_calls>",),),
    calls=(
        Calls(
            call=(Outside(("{name}",), PYTHON),),
            open="<function_calls>",
            close="</function_calls>",
            separator="\n",
        ),
    ),
)


def _gemma(quote: str) -> Literals:
    return Literals(open="{", close="}", assign=":", quotes=(quote,), escapes=False, separator=",")


GEMMA_4 = Format(
    name="gemma-4",
    signs=(("<|tool_call>call:",),),
    calls=(
        Calls(
            call=(Outside(("call:{name}",), _gemma('<|"|>')),),
            open="<|tool_call>",
            close="<tool_call|>",
        ),
    ),
    reasoning=(Reasoning("<|channel>thought\n", "<channel|>", anywhere=True),),
    stops=("<|tool_response>",),
)

FUNCTION_GEMMA = Format(
    name="functiongemma",
    signs=(("<start_function_call>",),),
    calls=(
        Calls(
            call=(Outside(("call:{name}",), _gemma("<escape>")),),
            open="<start_function_call>",
            close="<end_function_call>",
        ),
    ),
    stops=("<start_function_response>",),
)
