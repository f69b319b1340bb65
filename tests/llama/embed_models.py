"""Tiny GGUF files with random weights: the kinds of embedding models that are not bundled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH, FFN, LAYERS, HEADS = 32, 64, 2, 2
CONTEXT = 64
WORDS = ("the", "cat", "sat", "on", "a", "mat", "dog", "ran", "far", "away", "green", "tea")
# Ids of the control tokens that `bert` has.
CLS, SEP = 2, 3
RERANK_TEMPLATE = "<|im_start|>judge\n<Q>: {query}\n<D>: {document}<|im_end|>\n"


class _Weights:
    """Adds random tensors; the same seed gives the same file."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int) -> None:
        self._writer = writer
        self._draw = np.random.Generator(np.random.PCG64(seed))

    def random(self, name: str, *shape: int, scale: float = 0.3) -> None:
        values = self._draw.standard_normal(shape, dtype=np.float32) * scale
        self._writer.add_tensor(name, values)

    def ones(self, name: str, *shape: int) -> None:
        self._writer.add_tensor(name, np.ones(shape, np.float32))


def bert(path: Path, pooling: gguf.PoolingType, *, classes: int = 0, seed: int = 1) -> Path:
    """A BERT-like encoder; with `classes` a reranker's classifier on top."""
    writer = _writer(path, "bert", pooling)
    writer.add_causal_attention(False)
    writer.add_layer_norm_eps(1e-12)
    writer.add_token_type_count(2)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # Word starts are marked, what continues a word is not: as converters write word pieces.
    tokens = [*specials, *(f"\u2581{word}" for word in WORDS), *"abcdefghij"]
    writer.add_tokenizer_model("bert")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(specials) + [1] * (len(tokens) - len(specials)))
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(CLS)
    writer.add_sep_token_id(SEP)
    writer.add_eos_token_id(SEP)
    writer.add_mask_token_id(4)
    weights = _Weights(writer, seed)
    weights.random("token_embd.weight", len(tokens), WIDTH)
    weights.random("token_types.weight", 2, WIDTH)
    weights.random("position_embd.weight", CONTEXT, WIDTH)
    weights.ones("token_embd_norm.weight", WIDTH)
    weights.random("token_embd_norm.bias", WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights.random(f"{block}{name}.weight", WIDTH, WIDTH)
            weights.random(f"{block}{name}.bias", WIDTH)
        for name in ("attn_output_norm", "layer_output_norm"):
            weights.ones(f"{block}{name}.weight", WIDTH)
            weights.random(f"{block}{name}.bias", WIDTH)
        weights.random(f"{block}ffn_up.weight", FFN, WIDTH)
        weights.random(f"{block}ffn_up.bias", FFN)
        weights.random(f"{block}ffn_down.weight", WIDTH, FFN)
        weights.random(f"{block}ffn_down.bias", WIDTH)
    if classes:
        weights.random("cls.weight", WIDTH, WIDTH)
        weights.random("cls.bias", WIDTH)
        weights.random("cls.output.weight", classes, WIDTH)
        weights.random("cls.output.bias", classes)
        if classes > 1:
            writer.add_classifier_output_labels([f"class {at}" for at in range(classes)])
    return _close(writer, path)


def qwen3(
    path: Path, pooling: gguf.PoolingType, *, template: str | None = None, seed: int = 2
) -> Path:
    """A causal model; with RANK pooling a reranker whose classes are yes and no."""
    writer = _writer(path, "qwen3", pooling)
    writer.add_head_count_kv(1)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    tokens = _byte_tokens(writer)
    if template is not None:
        writer.add_chat_template([{"name": "rerank", "template": template}])
    weights = _Weights(writer, seed)
    weights.random("token_embd.weight", tokens, WIDTH)
    weights.ones("output_norm.weight", WIDTH)
    kv = WIDTH // HEADS
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        weights.ones(f"{block}attn_norm.weight", WIDTH)
        weights.random(f"{block}attn_q.weight", WIDTH, WIDTH)
        weights.random(f"{block}attn_k.weight", kv, WIDTH)
        weights.random(f"{block}attn_v.weight", kv, WIDTH)
        weights.random(f"{block}attn_output.weight", WIDTH, WIDTH)
        weights.ones(f"{block}attn_q_norm.weight", WIDTH // HEADS)
        weights.ones(f"{block}attn_k_norm.weight", WIDTH // HEADS)
        weights.ones(f"{block}ffn_norm.weight", WIDTH)
        weights.random(f"{block}ffn_gate.weight", FFN, WIDTH)
        weights.random(f"{block}ffn_up.weight", FFN, WIDTH)
        weights.random(f"{block}ffn_down.weight", WIDTH, FFN)
    if pooling is gguf.PoolingType.RANK:
        weights.random("cls.output.weight", 2, WIDTH)
        writer.add_classifier_output_labels(["yes", "no"])
    return _close(writer, path)


def gemma(path: Path, *, seed: int = 3) -> Path:
    """An encoder whose file does not say that it is one."""
    writer = _writer(path, "gemma-embedding", gguf.PoolingType.MEAN)
    writer.add_head_count_kv(1)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(CONTEXT // 2)
    # llama.cpp wants layers of both kinds.
    writer.add_sliding_window_pattern(LAYERS)
    tokens = _byte_tokens(writer)
    weights = _Weights(writer, seed)
    weights.random("token_embd.weight", tokens, WIDTH)
    weights.ones("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            weights.ones(f"{block}{name}.weight", WIDTH)
        for name in ("attn_q_norm", "attn_k_norm"):
            weights.ones(f"{block}{name}.weight", WIDTH // HEADS)
        for name, rows in (("q", WIDTH), ("k", WIDTH // HEADS), ("v", WIDTH // HEADS)):
            weights.random(f"{block}attn_{name}.weight", rows, WIDTH)
        weights.random(f"{block}attn_output.weight", WIDTH, WIDTH)
        weights.random(f"{block}ffn_gate.weight", FFN, WIDTH)
        weights.random(f"{block}ffn_up.weight", FFN, WIDTH)
        weights.random(f"{block}ffn_down.weight", WIDTH, FFN)
    return _close(writer, path)


def _byte_tokens(writer: Any) -> int:
    """Control tokens and one for each byte; how many."""
    controls = ["<unk>", "<s>", "<|im_end|>", "<|im_start|>"]
    tokens = [*controls, *(f"<0x{byte:02X}>" for byte in range(256))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, 3] + [6] * 256)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(True)
    writer.add_add_space_prefix(False)
    return len(tokens)


def _writer(path: Path, architecture: str, pooling: gguf.PoolingType) -> Any:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(path.stem)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_pooling_type(pooling)
    return writer


def _close(writer: Any, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def words(count: int, *, start: int = 0) -> str:
    """A text of so many word pieces of `bert`."""
    return " ".join(WORDS[(start + at) % len(WORDS)] for at in range(count))
