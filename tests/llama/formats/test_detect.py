# ruff: noqa: RUF001 -- the fullwidth bars are DeepSeek's
from __future__ import annotations

import subprocess
import sys

import pytest

from services.llama.formats import Tool, by_name, detect, kept, names, parse

# What a template of the family cannot do without, written anew.
TEMPLATES = {
    "apertus": "{{ '<|tools_prefix|>[' + call }}",
    "apriel": "answer with <tool_calls>[{...}]</tool_calls>",
    "command-r": "<|CHATBOT_TOKEN|>\nAction:\n```json\n[",
    "command-r7b": "<|CHATBOT_TOKEN|><|START_THINKING|><|START_ACTION|>[",
    "deepseek-r1": "<｜tool▁call▁begin｜>function<｜tool▁sep｜>n\n```json\n{}",
    "deepseek-v3.1": "<｜tool▁call▁begin｜>n<｜tool▁sep｜>{}",
    "deepseek-v3.2": "{% set d = '｜DSML｜' %}{{ '<' + d + 'function_calls>' }}",
    "deepseek-v4": "{% set d = '｜DSML｜' %}{{ '<' + d + 'tool_calls>' }}",
    "firefunction": "{{ ' functools[' + calls }}<|start_header_id|>",
    "functionary-v3.1": '<|start_header_id|><function=example_function_name>{"a": 1}</function><|python_tag|>',
    "functionary-v3.2": "{{ '>>>all\\n' + message }}",
    "functiongemma": "<start_of_turn><start_function_call>call:n{}",
    "gemma": "<start_of_turn>model\n",
    "gemma-4": "{{ '<|tool_call>call:' + name }}",
    "generic": "{{ messages }}",
    "gigachat": "assistant<|message_sep|><|role_sep|><|function_call|>",
    "gigachat-v3": "assistant<|role_sep|><|message_sep|>",
    "glm-4.5": "<tool_call>{n}\n<arg_key>k</arg_key>\n<arg_value>v</arg_value>",
    "granite": "<|start_of_role|>respond with <|tool_call|>",
    "harmony": "<|start|>assistant<|channel|>final<|message|>",
    "hermes": '<|im_start|><tool_call>\n{"name": n}\n</tool_call>',
    "hunyuan": "{%- set HYTK = ':opensource' %}{{ '<tool_calls{}>'.format(HYTK) }}",
    "kimi-k2": "<|tool_calls_section_begin|><|tool_call_begin|>",
    "kimi-k3": "<|open|>message<|sep|><|close|><|end_of_msg|>",
    "lfm2": "List of tools: <|tool_list_start|>[",
    "llama3": '<|start_header_id|>{"name": n, "parameters": dictionary of argument name and value}',
    "llama4": "<|header_start|>assistant<|header_end|>",
    "minimax-m1": "<tool_calls>\n{...}\n</tool_calls>",
    "minimax-m2": '<minimax:tool_call><invoke name="n">',
    "minimax-m3": "{% set ns_token = ']<]minimax[>[' %}{{ ns_token ~ '<tool_call>' }}",
    "minicpm5": '<|im_start|><function name="n"><param name="k">v</param></function>',
    "mistral": "[INST][TOOL_CALLS][",
    "mistral-args": "[INST][TOOL_CALLS]n[ARGS]",
    "mistral-ids": "[INST][TOOL_CALLS]n[CALL_ID]i[ARGS]",
    "muse-glimmer": "<|start|>assistant<|message|><atem:function_calls>",
    "nemotron": "<TOOLCALL>[",
    "olmo3": "<function_calls>",
    "phi-4": "<|tool|>...<|/tool|>",
    "qwen3-coder": "<tool_call>\n<function=n>\n<parameter=k>\n",
    "seed-oss": "<seed:tool_call>\n<function=n>\n<parameter=k>",
    "solar-open": "<|begin|>assistant<|tool_call:begin|>i<|tool_call:args|>{}",
    "smollm3": "Reasoning Mode: /think You are SmolLM",
}
BY_TOKENS = {"internlm": ("<|im_start|>{{ x }}", ["<|action_start|>", "<|plugin|>"])}


@pytest.mark.parametrize("family", names())
def test_each_is_found_by_its_template_or_tokens(family):
    template, special = BY_TOKENS.get(family) or (TEMPLATES[family], [])
    assert detect(template, special).name == family


def test_marks_of_reasoning_in_the_template_are_known_too():
    family = detect("<|im_start|><tool_call><thinking>")
    assert family.name == "hermes"
    parsed = parse(family, "<thinking>Hm.</thinking>Yes.")
    assert (parsed.reasoning, parsed.content) == ("Hm.", "Yes.")
    assert detect("<tool_call><think>") is by_name("hermes")


def test_special_tokens_that_mean_something_stay_in_the_text():
    special = ["[TOOL_CALLS]", "[ARGS]", "[INST]", "[THINK]", "<s>", ""]
    family = by_name("mistral-args")
    assert kept(family, special) == {"[TOOL_CALLS]", "[ARGS]", "[THINK]"}
    assert kept(family, special, tools=False) == {"[THINK]"}
    assert kept(family, special, tools=False, reasoning=False) == set()
    harmony = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>", "<|call|>"]
    assert kept(by_name("harmony"), [*harmony, "<|startoftext|>"], tools=False) == set(harmony)
    gemma = ["<|tool_call>", "<tool_call|>", '<|"|>', "<|channel>", "<channel|>", "<turn|>"]
    assert kept(by_name("gemma-4"), gemma) == set(gemma) - {"<turn|>"}


def test_unknown_names():
    with pytest.raises(KeyError):
        by_name("nonsense")


def test_types_of_parameters():
    tool = Tool(
        "f",
        {
            "properties": {
                "a": {"type": ["string", "null"]},
                "b": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/x"}]},
                "c": {"enum": ["a", 1, None]},
                "d": {"const": True},
                "e": {"allOf": [{"description": "x"}, {"type": "array"}]},
                "f": {"anyOf": [{"type": "integer"}, {}]},
                "g": {"$ref": "#/$defs/loop"},
                "h": {"properties": {}},
                "i": {"items": {}},
                "j": {"$ref": "#/nothing"},
                "k": True,
            },
            "$defs": {"x": {"type": "object"}, "loop": {"$ref": "#/$defs/loop"}},
        },
    )
    assert tool.types("a") == {"string", "null"}
    assert tool.types("b") == {"number", "object"}
    assert tool.types("c") == {"string", "number", "null"}
    assert tool.types("d") == {"boolean"}
    assert tool.types("e") == {"array"}
    assert tool.types("h") == {"object"}
    assert tool.types("i") == {"array"}
    for key in "fgjkz":
        assert tool.types(key) == frozenset()
    assert Tool("f", {"properties": 3}).keys == []


def test_it_is_pure():
    # No engine, no protobuf, no gRPC, no library of grammars.
    code = (
        "import sys, services.llama.formats\n"
        "unwanted = {'grpc', 'google.protobuf', 'llguidance', 'llama_cpp', 'asyncio', 'numpy'}\n"
        "sys.exit(', '.join(unwanted & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
