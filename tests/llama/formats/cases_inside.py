"""Calls that are JSON objects."""

from __future__ import annotations

from tests.llama.formats.kit import PARIS, Family, T, W

hermes = Family("hermes")
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>'
hermes(CALL, calls=((W, PARIS),))
hermes(f"Let me look.\n{CALL}", content="Let me look.", calls=((W, PARIS),))
hermes(
    f"{CALL}\n<tool_call>\n" + '{"name": "get_time", "arguments": {}}\n</tool_call>',
    calls=((W, PARIS), (T, "{}")),
)
hermes(f"A.\n\n{CALL}\n\nB.", content="A.\n\nB.", calls=((W, PARIS),))
hermes(f"{CALL}\n\nB.\n", content="B.\n", calls=((W, PARIS),))
hermes(f"{CALL}\n", calls=((W, PARIS),))
hermes("<think>\nHm.\n</think>\n\nYes.", reasoning="Hm.", content="Yes.")
hermes("\n<think>Hm.</think>Yes.", reasoning="Hm.", content="Yes.")
hermes("<think>\n\n</think>\n\nYes.", content="Yes.")
hermes(f"<think>\nHm.\n</think>\n\n{CALL}", reasoning="Hm.", calls=((W, PARIS),))
hermes("Hm.\n</think>\n\nYes.", reasoning="Hm.", content="Yes.", prompt="assistant\n<think>\n")
hermes("<think>\nHm.\n</think>\n\nYes.", reasoning="Hm.", content="Yes.", prompt="<think>\n")
hermes("Yes.", content="Yes.", prompt="<think>\n\n</think>\n\n")
hermes("Hm. No end", reasoning="Hm. No end", prompt="<think>\n")
hermes("<think>a </thin", reasoning="a </thin")
hermes("</think>\n\nYes.", content="Yes.")
hermes("Use the <think> tag.</think>", content="Use the <think> tag.</think>")
hermes("<think>Hm.</think>Yes.", content="<think>Hm.</think>Yes.", thinks=False)
hermes("Hm.</think>Yes.", content="Hm.</think>Yes.", thinks=False, prompt="<think>")
hermes(CALL, content=CALL, tools=())
hermes(f"<think>{CALL}</think>x", reasoning=CALL, content="x")
# Arguments first, other keys, a string of JSON, no arguments, nested in "function".
hermes(
    f'<tool_call>{{"arguments": {PARIS}, "name": "get_weather"}}</tool_call>', calls=((W, PARIS),)
)
hermes(
    f'<tool_call>{{"id": 3, "x": [{{}}], "name":"get_weather","parameters":{PARIS}}}</tool_call>',
    calls=((W, PARIS),),
)
hermes(
    '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Par\\u00eds\\"}"}</tool_call>',
    calls=((W, '{"city": "París"}'),),
)
hermes('<tool_call>{"name": "get_time"}</tool_call>', calls=((T, "{}"),))
hermes('<tool_call>{"name": "get_time", "arguments": null}</tool_call>', calls=((T, "{}"),))
hermes(
    f'<tool_call>{{"type": "function", "function": {{"name": "get_weather", "arguments": {PARIS}}}}}</tool_call>',
    calls=((W, PARIS),),
)
hermes(
    '<tool_call>{"name": "unknown_1", "arguments": {}}</tool_call>', calls=(("unknown_1", "{}"),)
)
hermes(
    f'<tool_call>[{{"name": "get_weather", "arguments": {PARIS}}},{{"name":"get_time"}}]</tool_call>ok',
    content="ok",
    calls=((W, PARIS), (T, "{}")),
)
# The marker inside of a string means nothing.
hermes(
    '<tool_call>{"name": "run", "arguments": {"code": "a</tool_call>\\"}{<tool_call>"}}</tool_call>',
    calls=(("run", '{"code": "a</tool_call>\\"}{<tool_call>"}'),),
)
# Broken ones.
hermes("<tool_call>hello</tool_call>", content="<tool_call>hello</tool_call>")
hermes("a <tool_call> b", content="a <tool_call> b")
hermes("a <tool_cal", content="a <tool_cal")
hermes("a  \n<tool_call>", content="a  \n<tool_call>")
hermes('<tool_call>{"name": "get_w', content='<tool_call>{"name": "get_w')
hermes('<tool_call>{"foo": 1}</tool_call>', content='<tool_call>{"foo": 1}</tool_call>')
hermes('<tool_call>{"name": "get_weather", "argu', calls=((W, "{}"),))
hermes('<tool_call>{"name": "get_weather", "argu', calls=((W, ""),), reason="length")
hermes('<tool_call>{"name": "get_weather", "arguments": {"city": "Pa', calls=((W, '{"city": "Pa'),))
hermes(
    '<tool_call>{"name": "get_weather", "arguments": {"city": "Pa\\',
    calls=((W, '{"city": "Pa\\'),),
    reason="length",
)
hermes(f'<tool_call>{{"name": "get_weather", "arguments": {PARIS}', calls=((W, PARIS),))
hermes(f'<tool_call>{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_c', calls=((W, PARIS),))
hermes(f"{CALL}\n<tool_c", calls=((W, PARIS),), content="<tool_c")
hermes(
    f'<tool_call>{{"name": "get_weather", "arguments": {PARIS}}}}}</tool_call>', calls=((W, PARIS),)
)
hermes(
    '<tool_call>{"name": "get_weather", "arguments": {"city": {"a": 1}</tool_call> x',
    calls=((W, '{"city": {"a": 1}'),),
    content="x",
)
hermes(
    f'<tool_call>{{"name": "get_weather", "arguments": {PARIS}}}\n<tool_call>{{"name": "get_time"}}</tool_call>',
    calls=((W, PARIS), (T, "{}")),
)
hermes(
    '<tool_call>{"name": "get_weather", "arguments": [1, }</tool_call>',
    calls=((W, "[1, }"),),
)
hermes(
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
    calls=((W, PARIS),),
)

llama = Family("llama3")
llama(f'{{"name": "get_weather", "parameters": {PARIS}}}', calls=((W, PARIS),))
llama(f'\n{{"name":"get_weather","arguments":{PARIS}}}', calls=((W, PARIS),))
llama(
    f'{{"name": "get_weather", "parameters": {PARIS}}}; {{"name": "get_time", "parameters": {{}}}}',
    calls=((W, PARIS), (T, "{}")),
)
llama(
    f'I see.\n{{"name": "get_weather", "parameters": {PARIS}}}',
    content="I see.",
    calls=((W, PARIS),),
)
llama(f'{{"type": "function", "name": "get_weather", "parameters": {PARIS}}}', calls=((W, PARIS),))
llama(f'<|python_tag|>{{"name": "get_weather", "parameters": {PARIS}}}', calls=((W, PARIS),))
llama('<|python_tag|>get_weather.call(city="Paris")', calls=((W, PARIS),))
llama(f"<function=get_weather>{PARIS}</function>", calls=((W, PARIS),))
llama('{"name": "John", "parameters": {}}', content='{"name": "John", "parameters": {}}')
llama('{"a": [1, 2]}', content='{"a": [1, 2]}')
llama(
    '{"name": "get_weather", "description": "x"}',
    content='{"name": "get_weather", "description": "x"}',
)
llama('{"name": "get_ti', content='{"name": "get_ti')
llama('{"name": "get_time"}', calls=((T, "{}"),))
llama(
    f'see {{"name": "get_weather", "parameters": {PARIS}}}',
    content=f'see {{"name": "get_weather", "parameters": {PARIS}}}',
)
llama(
    f'{{"name": "get_weather", "parameters": {PARIS}}}',
    content=f'{{"name": "get_weather", "parameters": {PARIS}}}',
    tools=(),
)
llama(
    f'{{"name": "get_weather", "parameters": {PARIS}}}\nDone, and {{ok}}.',
    content="Done, and {ok}.",
    calls=((W, PARIS),),
)
llama("{\n{\n[x](y)\n[1]: z\n", content="{\n{\n[x](y)\n[1]: z\n")

mistral = Family("mistral")
mistral(f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {PARIS}}}]', calls=((W, PARIS),))
mistral(
    f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {PARIS}, "id": "abcdef123"}}, {{"name": "get_time", "arguments": {{}}}}]',
    calls=((W, PARIS), (T, "{}")),
)
mistral(
    f'[TOOL_CALLS][{{"id": "abcdef123", "name": "get_weather", "arguments": {PARIS}}}]',
    calls=((W, PARIS, "abcdef123"),),
)
mistral(
    f'On it.[TOOL_CALLS][{{"name": "get_weather", "arguments": {PARIS}}}]',
    content="On it.",
    calls=((W, PARIS),),
)
mistral("[TOOL", content="[TOOL")
mistral("[TOOL_CALLS] hello there", content="[TOOL_CALLS] hello there")
mistral(f"[TOOL_CALLS]get_weather[ARGS]{PARIS}", calls=((W, PARIS),))

granite = Family("granite")
granite(f'<|tool_call|>[{{"name": "get_weather", "arguments": {PARIS}}}]', calls=((W, PARIS),))
granite(
    f'<|tool_call|> [{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "get_time", "arguments": {{}}}}]',
    calls=((W, PARIS), (T, "{}")),
)
granite("<think>Hm.</think>\n<response>Yes.</response>", reasoning="Hm.", content="Yes.")
granite("Yes <response>", content="Yes <response>")

r7b = Family("command-r7b")
r7b(
    f'<|START_THINKING|>I will look.<|END_THINKING|><|START_ACTION|>[\n    {{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {PARIS}}},\n    {{"tool_call_id": "1", "tool_name": "get_time", "parameters": {{}}}}\n]<|END_ACTION|>',
    reasoning="I will look.",
    calls=((W, PARIS), (T, "{}")),
)
r7b("<|START_RESPONSE|>Hello.<|END_RESPONSE|>", content="Hello.")
r7b(
    "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Hello.<|END_RESPONSE|>",
    reasoning="Hm.",
    content="Hello.",
)
r7b(
    "Hm.<|END_THINKING|><|START_TEXT|>Hello.<|END_TEXT|>",
    prompt="<|CHATBOT_TOKEN|><|START_THINKING|>",
    reasoning="Hm.",
    content="Hello.",
)

r = Family("command-r")
r(
    'Action:\n```json\n[\n    {\n        "tool_name": "get_weather",\n        "parameters": {\n            "city": "Paris"\n        }\n    }\n]```',
    calls=((W, '{\n            "city": "Paris"\n        }'),),
)
r("Action: none", content="Action: none")

phi = Family("phi-4")
phi(
    f'<|tool_call|>[{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "get_time", "arguments": {{}}}}]<|/tool_call|>',
    calls=((W, PARIS), (T, "{}")),
)
phi(f'functools[{{"name": "get_weather", "arguments": {PARIS}}}]', calls=((W, PARIS),))
phi("import functools\nfunctools.reduce(f)", content="import functools\nfunctools.reduce(f)")

fire = Family("firefunction")
fire(f' functools[{{"name": "get_weather", "arguments": {PARIS}}}]', calls=((W, PARIS),))

m1 = Family("minimax-m1")
m1(
    f'<tool_calls>\n{{"name": "get_weather", "arguments": {PARIS}}}\n{{"name": "get_time", "arguments": {{}}}}\n</tool_calls>',
    calls=((W, PARIS), (T, "{}")),
)

nemotron = Family("nemotron")
nemotron(
    f'Hm.\n</think>\n\n<TOOLCALL>[{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "get_time", "arguments": {{}}}}]</TOOLCALL>',
    prompt="<SPECIAL_11>Assistant\n<think>\n",
    reasoning="Hm.",
    calls=((W, PARIS), (T, "{}")),
)

apriel = Family("apriel")
apriel(
    f'<thinking>Hm.</thinking>\n<tool_calls>[{{"name": "get_weather", "arguments": {PARIS}, "id": "x"}}]</tool_calls>',
    reasoning="Hm.",
    calls=((W, PARIS),),
)

apertus = Family("apertus")
apertus(
    f'<|inner_prefix|>Hm.<|inner_suffix|>Ok.<|tools_prefix|>[{{"get_weather": {PARIS}}}, {{"get_time": {{}}}}]<|tools_suffix|>',
    reasoning="Hm.",
    content="Ok.",
    calls=((W, PARIS), (T, "{}")),
)

internlm = Family("internlm")
internlm(
    f'Ok.<|action_start|><|plugin|>\n{{"name": "get_weather", "parameters": {PARIS}}}<|action_end|>\n',
    content="Ok.",
    calls=((W, PARIS),),
)

gigachat = Family("gigachat")
gigachat(f'<|function_call|>{{"name": "get_weather", "arguments": {PARIS}}}', calls=((W, PARIS),))

smol = Family("smollm3")
smol(f"<think>\nHm.\n</think>\n{CALL}", reasoning="Hm.", calls=((W, PARIS),))
smol('<code>\nget_weather(city="Paris")\n</code>', calls=((W, PARIS),))
smol("<code>x = 1</code>", content="<code>x = 1</code>")

generic = Family("generic")
generic(f'{{"name": "get_weather", "arguments": {PARIS}}}', calls=((W, PARIS),))
generic(
    f'[{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "get_time", "arguments": {{}}}}]',
    calls=((W, PARIS), (T, "{}")),
)
generic(
    f'Sure:\n\n```json\n{{"name": "get_weather", "arguments": {PARIS}}}\n```',
    content="Sure:",
    calls=((W, PARIS),),
)
generic(CALL, calls=((W, PARIS),))
generic(
    f'{{"name": "get_weather", "arguments": {PARIS}}}\n{{"name": "get_time"}}',
    calls=((W, PARIS), (T, "{}")),
)
generic('{"name": "Bob", "age": 3}', content='{"name": "Bob", "age": 3}')
