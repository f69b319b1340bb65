"""The committed GGUF files: size, metadata, and (marked real) what they say."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import pytest

from models.demo.chat import TEMPLATE
from models.demo.tokenizer import CONTROL, FIRST_BYTE, MARKERS, Tokenizer

MODELS = Path(__file__).parents[2] / "models"
CHAT, EMBED = MODELS / "caravan-demo.gguf", MODELS / "caravan-demo-embed.gguf"
MEGABYTE = 1_000_000


@cache
def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def test_sizes() -> None:
    assert CHAT.stat().st_size <= 6 * MEGABYTE
    assert EMBED.stat().st_size <= 3 * MEGABYTE


@pytest.mark.parametrize("path", [CHAT, EMBED], ids=["chat", "embed"])
def test_metadata_says_what_it_is(path: Path) -> None:
    found = fields(path)
    assert found["general.architecture"] == "llama"
    assert found["general.name"] == path.stem
    assert found["general.license"] == "apache-2.0"
    assert "tiny" in found["general.description"]


def test_context_is_long_enough() -> None:
    assert fields(CHAT)["llama.context_length"] >= 1024


def test_the_template_inside_is_the_one_beside() -> None:
    assert fields(CHAT)["tokenizer.chat_template"] == TEMPLATE.read_text(encoding="utf-8")


def test_embeddings_are_pooled_by_their_mean() -> None:
    assert fields(EMBED)["llama.pooling_type"] == gguf.PoolingType.MEAN


@pytest.mark.parametrize("path", [CHAT, EMBED], ids=["chat", "embed"])
def test_tokenizer_inside_is_the_one_beside(path: Path) -> None:
    found, tokenizer = fields(path), Tokenizer.load()
    assert found["tokenizer.ggml.tokens"] == tokenizer.pieces
    assert found["tokenizer.ggml.eos_token_id"] == tokenizer.ids["<|im_end|>"]
    kinds = found["tokenizer.ggml.token_type"]
    assert {kinds[tokenizer.ids[piece]] for piece in CONTROL} == {gguf.TokenType.CONTROL}
    assert {kinds[tokenizer.ids[piece]] for piece in MARKERS} == {gguf.TokenType.USER_DEFINED}
    assert set(kinds[FIRST_BYTE : FIRST_BYTE + 256]) == {gguf.TokenType.BYTE}


@pytest.mark.parametrize(
    "text", ["", " a  b", "Hello\n\nworld ", "naïve 東京 🙂", "\t{}\r\n", "3.14"]
)
def test_tokens_spell_the_text(text: str) -> None:
    tokenizer = Tokenizer.load()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_words_split_alike_after_a_space_and_after_a_quote() -> None:
    tokenizer = Tokenizer.load()
    for word in ("Zubrikon", "get_weather", "SDK", "compatibility"):
        quoted = tokenizer.encode(f'"{word}')[1:]
        spaced = tokenizer.encode(f" {word}")
        assert spaced[-len(quoted) + 1 :] == quoted[1:] or len(quoted) == 1


@pytest.fixture(scope="module")
def model() -> Any:
    pytest.importorskip("llama_cpp")
    from models.demo.direct import Direct

    return Direct(CHAT)


@pytest.mark.real
def test_llama_cpp_tokenizes_as_the_trainer(model: Any) -> None:
    tokenizer = Tokenizer.load()
    for text in (
        "What is the capital of France?",
        " héllo  🙂\n",
        "<|im_start|>user\n<think>x",
        '{"a": [1, 22]}',
    ):
        for special in (True, False):
            found = model.llm.tokenize(text.encode(), add_bos=False, special=special)
            assert found == tokenizer.encode(text, special=special)


@pytest.mark.real
@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("What is the capital of France?", "Paris"),
        ("Say this is a test", "this is a test"),
        ("Testing SDK compatibility.", "SDK compatibility"),
        ("Hello", "Hello"),
        ("Count from 1 to 10", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"),
        ("Write a poem about indian elephants", "elephants"),
        ("Answer in JSON: what is the capital of France?", '{"capital": "Paris"}'),
    ],
)
def test_it_is_right_in_its_world(model: Any, question: str, wanted: str) -> None:
    assert wanted in model.complete([{"role": "user", "content": question}], [], think=False)


@pytest.mark.real
def test_it_calls_a_tool(model: Any) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather",
            "parameters": parameters,
        },
    }
    text = model.complete(
        [{"role": "user", "content": "What is the weather in Paris?"}], [tool], think=False
    )
    call = json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    assert call == {"name": "get_weather", "arguments": {"city": "Paris"}}
