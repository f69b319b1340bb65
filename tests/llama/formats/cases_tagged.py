"""Arguments between tags, and as literals."""

# ruff: noqa: RUF001 -- the fullwidth bars are DeepSeek's
from __future__ import annotations

import json

from tests.llama.formats.kit import PARIS, ROME, Family, T, W

qwen = Family("qwen3-coder")
QWEN = "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>"
qwen(QWEN, calls=((W, ROME),))
qwen(f"So.\n\n{QWEN}\n{QWEN}", content="So.", calls=((W, ROME), (W, ROME)))
qwen("<tool_call>\n<function=get_time>\n</function>\n</tool_call>", calls=((T, "{}"),))
qwen(QWEN.removeprefix("<tool_call>\n"), calls=((W, ROME),))
qwen("See <function=foo> there.", content="See <function=foo> there.")
qwen(
    '<tool_call><function=run><parameter=code>\n  def f():\n    return "<b>\\n</b>"\n\n</parameter></function></tool_call>',
    calls=(("run", json.dumps({"code": '  def f():\n    return "<b>\\n</b>"\n'})),),
)
qwen(
    "<tool_call><function=get_weather><parameter=city>\n5\n</parameter><parameter=metric>\nTrue\n</parameter><parameter=tags>\n['a', 'b']\n</parameter><parameter=note>\nnull\n</parameter><parameter=other>\n[1]\n</parameter></function></tool_call>",
    calls=((W, '{"city": "5", "metric": true, "tags": ["a", "b"], "note": null, "other": [1]}'),),
)
qwen(
    "<tool_call><function=get_weather><parameter=days>\nmany\n</parameter><parameter=note>\nnulls\n</parameter></function></tool_call>",
    calls=((W, '{"days": "many", "note": "nulls"}'),),
)
qwen(
    "<tool_call><function=run><parameter=options>{'a': None}</parameter></function></tool_call>",
    calls=(("run", '{"options": {"a": null}}'),),
)
qwen(f"Hm.\n{QWEN}", reasoning="Hm.", calls=((W, ROME),), prompt="<think>\n")
qwen(f"Hm.\n</think>\n\n{QWEN}", reasoning="Hm.", calls=((W, ROME),), prompt="<think>\n")
qwen("<tool_call>\n<function=get_weather>\n<parameter=city>\nRo", calls=((W, '{"city": "Ro"}'),))
qwen(
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nRo",
    calls=((W, '{"city": "Ro'),),
    reason="length",
)
qwen(
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<param",
    calls=((W, '{"city": "Rome"'),),
    reason="length",
)
qwen(
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>",
    calls=((W, '{"city": "Rome"}'),),
)
qwen(
    "<tool_call>\n<function=get_weather>\nParis\n</function>\n</tool_call>",
    calls=((W, "{}"),),
    content="Paris\n</function>\n</tool_call>",
)
qwen(f'<tool_call>{{"name": "get_weather", "arguments": {PARIS}}}</tool_call>', calls=((W, PARIS),))

for name, tag in (("deepseek-v3.2", "function_calls"), ("deepseek-v4", "tool_calls")):
    dsml = Family(name)
    D = "｜DSML｜"
    dsml(
        f'Ok.\n\n<{D}{tag}>\n<{D}invoke name="get_weather">\n<{D}parameter name="city" string="true">Rome</{D}parameter>\n<{D}parameter name="days" string="false">3</{D}parameter>\n</{D}invoke>\n<{D}invoke name="get_time">\n</{D}invoke>\n</{D}{tag}>',
        content="Ok.",
        calls=((W, ROME), (T, "{}")),
    )
    dsml(
        f'<{D}{tag}>\n<{D}invoke name="run">\n<{D}parameter name="options" string="true">{{}}</{D}parameter>\n</{D}invoke>\n</{D}{tag}>',
        calls=(("run", '{"options": "{}"}'),),
    )

glm = Family("glm-4.5")
glm(
    "\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
    calls=((W, ROME),),
)
glm(
    "<think>Hm.</think>\nOk.\n<tool_call>get_weather<arg_key>city</arg_key><arg_value>Paris</arg_value></tool_call><tool_call>get_time</tool_call>",
    reasoning="Hm.",
    content="Ok.",
    calls=((W, PARIS), (T, "{}")),
)
glm("</think>Yes.", content="Yes.")
glm("<tool_call>I cannot</tool_call>", content="<tool_call>I cannot</tool_call>")

hy = Family("hunyuan")
hy(
    "<think:opensource>Hm.</think:opensource><tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n<arg_key:opensource>city</arg_key:opensource>\n<arg_value:opensource>Paris</arg_value:opensource>\n</tool_call:opensource>\n</tool_calls:opensource>",
    reasoning="Hm.",
    calls=((W, PARIS),),
)

k3 = Family("kimi-k3")
k3(
    'Hm.<|close|>think<|sep|><|open|>response<|sep|>Ok.<|close|>response<|sep|><|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Rome<|close|>argument<|sep|><|open|>argument key="days" type="number"<|sep|>3<|close|>argument<|sep|><|close|>call<|sep|><|open|>call tool="get_time" index="2"<|sep|><|close|>call<|sep|><|close|>tools<|sep|>',
    prompt='<|open|>message role="assistant"<|sep|><|open|>think<|sep|>',
    reasoning="Hm.",
    content="Ok.",
    calls=((W, ROME), (T, "{}")),
)
k3("Ok.<|close|>response<|sep|>", prompt="<|open|>response<|sep|>", content="Ok.")

m2 = Family("minimax-m2")
m2(
    'Hm.\n</think>\n\nOk.\n<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Rome</parameter>\n<parameter name="days">3</parameter>\n</invoke>\n<invoke name="get_time">\n</invoke>\n</minimax:tool_call>',
    prompt="]~b]ai\n<think>\n",
    reasoning="Hm.",
    content="Ok.",
    calls=((W, ROME), (T, "{}")),
)

seed = Family("seed-oss")
seed(
    "<seed:think>Hm.</seed:think>\n<seed:tool_call>\n<function=get_weather>\n<parameter=city>Rome</parameter>\n<parameter=days>3</parameter>\n</function>\n</seed:tool_call>",
    reasoning="Hm.",
    calls=((W, ROME),),
)

llama4 = Family("llama4")
llama4('[get_weather(city="Paris")]', calls=((W, PARIS),))
llama4(
    '[get_weather(city="Rome", days=3), get_time()]',
    calls=((W, ROME), (T, "{}")),
)
llama4('<|python_start|>[get_weather(city="Paris")]<|python_end|>', calls=((W, PARIS),))
llama4(f'{{"name": "get_weather", "parameters": {PARIS}}}', calls=((W, PARIS),))
llama4('[get_weather(city="Paris")]\n\nThere.', content="There.", calls=((W, PARIS),))
llama4("[1, 2, 3] and [get(x)]", content="[1, 2, 3] and [get(x)]")
llama4("[unknown_tool(a=1)]", content="[unknown_tool(a=1)]")

lfm2 = Family("lfm2")
lfm2('<|tool_call_start|>[get_weather(city="Paris")]<|tool_call_end|>', calls=((W, PARIS),))
lfm2(
    "Ok.<|tool_call_start|>[get_weather(city='Rome', days=3), get_time()]<|tool_call_end|>Checking.",
    content="Ok.Checking.",
    calls=((W, ROME), (T, "{}")),
)
lfm2(
    "<|tool_call_start|>[get_weather(city='It\\'s \"x\"\\n', metric=True, note=None, tags=['a', (1, -2.5)], other={'k': {\"j\": false}})]<|tool_call_end|>",
    calls=(
        (
            W,
            '{"city": "It\'s \\"x\\"\\n", "metric": true, "note": null, "tags": ["a", [1, -2.5]], "other": {"k": {"j": false}}}',
        ),
    ),
)
lfm2(
    "<|tool_call_start|>[get_weather('Paris', 2)]<|tool_call_end|>",
    calls=((W, '{"city": "Paris", "days": 2}'),),
)
lfm2(
    "<|tool_call_start|>[get_weather(city=Paris, days=1_000, x=.5, y=0x1F)]<|tool_call_end|>",
    calls=((W, '{"city": "Paris", "days": 1000, "x": 0.5, "y": 31}'),),
)
lfm2('<|tool_call_start|>[get_weather(city="Par', calls=((W, '{"city": "Par"}'),))
lfm2('<|tool_call_start|>[get_weather(city="Par', calls=((W, '{"city": "Par'),), reason="length")
lfm2('<|tool_call_start|>[get_weather("Par', calls=((W, '{"city": "Par'),), reason="length")
lfm2(
    '<|tool_call_start|>[run(code="""a "b"\nc""")]<|tool_call_end|>',
    calls=(("run", '{"code": "a \\"b\\"\\nc"}'),),
)
lfm2(
    '<|tool_call_start|>[run(code="\\x41\\u00e9\\U0001F600\\ud83d\\q")]<|tool_call_end|>',
    calls=(("run", '{"code": "Aé😀\\ud83d\\\\q"}'),),
)
lfm2(
    f'<|tool_call_start|>[{{"name": "get_weather", "arguments": {PARIS}}}]<|tool_call_end|>',
    calls=((W, PARIS),),
)
lfm2("<|tool_call_start|>hm", content="<|tool_call_start|>hm")
lfm2("<|tool_call_start|>[get_weather(city=)]<|tool_call_end|>", calls=((W, '{"city": ""}'),))

olmo = Family("olmo3")
olmo(
    '<function_calls>get_weather(city="Paris")\nget_time()</function_calls>',
    calls=((W, PARIS), (T, "{}")),
)

gemma = Family("gemma")
gemma('```tool_code\nget_weather(city="Paris")\n```', calls=((W, PARIS),))
gemma(
    'Ok.\n```tool_code\nprint(default_api.get_weather(city="Paris"))\n```\nSo.',
    content="Ok.\nSo.",
    calls=((W, PARIS),),
)
gemma(f'```json\n{{"name": "get_weather", "arguments": {PARIS}}}\n```', calls=((W, PARIS),))
gemma('```json\n{"a": 1}\n```', content='```json\n{"a": 1}\n```')
gemma(f'{{"name": "get_weather", "parameters": {PARIS}}}', calls=((W, PARIS),))
gemma("```tool_code\nprint(1)\n```", content="```tool_code\nprint(1)\n```")

gemma4 = Family("gemma-4")
Q = '<|"|>'
gemma4(f"<|tool_call>call:get_weather{{city:{Q}Paris{Q}}}<tool_call|>", calls=((W, PARIS),))
gemma4(
    f'<|channel>thought\nHm.\n<channel|>Ok.<|tool_call>call:get_weather{{city:{Q}Ro"m\\e{Q},days:3,metric:true,tags:[{Q}a{Q},{Q}b{Q}],other:{{{Q}k{Q}:null,j:1.5}}}}<tool_call|><|tool_call>call:get_time{{}}<tool_call|>',
    reasoning="Hm.",
    content="Ok.",
    calls=(
        (
            W,
            '{"city": "Ro\\"m\\\\e", "days": 3, "metric": true, "tags": ["a", "b"], "other": {"k": null, "j": 1.5}}',
        ),
        (T, "{}"),
    ),
)
gemma4("Yes.<channel|>", content="Yes.", prompt="<|turn>model\n<|channel>thought\n<channel|>")
gemma4("Yes. <|channel>thought\n<channel|>", content="Yes.")

fg = Family("functiongemma")
fg(
    "<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>",
    calls=((W, PARIS),),
)
lfm2(
    '<|tool_call_start|>[run(code="\\UFFFFFFFF")]<|tool_call_end|>',
    calls=(("run", '{"code": "\\\\UFFFFFFFF"}'),),
)
