"""Calls with the name by itself, and messages with heads."""

# ruff: noqa: RUF001 -- the fullwidth bars are DeepSeek's
from __future__ import annotations

from tests.llama.formats.kit import PARIS, Family, T, W

for name in ("mistral-args", "mistral-ids"):
    args = Family(name)
    args(f"[TOOL_CALLS]get_weather[ARGS]{PARIS}", calls=((W, PARIS),))
    args(
        f"[TOOL_CALLS]get_weather[ARGS]{PARIS}[TOOL_CALLS]get_time[ARGS]{{}}",
        calls=((W, PARIS), (T, "{}")),
    )
    args(
        f"[TOOL_CALLS]get_weather[CALL_ID]abcdef123[ARGS]{PARIS}", calls=((W, PARIS, "abcdef123"),)
    )
    args(f"[TOOL_CALLS]get_weather{PARIS}", calls=((W, PARIS),))
    args(
        f"[THINK]Hm.[/THINK]Sure.[TOOL_CALLS]get_weather[ARGS]{PARIS}",
        reasoning="Hm.",
        content="Sure.",
        calls=((W, PARIS),),
    )
    args("[TOOL_CALLS]get_time[ARGS]", calls=((T, "{}"),))
    args("[TOOL_CALLS]get_weather[ARGS]Paris, please", calls=((W, "Paris, please"),))
    args("[TOOL_CALLS] is a token", content="[TOOL_CALLS] is a token")
    args(f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {PARIS}}}]', calls=((W, PARIS),))

r1 = Family("deepseek-r1")
R1 = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>"
r1(
    "<｜tool▁calls▁begin｜>"
    + R1.format(W, PARIS)
    + "\n"
    + R1.format(T, "{}")
    + "<｜tool▁calls▁end｜>",
    calls=((W, PARIS), (T, "{}")),
)
r1(
    "Hm.\n</think>\n\nOk.\n<｜tool▁calls▁begin｜>" + R1.format(W, PARIS) + "<｜tool▁calls▁end｜>",
    prompt="<｜Assistant｜><think>\n",
    reasoning="Hm.",
    content="Ok.",
    calls=((W, PARIS),),
)
r1(R1.format(W, PARIS), calls=((W, PARIS),))
r1("<｜tool▁calls▁begin｜>no", content="<｜tool▁calls▁begin｜>no")
r1(
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n{"city": "Paris"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    calls=((W, PARIS),),
)

v31 = Family("deepseek-v3.1")
V31 = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
v31(
    "Ok.<｜tool▁calls▁begin｜>"
    + V31.format(W, PARIS)
    + V31.format(T, "{}")
    + "<｜tool▁calls▁end｜>",
    content="Ok.",
    calls=((W, PARIS), (T, "{}")),
)
v31("Hm.</think>Yes.", prompt="<｜Assistant｜><think>", reasoning="Hm.", content="Yes.")
v31("Yes.", prompt="<｜Assistant｜></think>", content="Yes.")

f31 = Family("functionary-v3.1")
f31(f"<function=get_weather>{PARIS}</function>", calls=((W, PARIS),))
f31(
    f"Ok.\n<function=get_weather>{PARIS}</function><function=get_time>{{}}</function>",
    content="Ok.",
    calls=((W, PARIS), (T, "{}")),
)
f31("<function=get_weather>Paris</function>", calls=((W, "Paris"),))
f31("<function=get_time></function>", calls=((T, "{}"),))
f31("<function= foo", content="<function= foo")

f32 = Family("functionary-v3.2")
f32("all\nHello.", content="Hello.", prompt=">>>")
f32("all\nHello > there >> you", content="Hello > there >> you", prompt=">>>")
f32(f"get_weather\n{PARIS}", calls=((W, PARIS),), prompt=">>>")
f32(
    f"all\nOk.>>>get_weather\n{PARIS}>>>get_time\n{{}}",
    content="Ok.",
    calls=((W, PARIS), (T, "{}")),
    prompt=">>>",
)
f32(f"get_weather\n{PARIS}", content=f"get_weather\n{PARIS}", tools=(), prompt=">>>")
f32("Hello, you.", content="Hello, you.", prompt=">>>")
f32("allocate\n{}", calls=(("allocate", "{}"),), prompt=">>>")

kimi = Family("kimi-k2")
KIMI = "<|tool_call_begin|>functions.{}:{}<|tool_call_argument_begin|>{}<|tool_call_end|>"
kimi(
    "Ok.<|tool_calls_section_begin|>"
    + KIMI.format(W, 0, PARIS)
    + KIMI.format(T, 1, "{}")
    + "<|tool_calls_section_end|>",
    content="Ok.",
    calls=((W, PARIS, "functions.get_weather:0"), (T, "{}", "functions.get_time:1")),
)
kimi(
    "<think>Hm." + KIMI.format(W, 0, PARIS),
    reasoning="Hm.",
    calls=((W, PARIS, "functions.get_weather:0"),),
)
kimi(
    "<|tool_calls_section_begin|><|tool_call_begin|>get_time<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
    calls=((T, "{}"),),
)

h = Family("harmony")
S, E, M = "<|start|>assistant", "<|end|>", "<|message|>"
A, F = f"<|channel|>analysis{M}", f"<|channel|>final{M}"
h(f"{A}Hm.{E}{S}{F}Yes.", reasoning="Hm.", content="Yes.", prompt=S)
h(f"{F}Yes.<|return|>", content="Yes.", prompt=S)
h(
    f"{A}Hm.{E}{S}<|channel|>commentary to=functions.get_weather <|constrain|>json{M}{PARIS}<|call|>",
    reasoning="Hm.",
    calls=((W, PARIS),),
    prompt=S,
)
h(f"<|channel|>commentary to=functions.get_weather{M}{PARIS}", calls=((W, PARIS),), prompt=S)
h(f" to=functions.get_weather<|channel|>commentary json{M}{PARIS}", calls=((W, PARIS),), prompt=S)
h(
    f"<|channel|>analysis to=functions.get_weather code{M}{PARIS}<|call|>",
    calls=((W, PARIS),),
    prompt=S,
)
h(
    f"<|channel|>commentary{M}I will look.{E}{S} to=functions.get_time<|channel|>commentary{M}{{}}",
    content="I will look.",
    calls=((T, "{}"),),
    prompt=S,
)
h(f"{A}Hm.{E}{F}Yes.", reasoning="Hm.", content="Yes.", prompt=S)
h(f"{A}Hm.{E}{S}{F}Yes.", content=f"{A}Hm.{E}Yes.", prompt=S, thinks=False)
h(
    f"<|channel|>commentary to=functions.f{M}{{}}<|call|>",
    content=f"<|channel|>commentary to=functions.f{M}{{}}<|call|>",
    prompt=S,
    tools=(),
)
h("Hello.", content="Hello.", prompt=S)
h("<|channel|>odd", content="<|channel|>odd", prompt=S)
h(f"{A}Hm", reasoning="Hm", prompt=S)
h(" more.", content=" more.", prompt=f"{S}{F}Some")
h(f"more.{E}{S}{F}Yes.", reasoning="more.", content="Yes.", prompt=f"{S}{A}Hm, ")
h(f"<|channel|>commentary to=functions.get_weather{M}", calls=((W, "{}"),), prompt=S)
h(
    f'<|channel|>commentary to=functions.get_weather{M}{{"city": ',
    calls=((W, '{"city": '),),
    prompt=S,
)
h(
    f"<|channel|>commentary to=functions.run{M}print(1)<|call|>",
    calls=(("run", "print(1)"),),
    prompt=S,
)
h(f"<|channel|>final <|constrain|>json{M}{{}}", content="{}", prompt=S)
