import ctypes
import os
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from bench.prompts import WORDS
from bench.random_gguf import SHAPES, main, make, write
from bench.vocabulary import SPECIAL, TURN_END, TURN_START, vocabulary
from services.llama.runtime.libs import load_backends


def test_a_vocabulary_has_its_size_and_nothing_twice():
    for size in (259, 1000, 151_936):
        made = vocabulary(size, WORDS)
        assert len(made.tokens) == len(set(made.tokens)) == len(made.types) == size
        assert tuple(made.tokens[-3:]) == SPECIAL
        assert made.tokens[made.id(TURN_END)] == TURN_END


def test_a_vocabulary_too_small_for_the_bytes_is_refused():
    with pytest.raises(ValueError, match="at least"):
        vocabulary(258, ())


def test_a_vocabulary_larger_than_there_are_words_is_refused():
    with pytest.raises(ValueError, match="at most"):
        vocabulary(1_100_000, ())


def test_merges_make_every_token_from_earlier_ones():
    made = vocabulary(12_000, WORDS)
    known = set(made.tokens[:256])
    for merge, token in zip(made.merges, made.tokens[256:], strict=False):
        left, right = merge.split(" ")
        assert left in known
        assert right in known
        assert left + right == token
        known.add(token)


def test_the_seed_decides_the_file(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        write(path, SHAPES["tiny"], "tiny", seed)
    first, second, other = (path.read_bytes() for path in paths)
    assert first == second
    assert first != other


def test_a_file_that_is_there_is_not_written_again(tmp_path, capsys):
    target = tmp_path / "there.gguf"
    target.write_bytes(b"x")
    assert main(["--shape", "tiny", "--out", str(target)]) == 0
    assert target.read_bytes() == b"x"
    assert capsys.readouterr().out.strip() == str(target)


@pytest.fixture
def load(tmp_path):
    """Makes a model of a shape and loads it; the model."""
    load_backends(Path(llama_cpp.__file__).parent / "lib", "auto")
    loaded = []

    def start(name):
        target = tmp_path / "made.gguf"
        make(target, SHAPES[name], name, "q4_0", 1)
        assert list(tmp_path.iterdir()) == [target]
        params = llama_cpp.llama_model_default_params()
        loaded.append(llama_cpp.llama_model_load_from_file(os.fsencode(target), params))
        assert loaded[-1]
        return loaded[-1]

    yield start
    for model in loaded:
        llama_cpp.llama_model_free(model)


def tokenize(vocab, text: str) -> list[int]:
    ids = (ctypes.c_int32 * 256)()
    data = text.encode()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), ids, 256, False, True)
    return list(ids[:count])


@pytest.mark.real
def test_llama_cpp_quantizes_loads_and_tokenizes_it(load):
    model = load("tiny")
    vocab = llama_cpp.llama_model_get_vocab(model)
    assert llama_cpp.llama_vocab_n_tokens(vocab) == SHAPES["tiny"].vocabulary
    made = vocabulary(SHAPES["tiny"].vocabulary, ("user", "assistant", "system", *WORDS))
    ids = tokenize(vocab, f"{TURN_START}user\nabout water. about{TURN_END}")
    pieces = [made.tokens[i] for i in ids]
    assert pieces[0] == TURN_START
    assert pieces[-2:] == ["Ġabout", TURN_END]
    assert llama_cpp.llama_vocab_eos(vocab) == made.id(TURN_END)


@pytest.mark.real
def test_what_is_generated_is_read_again_as_the_same_tokens(load):
    model = load("tiny")
    vocab = llama_cpp.llama_model_get_vocab(model)
    made = vocabulary(SHAPES["tiny"].vocabulary, ("user", "assistant", "system", *WORDS))
    after_a_space = [i for i, token in enumerate(made.tokens) if token.startswith("Ġ") and i > 255]
    for start in range(0, len(after_a_space), 200):
        wanted = after_a_space[start : start + 200]
        text = "".join(made.tokens[i].replace("Ġ", " ") for i in wanted)
        assert tokenize(vocab, text) == wanted


@pytest.mark.real
def test_a_model_that_recites_says_the_words_in_their_order(load):
    model = load("tiny-copy")
    vocab = llama_cpp.llama_model_get_vocab(model)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 256, 1, 1
    context = llama_cpp.llama_init_from_model(model, params)
    try:
        said = tokenize(vocab, f"{TURN_START}user\nsome words{TURN_END}\n{TURN_START}assistant\n")
        prompt = len(said)
        fresh = list(said)
        for _ in range(30):
            ids = (ctypes.c_int32 * len(fresh))(*fresh)
            batch = llama_cpp.llama_batch_get_one(ids, len(fresh))
            assert llama_cpp.llama_decode(context, batch) == 0
            logits = llama_cpp.llama_get_logits_ith(context, -1)
            fresh = [int(np.ctypeslib.as_array(logits, shape=(2048,)).argmax())]
            said += fresh
    finally:
        llama_cpp.llama_free(context)
    made = vocabulary(SHAPES["tiny"].vocabulary, ("user", "assistant", "system", *WORDS))
    assert [made.tokens[i] for i in said[prompt:]] == [f"Ġ{word}" for word in WORDS[:30]]
