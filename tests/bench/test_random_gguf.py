import ctypes
import os
from pathlib import Path

import llama_cpp
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


@pytest.mark.real
def test_llama_cpp_quantizes_loads_and_tokenizes_it(tmp_path):
    load_backends(Path(llama_cpp.__file__).parent / "lib", "auto")
    target = tmp_path / "tiny.gguf"
    make(target, SHAPES["tiny"], "tiny", "q4_0", 1)
    assert list(tmp_path.iterdir()) == [target]
    model = llama_cpp.llama_model_load_from_file(
        os.fsencode(target), llama_cpp.llama_model_default_params()
    )
    try:
        assert model
        vocab = llama_cpp.llama_model_get_vocab(model)
        assert llama_cpp.llama_vocab_n_tokens(vocab) == SHAPES["tiny"].vocabulary
        text = f"{TURN_START}user\nabout water. about{TURN_END}".encode()
        ids = (ctypes.c_int32 * 64)()
        count = llama_cpp.llama_tokenize(vocab, text, len(text), ids, 64, False, True)
        made = vocabulary(SHAPES["tiny"].vocabulary, ("user", "assistant", "system", *WORDS))
        pieces = [made.tokens[i] for i in ids[:count]]
        assert pieces[0] == TURN_START
        assert pieces[-2:] == ["Ġabout", TURN_END]
        assert llama_cpp.llama_vocab_eos(vocab) == made.id(TURN_END)
    finally:
        llama_cpp.llama_model_free(model)
