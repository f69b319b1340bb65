"""Families whose calls are JSON objects that hold the name."""

from __future__ import annotations

from services.llama.formats.description import Calls, Format, Inside, Json, Outside, Reasoning
from services.llama.formats.families.shapes import PYTHON, QWEN_FUNCTION

_PARAMETERS = Inside('{"name": "{name}", "parameters": {arguments}}')
_TOOL_NAME = Inside('{"tool_name": "{name}", "parameters": {arguments}}', names=("tool_name",))
# `<function=get_time>{}</function>`, which models of several families fall into.
FUNCTION_TAG = Calls(
    call=(Outside(("{name}>",), Json(), end=("</function>",)),),
    open="<function=",
    certain=False,
)
_BARE = Calls(call=(Inside(),), separator="\n", certain=False)
_FENCED = Calls(
    call=(Inside(),), open="```json\n", close="\n```", separator=", ", array=True, certain=False
)
_FUNCTOOLS = Calls(call=(Inside(),), open="functools", separator=", ", array=True, certain=False)
_TOOL_CALL = Calls(
    call=(Inside(), QWEN_FUNCTION), open="<tool_call>\n", close="\n</tool_call>", again="\n"
)

# Hermes, Qwen 2.5 and 3, QwQ, Granite 4, MiMo, Bielik, Reka, EXAONE 4 and many more.
HERMES = Format(name="hermes", signs=(("<tool_call>",),), calls=(_TOOL_CALL,))

SMOLLM3 = Format(
    name="smollm3",
    signs=(("Reasoning Mode: ", "SmolLM"),),
    calls=(
        _TOOL_CALL,
        Calls(
            call=(Outside(("{name}",), PYTHON),),
            open="<code>\n",
            close="\n</code>",
            separator="\n",
            certain=False,
        ),
    ),
)

LLAMA_3 = Format(
    name="llama3",
    signs=(
        ("<|start_header_id|>", '"parameters": dictionary of argument name'),
        ("<|start_header_id|>", "<|python_tag|>"),
    ),
    calls=(
        Calls(call=(_PARAMETERS,), separator="; ", certain=False, several=False),
        Calls(
            call=(_PARAMETERS, Outside(("{name}",), PYTHON, strip=(".call",))),
            open="<|python_tag|>",
            separator="; ",
        ),
        FUNCTION_TAG,
    ),
    stops=("<|eom_id|>",),
)

# 7B v0.3, Mixtral 8x22B, Nemo, Large 2407.
MISTRAL = Format(
    name="mistral",
    signs=(("[TOOL_CALLS]",),),
    calls=(
        Calls(
            call=(
                Inside(id="id"),
                Outside(("{name}[ARGS]", "{name}[CALL_ID]{id}[ARGS]", "{name}"), Json()),
            ),
            open="[TOOL_CALLS]",
            separator=", ",
            array=True,
        ),
    ),
    reasoning=(Reasoning("[THINK]", "[/THINK]"), Reasoning()),
)

# Granite 3; Granite 4 writes as Hermes does.
GRANITE = Format(
    name="granite",
    signs=(("<|tool_call|>", "<|start_of_role|>"),),
    calls=(
        Calls(call=(Inside(),), open="<|tool_call|>", separator=", ", array=True),
        Calls(
            call=(Inside(),), open="<tool_call>", close="</tool_call>", separator=", ", array=True
        ),
    ),
    wrappers=(("<response>", "</response>"),),
)

# Command R7B, Command A.
COMMAND_R7B = Format(
    name="command-r7b",
    signs=(("<|START_ACTION|>",),),
    calls=(
        Calls(
            call=(
                Inside(
                    '{"tool_call_id": "{index}", "tool_name": "{name}", "parameters": {arguments}}',
                    names=("tool_name", "name"),
                ),
            ),
            open="<|START_ACTION|>",
            close="<|END_ACTION|>",
            separator=", ",
            array=True,
        ),
    ),
    reasoning=(
        Reasoning("<|START_THINKING|>", "<|END_THINKING|>", anywhere=True, until_calls=True),
    ),
    wrappers=(
        ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
        ("<|START_TEXT|>", "<|END_TEXT|>"),
    ),
)

# The first Command R and R+.
COMMAND_R = Format(
    name="command-r",
    signs=(("<|CHATBOT_TOKEN|>", "Action:"),),
    calls=(
        Calls(
            call=(_TOOL_NAME,),
            open="Action:\n```json\n",
            close="\n```",
            separator=",\n",
            array=True,
        ),
    ),
)

PHI_4 = Format(
    name="phi-4",
    signs=(("<|tool|>",), ("<|tool_call|>",)),
    calls=(
        Calls(
            call=(Inside(),),
            open="<|tool_call|>",
            close="<|/tool_call|>",
            separator=", ",
            array=True,
        ),
        _FUNCTOOLS,
    ),
)

FIREFUNCTION = Format(name="firefunction", signs=(("functools",),), calls=(_FUNCTOOLS,))

# Nemotron Nano v2; Nemotron 3 writes as Qwen3-Coder does.
NEMOTRON = Format(
    name="nemotron",
    signs=(("<TOOLCALL>",),),
    calls=(
        Calls(call=(Inside(),), open="<TOOLCALL>", close="</TOOLCALL>", separator=", ", array=True),
    ),
)

# Also Jamba.
APRIEL = Format(
    name="apriel",
    signs=(("<tool_calls>[",),),
    calls=(
        Calls(
            call=(Inside(id="id"),),
            open="<tool_calls>",
            close="</tool_calls>",
            separator=", ",
            array=True,
        ),
    ),
    reasoning=(Reasoning("<thinking>", "</thinking>"), Reasoning()),
)

MINIMAX_M1 = Format(
    name="minimax-m1",
    signs=(("<tool_calls>",),),
    calls=(
        Calls(call=(Inside(),), open="<tool_calls>\n", close="\n</tool_calls>", separator="\n"),
    ),
)

APERTUS = Format(
    name="apertus",
    signs=(("<|tools_prefix|>",),),
    calls=(
        Calls(
            call=(Inside('{"{name}": {arguments}}', names=(), arguments=(), by_name=True),),
            open="<|tools_prefix|>",
            close="<|tools_suffix|>",
            separator=", ",
            array=True,
        ),
    ),
    reasoning=(Reasoning("<|inner_prefix|>", "<|inner_suffix|>", anywhere=True),),
)

INTERNLM = Format(
    name="internlm",
    signs=(("<|plugin|>",),),
    calls=(
        Calls(call=(_PARAMETERS,), open="<|action_start|><|plugin|>\n", close="<|action_end|>"),
    ),
)

# GigaChat 3, and 3.1 behind it.
GIGACHAT_3 = Format(
    name="gigachat-v3",
    signs=(("<|message_sep|>", "<|role_sep|>", "!<|function_call|>"),),
    calls=(
        Calls(
            call=(Inside(),),
            open="<|message_sep|>\n\nfunction call<|role_sep|>\n",
            several=False,
        ),
    ),
)
GIGACHAT = Format(
    name="gigachat",
    signs=(("<|function_call|>",),),
    calls=(Calls(call=(Inside(),), open="<|function_call|>", several=False),),
)

# Models without a format of their own, that are told to answer with JSON.
GENERIC = Format(name="generic", signs=(), calls=(_BARE, _FENCED, _TOOL_CALL))

# Gemma 2 and 3: their templates know no tools, and their documents show Python.
GEMMA = Format(
    name="gemma",
    signs=(("<start_of_turn>",),),
    calls=(
        _BARE,
        _FENCED,
        Calls(
            call=(
                Outside(("{name}",), PYTHON, strip=("default_api.",)),
                Outside(("print({name}",), PYTHON, end=(")",), strip=("default_api.",)),
            ),
            open="```tool_code\n",
            close="\n```",
            separator="\n",
            certain=False,
        ),
        Calls(call=(Inside(),), open="```tool_call\n", close="\n```", certain=False),
    ),
)
