"""The tokens of a model's file as llama.cpp understands them, read without its weights."""

from __future__ import annotations

import os
from pathlib import Path

from llama_cpp import llama_cpp as raw

from services.llama.drafting.words import Words
from services.llama.runtime import bindings
from services.llama.runtime.loading import capture, initialise
from services.worker.backend import StartupError

# What kind of token it is; the other attributes are about white space in texts.
_KINDS = (
    raw.LLAMA_TOKEN_ATTR_UNKNOWN
    | raw.LLAMA_TOKEN_ATTR_UNUSED
    | raw.LLAMA_TOKEN_ATTR_NORMAL
    | raw.LLAMA_TOKEN_ATTR_CONTROL
    | raw.LLAMA_TOKEN_ATTR_USER_DEFINED
    | raw.LLAMA_TOKEN_ATTR_BYTE
)


def read(path: Path, cpu_variant: str) -> Words:
    """Takes some tenths of a second for the largest vocabularies. Raises StartupError."""
    initialise(cpu_variant)
    params = raw.llama_model_default_params()
    params.vocab_only = True
    capture.errors.clear()
    model = raw.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise StartupError(f"{path}: llama.cpp cannot read its vocabulary: {capture.last_error()}")
    try:
        vocab = raw.llama_model_get_vocab(model)
        tokens = range(raw.llama_vocab_n_tokens(vocab))
        kinds = [bindings.vocab_get_attr(vocab, token) & _KINDS for token in tokens]
        return Words(
            texts=tuple(bindings.vocab_get_text(vocab, token) or b"" for token in tokens),
            kinds=tuple(kinds),
            unused=frozenset(t for t in tokens if kinds[t] == raw.LLAMA_TOKEN_ATTR_UNUSED),
            bos=raw.llama_vocab_bos(vocab),
            eos=raw.llama_vocab_eos(vocab),
            ends=frozenset(token for token in tokens if bindings.vocab_is_eog(vocab, token)),
        )
    finally:
        raw.llama_model_free(model)
