"""Two calls as each family's template writes them, white space and all."""

# ruff: noqa: RUF001 -- the fullwidth bars are DeepSeek's
from __future__ import annotations

from tests.llama.formats.cases_newer import M3, MINI, MUSE, SOLAR
from tests.llama.formats.cases_outside import KIMI, R1, V31, M
from tests.llama.formats.cases_tagged import QWEN, Q
from tests.llama.formats.kit import ROME, T, W

# get_weather(city="Rome", days=3) and get_time(), by a family's template; of some just the first.
_LIST = (
    f'[{{"name": "get_weather", "arguments": {ROME}}}, {{"name": "get_time", "arguments": {{}}}}]'
)
_ARGS = f"[TOOL_CALLS]get_weather[ARGS]{ROME}[TOOL_CALLS]get_time[ARGS]{{}}"
_HERMES = (
    f'<tool_call>\n{{"name": "get_weather", "arguments": {ROME}}}\n</tool_call>\n'
    '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
)
_LINES = (
    f'{{"name": "get_weather", "arguments": {ROME}}}\n{{"name": "get_time", "arguments": {{}}}}'
)
_PYTHON = 'get_weather(city="Rome", days=3)'
_DSML = (
    '<D|{tag}>\n<D|invoke name="get_weather">\n<D|parameter name="city" string="true">Rome</D|parameter>\n'
    '<D|parameter name="days" string="false">3</D|parameter>\n</D|invoke>\n'
    '<D|invoke name="get_time">\n</D|invoke>\n</D|{tag}>'
).replace("D|", "｜DSML｜")
WRITTEN = {
    "apertus": f'<|tools_prefix|>[{{"get_weather": {ROME}}}, {{"get_time": {{}}}}]<|tools_suffix|>',
    "apriel": f"<tool_calls>{_LIST}</tool_calls>",
    "command-r": f'Action:\n```json\n[{{"tool_name": "get_weather", "parameters": {ROME}}},\n{{"tool_name": "get_time", "parameters": {{}}}}]\n```',
    "command-r7b": f'<|START_ACTION|>[{{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {ROME}}}, {{"tool_call_id": "1", "tool_name": "get_time", "parameters": {{}}}}]<|END_ACTION|>',
    "deepseek-r1": "<｜tool▁calls▁begin｜>"
    + R1.format(W, ROME)
    + "\n"
    + R1.format(T, "{}")
    + "<｜tool▁calls▁end｜>",
    "deepseek-v3.1": "<｜tool▁calls▁begin｜>"
    + V31.format(W, ROME)
    + V31.format(T, "{}")
    + "<｜tool▁calls▁end｜>",
    "deepseek-v3.2": _DSML.replace("{tag}", "function_calls"),
    "deepseek-v4": _DSML.replace("{tag}", "tool_calls"),
    "firefunction": f"functools{_LIST}",
    "functionary-v3.1": f"<function=get_weather>{ROME}</function><function=get_time>{{}}</function>",
    "functionary-v3.2": f"get_weather\n{ROME}>>>get_time\n{{}}",
    "functiongemma": "<start_function_call>call:get_weather{city:<escape>Rome<escape>,days:3}<end_function_call><start_function_call>call:get_time{}<end_function_call>",
    "gemma": _LINES,
    "gemma-4": f"<|tool_call>call:get_weather{{city:{Q}Rome{Q},days:3}}<tool_call|><|tool_call>call:get_time{{}}<tool_call|>",
    "generic": _LINES,
    "gigachat-v3": f'<|message_sep|>\n\nfunction call<|role_sep|>\n{{"name": "get_weather", "arguments": {ROME}}}',
    "gigachat": f'<|function_call|>{{"name": "get_weather", "arguments": {ROME}}}',
    "glm-4.5": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>get_time\n</tool_call>",
    "granite": f"<|tool_call|>{_LIST}",
    "harmony": f"<|channel|>commentary to=functions.get_weather <|constrain|>json{M}{ROME}",
    "hermes": _HERMES,
    "hunyuan": "<tool_calls:O>\n<tool_call:O>get_weather<tool_sep:O>\n<arg_key:O>city</arg_key:O>\n<arg_value:O>Rome</arg_value:O>\n<arg_key:O>days</arg_key:O>\n<arg_value:O>3</arg_value:O>\n</tool_call:O>\n<tool_call:O>get_time<tool_sep:O>\n</tool_call:O>\n</tool_calls:O>".replace(
        ":O", ":opensource"
    ),
    "internlm": f'<|action_start|><|plugin|>\n{{"name": "get_weather", "parameters": {ROME}}}<|action_end|><|action_start|><|plugin|>\n{{"name": "get_time", "parameters": {{}}}}<|action_end|>',
    "kimi-k2": "<|tool_calls_section_begin|>"
    + KIMI.format(W, 0, ROME)
    + KIMI.format(T, 1, "{}")
    + "<|tool_calls_section_end|>",
    "kimi-k3": '<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Rome<|close|>argument<|sep|><|open|>argument key="days" type="number"<|sep|>3<|close|>argument<|sep|><|close|>call<|sep|><|open|>call tool="get_time" index="2"<|sep|><|close|>call<|sep|><|close|>tools<|sep|>',
    "lfm2": f"<|tool_call_start|>[{_PYTHON}, get_time()]<|tool_call_end|>",
    "llama3": f'{{"name": "get_weather", "parameters": {ROME}}}',
    "llama4": f"[{_PYTHON}, get_time()]",
    "minimax-m1": f"<tool_calls>\n{_LINES}\n</tool_calls>",
    "minimax-m2": '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Rome</parameter>\n<parameter name="days">3</parameter>\n</invoke>\n<invoke name="get_time">\n</invoke>\n</minimax:tool_call>',
    "minimax-m3": M3,
    "minicpm5": MINI,
    "mistral": f"[TOOL_CALLS]{_LIST}",
    "mistral-args": _ARGS,
    "mistral-ids": _ARGS.replace("[ARGS]", "[CALL_ID]abcdef123[ARGS]"),
    "muse-glimmer": MUSE,
    "nemotron": f"<TOOLCALL>{_LIST}</TOOLCALL>",
    "olmo3": f"<function_calls>{_PYTHON}\nget_time()</function_calls>",
    "phi-4": f"<|tool_call|>{_LIST}<|/tool_call|>",
    "qwen3-coder": QWEN + "\n<tool_call>\n<function=get_time>\n</function>\n</tool_call>",
    "seed-oss": "<seed:tool_call>\n<function=get_weather>\n<parameter=city>Rome</parameter>\n<parameter=days>3</parameter>\n</function>\n</seed:tool_call>\n<seed:tool_call>\n<function=get_time>\n</function>\n</seed:tool_call>",
    "smollm3": _HERMES,
    "solar-open": SOLAR,
}
