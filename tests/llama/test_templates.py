"""Which chat template is used: the model's, its named ones, an operator's."""

from __future__ import annotations

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import templates
from services.llama.builtin_templates import BUILTIN
from services.llama.template import ChatTemplate
from services.worker.backend import Call, SettingError

OWN = {
    "tokenizer.chat_template": "own",
    "tokenizer.chat_template.tool_use": "for tools",
    "tokenizer.chat_template.rag": "for documents",
    "tokenizer.chat_template.other": "for nothing",
}


def test_the_models_own():
    found = templates.choose("", OWN)
    assert found.default == "own"
    assert found.named == {"tool_use": "for tools", "rag": "for documents"}
    assert not found.overridden


def test_a_model_with_none_or_only_a_named_one():
    assert templates.choose("", {}).default is None
    assert templates.choose("", {"tokenizer.chat_template": 7}).default is None
    only = {"tokenizer.chat_template.tool_use": "for tools"}
    assert templates.choose("", only).default == "for tools"


def test_an_operators_file_replaces_all_of_them(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("mine é", encoding="utf-8")
    found = templates.choose(str(path), OWN)
    assert (found.default, found.named, found.overridden) == ("mine é", {}, True)


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_built_in_ones_compile(name):
    found = templates.choose(name, OWN)
    ChatTemplate(found.default or "", [])


@pytest.mark.parametrize(
    ("data", "why"),
    [(None, "write a file, or one of chatml"), (b"\xff\xfe", "no UTF-8 text"), (b" \n", "empty")],
)
def test_files_that_are_none(tmp_path, data, why):
    path = tmp_path / "broken"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SettingError, match=why) as caught:
        templates.choose(str(path), {})
    assert "\n" not in str(caught.value)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2**23)
    with pytest.raises(SettingError, match="larger than"):
        templates.choose(str(path), {})


async def test_a_worker_serves_with_the_operators_template_and_says_so(serve, tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{% for m in messages %}<{{ m.content }}>{% endfor %}")
    own = await serve()
    mine = await serve(chat_template=str(path))
    assert mine.model().identity != own.model().identity
    part = pb.ContentPart(text="hi")
    chat = pb.ChatInput(messages=[pb.Message(role=pb.ROLE_USER, content=[part])])
    call = Call("r1", None)
    made = await mine.render_prompt(pb.RenderPromptRequest(chat=chat), call)
    assert made.prompt == "<hi>"
