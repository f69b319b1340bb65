"""A draft model in llama.cpp: loaded beside the model, checked, counted and freed with it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from gguf import PoolingType

from bench.random_gguf import SHAPES, make
from common.settings import ConfigError
from services.llama import __main__ as command
from services.llama import plan, resident
from services.llama.backend import LlamaBackend
from services.llama.config import LlamaSettings
from services.llama.drafting import drafter, source
from services.llama.drafting.pace import Costs
from services.llama.lookup import Lookup
from services.llama.resident import ModelChangedError
from services.llama.runtime import gguf, words
from services.worker.backend import SettingError, StartupError
from tests.llama import embed_models
from tests.llama.engine_kit import until
from tests.llama.real_kit import MODEL, collect, request

pytestmark = pytest.mark.real

QUESTIONS = (
    "What is the capital of France?",
    "Write a poem about indian elephants",
    "What is the capital of Japan?",
    "Hello, who are you?",
    "Tell me a joke",
    "What is 3 + 4?",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A folder with two random models of one vocabulary: one repeats its last word, one recites."""
    folder: Path = tmp_path_factory.mktemp("tiny")
    for name, shape in (("model", "tiny"), ("draft", "tiny-copy")):
        make(folder / f"{name}.gguf", SHAPES[shape], name, "f16", 1)
    return folder


@pytest.fixture
def cheap(monkeypatch):
    """Drafts that cost nothing: here the draft model is as large as the model."""
    monkeypatch.setattr(Costs, "cost", property(lambda _: 0.02))


def settings(model: Path, draft: Path, **fields) -> LlamaSettings:
    return LlamaSettings(model=str(model), draft_model=str(draft), threads=1, **fields)


async def answers(backend: LlamaBackend, **sampling) -> tuple[list[str], int, int]:
    """Texts, then tokens drafted and accepted."""
    texts, drafted, accepted = [], 0, 0
    for question in QUESTIONS:
        made = request(question, max_tokens=60)
        made.speculation.max_ngram = 16
        for name, value in sampling.items():
            setattr(made.sampling, name, value)
        responses = await collect(backend, made)
        texts.append("".join(response.delta.text for response in responses))
        usage = responses[-1].finished.usage
        drafted += usage.draft_tokens
        accepted += usage.accepted_draft_tokens
    return texts, drafted, accepted


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7, "seed": 5}])
async def test_a_model_that_drafts_for_itself(serve, cheap, sampling):
    plain, none, _ = await answers(await serve(), **sampling)
    texts, drafted, accepted = await answers(await serve(draft_model=str(MODEL)), **sampling)
    # Kernels are not batch-invariant: a near tie may turn.
    same = sum(a == b for a, b in zip(texts, plain, strict=True))
    assert same >= len(texts) - 1
    assert none == 0
    assert drafted > 40
    # All but those that end an answer, which are not counted.
    assert accepted >= (0.6 if sampling else 0.9) * drafted


async def test_many_at_once(serve, cheap):
    backend = await serve(draft_model=str(MODEL), parallel=4, ctx_size=1024)
    made = [request(q, ignore_eos=True, max_tokens=80) for q in QUESTIONS * 2]
    results = await asyncio.gather(*(collect(backend, one) for one in made))
    assert all(r[-1].finished.usage.completion_tokens == 80 for r in results)
    assert backend._metrics.accepted_tokens._value.get() > 100
    assert not backend._residence.resident.engine._roster._drafter.off


async def test_random_models_with_one_vocabulary(tiny, serve, cheap, monkeypatch):
    # They repeat themselves, and that is looked up.
    monkeypatch.setattr(Lookup, "draft", lambda *_: [])
    # And they are sure of nothing.
    monkeypatch.setattr(drafter, "_SURE", 0.0)
    model, draft = str(tiny / "model.gguf"), str(tiny / "draft.gguf")
    plain, none, _ = await answers(await serve(model=model))
    itself, drafted, accepted = await answers(await serve(model=model, draft_model=model))
    assert none == 0
    assert accepted > 0.9 * drafted > 100
    other, drafted, accepted = await answers(await serve(model=model, draft_model=draft))
    assert drafted > 20
    assert accepted < 0.2 * drafted
    same = sum(a == b == c for a, b, c in zip(plain, itself, other, strict=True))
    assert same >= len(QUESTIONS) / 2


async def test_another_vocabulary_is_refused_before_the_load(tiny, monkeypatch):
    monkeypatch.setattr(resident, "load", lambda _: pytest.fail("loaded"))
    backend = LlamaBackend(settings(MODEL, tiny / "draft.gguf"))
    with pytest.raises(SettingError) as caught:
        await backend.start()
    await backend.stop()
    message = str(caught.value)
    assert message.startswith(f"--draft-model: {tiny / 'draft.gguf'}: not the model's vocabulary: ")
    assert "\n" not in message
    assert "its token 0 is 'Ā', the model's is '<unk>'" in message


@pytest.mark.parametrize(
    "make_one",
    [
        lambda path: embed_models.bert(path, PoolingType.MEAN),
        lambda path: embed_models.qwen3(path, PoolingType.LAST),
        lambda path: embed_models.qwen3(path, PoolingType.RANK),
    ],
    ids=["bert", "embeds", "ranks"],
)
async def test_one_that_does_not_generate_is_refused_before_the_load(
    tmp_path, monkeypatch, make_one
):
    monkeypatch.setattr(resident, "load", lambda _: pytest.fail("loaded"))
    path = make_one(tmp_path / "other.gguf")
    for model, draft in ((MODEL, path), (path, MODEL)):
        backend = LlamaBackend(settings(model, draft))
        with pytest.raises(SettingError) as caught:
            await backend.start()
        await backend.stop()
        assert str(caught.value).startswith(f"--draft-model: {path}")
        assert "does not generate text" in str(caught.value)


def test_words_are_those_of_the_vocabulary():
    found = words.read(MODEL, "auto")
    loaded = resident.load(resident.find(LlamaSettings(model=str(MODEL), threads=1)))
    vocabulary = loaded.runtime.vocabulary
    assert len(found.texts) == len(found.kinds) == vocabulary.size
    assert found.ends == vocabulary.ends
    assert (found.bos, found.eos) == (vocabulary.bos, vocabulary.eos)
    for special in vocabulary.special.values():
        assert found.texts[special.id] == vocabulary.piece(special.id, special=True)
    loaded.close()


def test_its_memory_is_counted(monkeypatch):
    both = settings(MODEL, MODEL)
    draft = source.find(both)
    assert draft is not None
    assert draft.needs > draft.header.size
    assert source.find(settings(MODEL, MODEL, speculation=False)) is None
    seen, real = [], plan.make

    def make_plan(asked, header, beside=0):
        seen.append(beside)
        return real(asked, header, beside)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "make", make_plan)
        resident.find(both)
        resident.find(LlamaSettings(model=str(MODEL), threads=1))
    assert seen == [draft.needs, 0]
    memory = 60 * 2**20
    made = []
    for there, beside in ((memory, 0), (memory + 2**24, 2**24), (memory + 2**24, 0)):
        monkeypatch.setattr("services.llama.host.available_memory", lambda there=there: there)
        made.append(real(both, gguf.read(MODEL), beside=beside).options.cells)
    assert made[0] == made[1] < made[2]
    monkeypatch.setattr("services.llama.host.available_memory", lambda: int(draft.needs) - 1)
    with pytest.raises(StartupError, match=r"--draft-model: .*: needs \d+ MiB, of memory there"):
        resident.find(both)


@pytest.mark.parametrize(("asked", "cells"), [(1, 256), (300, 512), (512, 512)])
def test_no_cell_is_made_that_was_not_asked_for(asked, cells):
    # llama.cpp makes them all the same, and aborts at a batch of more tokens than were asked for.
    found = resident.find(settings(MODEL, MODEL, ctx_size=asked))
    assert found.draft is not None
    assert found.plan.options.cells == found.draft.options.cells == cells


async def test_it_comes_and_goes_with_the_model(tiny, serve, monkeypatch):
    closed: list[object] = []
    monkeypatch.setattr(
        source.LoadedDraft, "close", lambda self: closed.append(self.runtime.close())
    )
    backend = await serve(
        model=str(tiny / "model.gguf"), draft_model=str(tiny / "draft.gguf"), idle_unload=0.01
    )
    for _ in range(2):
        await collect(backend, request(max_tokens=5))
        await asyncio.wait_for(until(closed.__len__), 60)
        closed.clear()


def test_a_load_of_another_draft_model_is_refused(tiny, tmp_path):
    draft = tmp_path / "draft.gguf"
    shutil.copyfile(tiny / "draft.gguf", draft)
    found = resident.find(settings(tiny / "model.gguf", draft))
    resident.check_again(found)
    shutil.copyfile(tiny / "model.gguf", draft)
    with pytest.raises(ModelChangedError, match=r"draft\.gguf: it is another model"):
        resident.check_again(found)


async def test_what_cannot_take_guesses_back_is_refused(tiny, monkeypatch):
    found = resident.find(settings(tiny / "model.gguf", tiny / "draft.gguf"))
    monkeypatch.setattr("services.llama.runtime.loading.partial", lambda *_: False)
    with pytest.raises(StartupError, match="--draft-model: guesses cannot be taken back"):
        resident.load(found)


def test_a_draft_model_does_not_change_the_identity(tiny):
    model, draft = tiny / "model.gguf", tiny / "draft.gguf"
    identity = gguf.read(model).identity
    assert resident.find(settings(model, draft)).plan.header.identity == identity


def test_a_file_that_is_not_there_is_an_error_of_the_command(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.gguf: no such file"):
        command._make_backend(settings(MODEL, tmp_path / "none.gguf"))


def test_the_flag_and_the_variable(monkeypatch):
    arguments = ["--model", "m.gguf"]
    assert LlamaSettings.read("x", arguments).draft_model == ""
    assert LlamaSettings.read("x", [*arguments, "--draft-model", "d"]).draft_model == "d"
    monkeypatch.setenv("LLAMA_DRAFT_MODEL", "hf:someone/tiny:Q8_0")
    assert LlamaSettings.read("x", arguments).draft_model == "hf:someone/tiny:Q8_0"
