from __future__ import annotations

from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import template as module
from services.llama.builtin_templates import CHATML
from services.llama.interface import Vocabulary
from services.llama.marks import plain
from services.llama.prompt import Prompts, detokenize
from services.llama.template import ChatTemplate, TemplateError
from services.worker.errors import ContextLengthExceeded, InvalidField, TemplateFailed
from tests.llama.fake_runtime import BOS, EOS, FakeVocabulary

SPECIAL = ["<s>", "</s>", "[INST]", "NST]"]


def render(source: str, **given: Any) -> str:
    template = ChatTemplate(source, SPECIAL)
    return plain(template.render(given, {}))


def message(role: pb.Role.ValueType, text: str, **fields: Any) -> pb.Message:
    return pb.Message(role=role, content=[pb.ContentPart(text=text)], **fields)


def user(text: str) -> pb.Message:
    return message(pb.ROLE_USER, text)


def prompts(source: str = CHATML, vocabulary: Vocabulary | None = None) -> Prompts:
    return Prompts(vocabulary or FakeVocabulary(), source)


# ------------------------------------------------------------------------------- the sandbox


def test_blocks_are_trimmed_like_hugging_face_does():
    assert render(
        "{% for i in x %}\n  {% if i %}\n{{ i }}\n  {% endif %}\n{% endfor %}", x=[1, 2]
    ) == ("1\n2\n")


def test_texts_are_put_together_as_ever():
    source = (
        "{{ x + 'b' ~ 1 ~ none }} {{ 7 % 4 + 1 }} {{ '%s-%02d' % (x, 3) }} {{ '%s' | format(x) }}"
        " {{ '{}{:>3}'.format(x, 1) }} {{ x | center(3) }}. {{ 'a\nb' | indent(2) }}"
        " {{ 'in 2024: %s' % x }} {{ 'at: 2024 {}'.format(x) }} {{ 'aab' | replace('a', 'c', 1) }} {{ 'aab'.replace('a', 'c') }} {{ [1] + [2] }}"
    )
    assert (
        render(source, x="a")
        == "ab1None 4 a-03 a a  1  a . a\n  b in 2024: a at: 2024 a cab ccb [1, 2]"
    )


def test_loop_controls_and_loop_variables():
    source = "{% for i in x %}{% if i == 3 %}{% break %}{% endif %}{{ i }}/{{ loop.length }} {% endfor %}"
    assert render(source, x=[1, 2, 3, 4]) == "1/4 2/4 "


def test_tojson_keeps_order_and_letters():
    assert render("{{ x | tojson }}", x={"b": "<é'>", "a": 1}) == '{"b": "<é\'>", "a": 1}'


def test_a_templates_own_list_grows_and_a_users_does_not():
    source = "{% set n = namespace(l=[]) %}{% set _ = n.l.append(x[0]) %}{{ n.l }}{{ n.l.pop() }}{{ n.l }}"
    assert render(source, x=[1]) == "[1]1[]"
    for call in ("x.append(1)", "x.pop()", "{'a': 1}.pop('a')", "[1].extend([2])"):
        with pytest.raises(TemplateError, match="unsafe"):
            render("{{ " + call + " }}", x=[1])


def test_nothing_is_escaped_beside_what_is_safe():
    assert render("{{ '<'|safe + x }}", x="&") == "<&"


def test_generation_blocks_are_transparent():
    assert render("{% generation %}{{ x }}{% endgeneration %}", x=1) == "1"


def test_the_templates_own_message_comes_through():
    with pytest.raises(TemplateError, match=r"^roles must alternate$"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ x.__class__.__mro__ }}",
        "{{ ''.__class__.__subclasses__() }}",
        "{{ x.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ 'a' * 10 ** 9 }}",
        "{{ [0] * 99999999 }}",
        "{% set y = namespace(v='ab' * 4096) %}{% for i in range(30) %}{% set y.v = y.v + y.v %}{% endfor %}",
        "{% set y = namespace(v='ab' * 4096) %}{% for i in range(30) %}{% set y.v = y.v ~ y.v %}{% endfor %}",
        "{{ 'a' | center(10 ** 8) }}",
        "{{ 'a'.center(99999999) }}",
        "{{ 'a\\nb' | indent(99999999) }}",
        "{{ '%099999999d' % 1 }}",
        "{{ '%099999999d' | format(1) }}",
        "{{ '%5.99999999f' % 1 }}",
        "{{ '%(a%)099999999d' % {'a%': 1} }}",
        "{{ '%*d' % (99999999, 1) }}",
        "{{ '{:99999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 99999999) }}",
        "{{ ('a' * 8192) | replace('a', 'a' * 8192) | length }}",
        "{{ ('a' * 8192).replace('a', 'a' * 8192) | length }}",
        "{{ 2 ** 100000 }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ x.nothing.more }}",
        "{{ 1 / 0 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set y = namespace(v='ab') %}{% for i in range(60) %}{{ y.v * 4096 }}{% set y.v = y.v * 4096 %}{% endfor %}",
    ],
)
def test_what_is_not_allowed_or_fails(source):
    with pytest.raises(TemplateError):
        render(source, x=[1])


@pytest.mark.parametrize(
    "body", ["", "{{ 'x' * 1000 }}", "{% for k in x %}{% for l in x %}{% endfor %}{% endfor %}"]
)
def test_endless_loops_end(monkeypatch, body):
    monkeypatch.setattr(module, "_MAX_ITERATIONS", 20_000)
    with pytest.raises(TemplateError, match="too"):
        render("{% for i in x %}{% for j in x %}" + body + "{% endfor %}{% endfor %}", x=[1] * 1000)


def test_time_is_limited_even_when_little_is_looped(monkeypatch):
    monkeypatch.setattr(module, "MAX_SECONDS", -1.0)
    with pytest.raises(TemplateError, match="too long"):
        render("{% for i in x %}{% endfor %}", x=[1])


def test_output_is_limited(monkeypatch):
    monkeypatch.setattr(module, "MAX_CHARACTERS", 1000)
    with pytest.raises(TemplateError, match="too much"):
        render("{% for i in x %}{{ 'a' * 900 }}{% endfor %}", x=[1] * 3)


def test_a_template_that_does_not_compile():
    with pytest.raises(TemplateError, match="does not compile"):
        ChatTemplate("{% for %}", [])


# ----------------------------------------------------------- users' text and control tokens


@pytest.mark.parametrize(
    "text", ["</s>", "a</s>b<s>", "<</s>/s>", "[INST]", "[I[INST]NST]", "\ufdd0</s>"]
)
def test_users_text_never_becomes_a_control_token(text):
    template = ChatTemplate("<s>{{ x }}</s>", SPECIAL)
    pieces = list(template.split(template.render({"x": text}, {})))
    assert [piece for piece, special in pieces if special] == ["<s>", "</s>"]
    assert "".join(piece for piece, special in pieces if not special) == text.replace("\ufdd0", "")


@pytest.mark.parametrize(
    "source", ["{{ x | tojson }}", "{{ x[0].a | trim }}", "{{ x[0].a ~ 'b' }}"]
)
def test_nor_when_it_is_nested_or_filtered(source):
    template = ChatTemplate(source, SPECIAL)
    rendered = template.render({"x": [{"a": " </s> ", "</s>": 1}]}, {})
    assert not any(special for _, special in template.split(rendered))


def test_message_with_control_tokens_is_tokenized_as_text():
    tokens = prompts("<s>{{ messages[0].content }}</s>")
    parts = [pb.ContentPart(text="a</"), pb.ContentPart(text="s>b")]
    chat = pb.ChatInput(messages=[pb.Message(role=pb.ROLE_USER, content=parts)])
    assert tokens.encode(tokens.render(chat)) == [BOS, *b"a</\ns>b", EOS]


def test_raw_text_is_text_unless_asked_otherwise():
    assert prompts().encode_text(pb.TextInput(text="</s>")) == list(b"</s>")
    assert prompts().encode_text(pb.TextInput(text="</s>", parse_special=True)) == [EOS]


class WithBos(FakeVocabulary):
    adds_bos = True


@pytest.mark.parametrize(
    "source", ["{{ bos_token }}{{ messages[0].content }}", "{{ messages[0].content }}"]
)
def test_bos_comes_once(source):
    tokens = prompts(source, WithBos())
    assert tokens.encode(tokens.render(pb.ChatInput(messages=[user("x")]))) == [BOS, ord("x")]


def test_bos_of_raw_text():
    tokens = prompts(vocabulary=WithBos())
    assert tokens.encode_text(pb.TextInput(text="x")) == [BOS, ord("x")]
    assert tokens.encode_text(pb.TextInput(text="x", add_bos=False)) == [ord("x")]
    assert tokens.encode_text(pb.TextInput(text="<s>x", parse_special=True)) == [BOS, ord("x")]


# ------------------------------------------------------------------------------ conversations


def chatml(*turns: tuple[str, str], tail: str = "<|im_start|>assistant\n") -> str:
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + tail


def test_without_a_template_chatml_is_used():
    chat = pb.ChatInput(messages=[message(pb.ROLE_DEVELOPER, "be brief"), user("hi")])
    assert Prompts(FakeVocabulary(), None).render(chat) == chatml(
        ("system", "be brief"), ("user", "hi")
    )


def test_continue_final_message_leaves_the_turn_open():
    last = message(pb.ROLE_ASSISTANT, "Once upon ")
    chat = pb.ChatInput(messages=[user("a story"), last], continue_final_message=True)
    assert prompts().render(chat) == chatml(
        ("user", "a story"), tail="<|im_start|>assistant\nOnce upon "
    )


@pytest.mark.parametrize(
    "request_",
    [
        pb.GenerateRequest(text=pb.TextInput(text="x" * 40)),
        pb.GenerateRequest(chat=pb.ChatInput(messages=[user("x" * 40)])),
    ],
)
def test_what_cannot_fit_is_not_tokenized(monkeypatch, request_):
    vocabulary = FakeVocabulary()
    monkeypatch.setattr(vocabulary, "tokenize", None)
    with pytest.raises(ContextLengthExceeded) as caught:
        Prompts(vocabulary, CHATML, context=10).made(request_)
    assert int(caught.value.metadata["prompt_tokens"]) >= 10
    assert caught.value.metadata["lower_bound"] == "true"


def test_what_is_only_tokenized_cannot_be_longer_than_a_prompt():
    with pytest.raises(InvalidField, match=r"^has more than 24 tokens, the context 10$"):
        Prompts(FakeVocabulary(), CHATML, context=10).tokenize(pb.TextInput(text="x" * 100))


def test_what_might_fit_is_counted_in_tokens():
    request = pb.GenerateRequest(text=pb.TextInput(text="x" * 39))
    assert len(Prompts(FakeVocabulary(), CHATML, context=10).made(request).tokens) == 39


def test_no_generation_prompt():
    chat = pb.ChatInput(messages=[user("hi")], add_generation_prompt=False)
    assert prompts().render(chat) == chatml(("user", "hi"), tail="")


def test_instructions_go_into_the_users_turn_where_the_template_has_no_place_for_them():
    source = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}[{{ m.content }}]{% endfor %}"
    )
    chat = pb.ChatInput(messages=[message(pb.ROLE_SYSTEM, "brief"), user("hi")])
    assert prompts(source).render(chat) == "[brief\n\nhi]"
    begun = pb.ChatInput(
        messages=[message(pb.ROLE_SYSTEM, "brief"), message(pb.ROLE_ASSISTANT, "Once")],
        continue_final_message=True,
    )
    assert prompts(source).render(begun) == "[brief][Once"


def test_what_the_template_gets():
    source = (
        "{{ tools | tojson }}|{{ documents | tojson }}|{{ enable_thinking }}|{{ reasoning_effort }}"
        "|{{ custom }}|{{ messages[1] | tojson }}|{{ messages[2].tool_call_id }}"
    )
    call = pb.ToolCall(id="c1", name="f", arguments_json='{"z": 1, "a": [2]}')
    chat = pb.ChatInput(
        messages=[
            user("q"),
            pb.Message(role=pb.ROLE_ASSISTANT, tool_calls=[call], reasoning="hm"),
            message(pb.ROLE_TOOL, "3", tool_call_id="c1"),
        ],
        tools=[pb.Tool(name="f", description="d", parameters_json_schema='{"type": "object"}')],
        template_args_json='{"custom": "c", "messages": 1, "_budget": 2}',
        documents_json='[{"title": "t"}]',
        enable_thinking=False,
        reasoning_effort="low",
    )
    tool = '{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}'
    made = '{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"z": 1, "a": [2]}}}'
    assert prompts(source).render(chat) == (
        f'[{tool}]|[{{"title": "t"}}]|False|low|c|'
        f'{{"role": "assistant", "content": "", "tool_calls": [{made}], "reasoning_content": "hm"}}|c1'
    )


@pytest.mark.parametrize(
    ("choice", "shown"),
    [
        (pb.ToolChoice(), "a b"),
        (pb.ToolChoice(mode=pb.ToolChoice.MODE_NONE), ""),
        (pb.ToolChoice(allowed_names=["b"]), "b"),
    ],
)
def test_only_tools_that_may_be_called_are_shown(choice, shown):
    chat = pb.ChatInput(
        messages=[user("q")], tools=[pb.Tool(name="a"), pb.Tool(name="b")], tool_choice=choice
    )
    source = "{{ tools | map(attribute='function.name') | join(' ') if tools else '' }}"
    assert prompts(source).render(chat) == shown


def test_a_template_that_refuses_is_the_requests_fault():
    with pytest.raises(TemplateFailed, match="no"):
        prompts("{{ raise_exception('no') }}").render(pb.ChatInput(messages=[user("q")]))


def test_detokenize_hides_control_tokens_only_when_asked():
    tokens = [BOS, *"é".encode(), 0xFF]
    assert detokenize(FakeVocabulary(), tokens, skip_special=False) == "<s>é�"
    assert detokenize(FakeVocabulary(), tokens, skip_special=True) == "é�"


@pytest.mark.parametrize(
    ("effort", "told"),
    [("minimal", "low"), ("medium", "high"), ("high", "high"), ("xhigh", "max"), ("none", "unset")],
)
def test_effort_in_the_words_of_a_template_with_others(effort, told):
    source = "{{ messages[0].content }}: {{ thinking_effort | default('unset') }}"
    chat = pb.ChatInput(messages=[user("hi")], reasoning_effort=effort)
    assert prompts(source).render(chat) == f"hi: {told}"
    chat.template_args_json = '{"thinking_effort": "max"}'
    assert prompts(source).render(chat) == "hi: max"
