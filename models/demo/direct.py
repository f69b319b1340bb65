"""Runs a GGUF through the llama_cpp bindings for the evaluation: template, tokenization, greedy or sampled decoding."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import llama_cpp
import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment

VARIANTS = ("zen4", "icelake", "haswell", "x64")


def load_backend() -> None:
    """Load a CPU backend on the libggml that libllama uses (builds with GGML_BACKEND_DL need this; others do not).

    CARAVAN_GGML_CPU names the variant; the default is the first of VARIANTS that the build has and that loads.
    """
    package = Path(llama_cpp.__file__).parent
    wanted = os.environ.get("CARAVAN_GGML_CPU")
    ggml = ctypes.CDLL(str(package / "lib" / "libggml.so.0"))
    ggml.ggml_backend_load.restype = ctypes.c_void_p
    for variant in [wanted] if wanted else VARIANTS:
        library = package.parent / "bin" / f"libggml-cpu-{variant}.so"
        if library.exists() and ggml.ggml_backend_load(str(library).encode()):
            return


def compile_template(source: str) -> jinja2.Template:
    """A chat template as servers compile it: sandboxed, with tojson and raise_exception."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def fail(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = fail
    return environment.from_string(source)


class Direct:
    """One GGUF, one sequence at a time."""

    def __init__(
        self, path: Path, temperature: float = 0.0, seed: int = 1, threads: int = 1
    ) -> None:
        load_backend()
        self.llm = llama_cpp.Llama(
            model_path=str(path),
            n_ctx=2048,
            n_threads=threads,
            n_threads_batch=threads,
            seed=seed,
            verbose=False,
        )
        self.template = compile_template(self.llm.metadata["tokenizer.chat_template"])
        self.temperature = temperature
        self.eos = self.llm.token_eos()

    def prompt(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], think: bool
    ) -> str:
        return self.template.render(
            messages=messages,
            tools=tools or None,
            enable_thinking=think,
            add_generation_prompt=True,
        )

    def complete(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]],
        think: bool,
        limit: int = 400,
    ) -> str:
        """The assistant's whole text for the conversation so far."""
        tokens = self.llm.tokenize(
            self.prompt(messages, tools, think).encode(), add_bos=False, special=True
        )
        out: list[int] = []
        for token in self.llm.generate(
            tokens, temp=self.temperature, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0
        ):
            if token == self.eos or len(out) >= limit:
                break
            out.append(token)
        return self.llm.detokenize(out, special=True).decode("utf-8", errors="replace")


def embedder(path: Path, threads: int = 1) -> Callable[[str], np.ndarray]:
    """A function from text to the mean-pooled embedding that llama.cpp computes with this GGUF."""
    load_backend()
    llm = llama_cpp.Llama(
        model_path=str(path),
        n_ctx=512,
        n_threads=threads,
        n_threads_batch=threads,
        embedding=True,
        pooling_type=llama_cpp.LLAMA_POOLING_TYPE_MEAN,
        verbose=False,
    )
    return lambda text: np.asarray(llm.embed(text), dtype=np.float32)
