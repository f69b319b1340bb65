"""Writes a GGUF with random weights: a model of real size to measure with, without a download.

`python -m bench.random_gguf` writes the default (Qwen2 shape, 0.5 B, Q4_0) into bench/.cache/.
It answers nonsense at the true speed; the same seed gives the same file. The shapes that end in
`-copy` cost as much and recite the words of bench/prompts.py in their order, whatever the prompt:
a prompt that holds them in that order is quoted.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from bench.prompts import WORDS
from bench.vocabulary import (
    CHAT_TEMPLATE,
    END_OF_TEXT,
    SPECIAL,
    TURN_END,
    vocabulary,
    word_token,
)

CACHE = Path(__file__).resolve().parent / ".cache"
# llama_ftype by the name that people use; f16 is what is written before quantizing.
QUANTS = {"f16": 1, "q4_0": 2, "q8_0": 7, "q4_k_m": 15}
_ARCH = "qwen2"
_TEMPLATE_WORDS = ("user", "assistant", "system")
_TOKENS = (*_TEMPLATE_WORDS, *WORDS)
# How byte-level BPE writes a line feed: a template's last token, so the answer begins after it.
_LINE_FEED = "Ċ"
_STD = 0.02
# Attention over a long context is nearly the same at every step. Left at full weight it drowns
# the last token and the model repeats itself, which would flatter speculative decoding.
_EMBEDDING_SCALE = 2.5
_ATTENTION_SCALE = 0.25
# Widens the gaps between logits to about those of a trained model (standard deviation 2.5).
_OUTPUT_GAIN = 1.7
# A model that recites lets nothing but the last token through to the output.
_RECITING_SCALE = 0.01
# Control tokens get logits near zero, far below the best of a large vocabulary.
_CONTROL_SCALE = 0.05


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a Qwen2 model with tied embeddings."""

    layers: int = 24
    width: int = 896
    heads: int = 14
    kv_heads: int = 2
    ffn: int = 4864
    vocabulary: int = 151_936
    context: int = 4096
    # Whether the next token is a function of the last one alone: it recites.
    recites: bool = False

    @property
    def kv_width(self) -> int:
        """Width of the keys, and of the values."""
        return self.width // self.heads * self.kv_heads


SHAPES = {
    "0.5b": ModelShape(),
    "0.5b-copy": ModelShape(recites=True),
    "tiny": ModelShape(
        layers=2, width=64, heads=2, kv_heads=1, ffn=128, vocabulary=2048, context=512
    ),
    "tiny-copy": ModelShape(
        layers=2,
        width=64,
        heads=2,
        kv_heads=1,
        ffn=128,
        vocabulary=2048,
        context=512,
        recites=True,
    ),
}


def write(path: Path, shape: ModelShape, name: str, seed: int) -> None:
    """Writes the model with F16 matrices, one tensor in memory at a time."""
    writer = gguf.GGUFWriter(path, _ARCH)
    _metadata(writer, shape, name)
    tensors = list(_tensors(shape))
    for tensor, size in tensors:
        kind = np.dtype(np.float16 if len(size) > 1 else np.float32)
        writer.add_tensor_info(tensor, size, kind, int(np.prod(size)) * kind.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, size in tensors:
        writer.write_tensor_data(_values(tensor, size, seed, shape))
    writer.close()


def quantize(source: Path, target: Path, quant: str) -> None:
    """Quantizes through llama.cpp. Raises RuntimeError."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = QUANTS[quant]
    params.nthread = len(os.sched_getaffinity(0))
    failed = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(params)
    )
    if failed:
        raise RuntimeError(f"llama.cpp could not quantize {source.name} to {quant}")


def make(target: Path, shape: ModelShape, name: str, quant: str, seed: int) -> None:
    """Writes and quantizes; the target appears only when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    wide, whole = target.with_suffix(".f16.part"), target.with_suffix(".part")
    try:
        write(wide, shape, name, seed)
        if quant == "f16":
            wide.replace(target)
        else:
            quantize(wide, whole, quant)
            whole.replace(target)
    finally:
        wide.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)


def _metadata(writer: gguf.GGUFWriter, shape: ModelShape, name: str) -> None:
    writer.add_name(name)
    writer.add_description("Random weights: for measuring speed only.")
    writer.add_file_type(QUANTS["f16"])
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    words = vocabulary(shape.vocabulary, _TOKENS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    writer.add_token_merges(words.merges)
    writer.add_bos_token_id(words.id(END_OF_TEXT))
    writer.add_eos_token_id(words.id(TURN_END))
    writer.add_pad_token_id(words.id(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(shape: ModelShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes (rows are outputs), in the order of the file."""
    width, kv, ffn = shape.width, shape.kv_width, shape.ffn
    yield "token_embd.weight", (shape.vocabulary, width)
    yield "output_norm.weight", (width,)
    if shape.recites:
        yield "output.weight", (shape.vocabulary, width)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (width,)
        yield block + "attn_q.weight", (width, width)
        yield block + "attn_q.bias", (width,)
        yield block + "attn_k.weight", (kv, width)
        yield block + "attn_k.bias", (kv,)
        yield block + "attn_v.weight", (kv, width)
        yield block + "attn_v.bias", (kv,)
        yield block + "attn_output.weight", (width, width)
        yield block + "ffn_norm.weight", (width,)
        yield block + "ffn_gate.weight", (ffn, width)
        yield block + "ffn_up.weight", (ffn, width)
        yield block + "ffn_down.weight", (width, ffn)


def _values(
    name: str, size: tuple[int, ...], seed: int, shape: ModelShape
) -> NDArray[np.float16] | NDArray[np.float32]:
    """The tensor's values; they depend on its name, the seed and whether the model recites."""
    if name == "output.weight":
        embeddings = _values("token_embd.weight", size, seed, shape)
        values = embeddings.copy()
        values[_successors(size[0])] = embeddings
        return values
    if name.endswith("norm.weight"):
        return np.full(size, _OUTPUT_GAIN if name.startswith("output") else 1.0, np.float32)
    draw = np.random.Generator(np.random.PCG64((seed, zlib.crc32(name.encode()))))
    values = draw.standard_normal(size, dtype=np.float32)
    values *= _STD
    if name.endswith("attn_output.weight"):
        values *= _ATTENTION_SCALE
    if shape.recites and name.endswith(("attn_output.weight", "ffn_down.weight")):
        values *= _RECITING_SCALE
    if name.startswith("token_embd"):
        values *= _EMBEDDING_SCALE
        values[-len(SPECIAL) :] *= _CONTROL_SCALE
    return values.astype(np.float16) if len(size) > 1 else values


def _successors(size: int) -> NDArray[np.int64]:
    """The token that comes after each: a line feed and the words in a circle, the others alone."""
    tokens = vocabulary(size, _TOKENS).tokens
    circle = [tokens.index(token) for token in (_LINE_FEED, *map(word_token, WORDS))]
    after = np.arange(size)
    after[circle] = circle[1:] + circle[:1]
    return after


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status; prints the file's path."""
    parser = argparse.ArgumentParser(prog="python -m bench.random_gguf", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    sizes = [field.name for field in fields(ModelShape) if field.name != "recites"]
    for name in sizes:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="instead of the shape's")
    parser.add_argument("--quant", choices=QUANTS, default="q4_0")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="default: bench/.cache/random-SHAPE-QUANT.gguf")
    parser.add_argument("--force", action="store_true", help="write it again if it exists")
    args = parser.parse_args(argv)
    given = {name: v for name in sizes if (v := getattr(args, name)) is not None}
    shape = replace(SHAPES[args.shape], **given)
    name = f"random-{args.shape}"
    target = args.out or CACHE / f"{name}-{args.quant}.gguf"
    if args.force or not target.exists():
        make(target, shape, name, args.quant, args.seed)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
