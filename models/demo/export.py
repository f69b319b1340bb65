"""Writes a checkpoint as a GGUF file that llama.cpp loads: Q8_0 matrices, tokenizer and chat template inside.

python -m models.demo.export --work /tmp/caravan-demo --out models/caravan-demo.gguf
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from .chat import TEMPLATE
from .tokenizer import CONTROL, FIRST_BYTE, MARKERS, Tokenizer

SHARPEN = (
    2.5  # factor on all logits: at temperature 1.0, what clients send, so small a model rambles
)
AUTHOR = "The Caravan authors"
DESCRIPTION = (
    "A tiny chat model, trained from scratch for demonstrations and tests. It knows very little."
)


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder query or key rows from the rotate-half layout to llama.cpp's interleaved one."""
    rows, columns = weight.shape
    return (
        weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


def token_type(token: int, piece: str) -> gguf.TokenType:
    if token == 0:
        return gguf.TokenType.UNKNOWN
    if piece in CONTROL:
        return gguf.TokenType.CONTROL
    if piece in MARKERS:
        return gguf.TokenType.USER_DEFINED
    return gguf.TokenType.BYTE if token < FIRST_BYTE + 256 else gguf.TokenType.NORMAL


def write_tokenizer(out: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    pieces = tokenizer.pieces
    out.add_tokenizer_model("llama")
    out.add_tokenizer_pre("default")
    out.add_token_list([piece.encode() for piece in pieces])
    out.add_token_scores([tokenizer.score(i) for i in range(len(pieces))])
    out.add_token_types([token_type(i, piece) for i, piece in enumerate(pieces)])
    out.add_unk_token_id(0)
    out.add_bos_token_id(tokenizer.ids["<|endoftext|>"])
    out.add_pad_token_id(tokenizer.ids["<|endoftext|>"])
    out.add_eos_token_id(tokenizer.ids["<|im_end|>"])
    out.add_eot_token_id(tokenizer.ids["<|im_end|>"])
    for key, name in (
        ("fim_pre", "<|fim_prefix|>"),
        ("fim_suf", "<|fim_suffix|>"),
        ("fim_mid", "<|fim_middle|>"),
    ):
        out.add_uint32(f"tokenizer.ggml.{key}_token_id", tokenizer.ids[name])
    out.add_add_bos_token(False)
    out.add_add_eos_token(False)
    out.add_add_space_prefix(False)


def write_shape(out: gguf.GGUFWriter, shape: dict[str, Any], name: str, description: str) -> None:
    out.add_name(name)
    out.add_author(AUTHOR)
    out.add_license("apache-2.0")
    out.add_description(description)
    out.add_context_length(shape["context"])
    out.add_embedding_length(shape["dim"])
    out.add_block_count(shape["layers"])
    out.add_feed_forward_length(shape["ffn"])
    out.add_head_count(shape["heads"])
    out.add_head_count_kv(shape["kv_heads"])
    out.add_rope_dimension_count(shape["dim"] // shape["heads"])
    out.add_rope_freq_base(shape["rope_base"])
    out.add_layer_norm_rms_eps(shape["eps"])
    out.add_vocab_size(shape["vocab"])
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)


def write_weights(
    out: gguf.GGUFWriter, weights: dict[str, torch.Tensor], shape: dict[str, Any]
) -> None:
    names = {
        "q": "attn_q",
        "k": "attn_k",
        "v": "attn_v",
        "o": "attn_output",
        "gate": "ffn_gate",
        "up": "ffn_up",
        "down": "ffn_down",
        "attn_norm": "attn_norm",
        "ffn_norm": "ffn_norm",
    }
    for name, tensor in weights.items():
        array = tensor.float().numpy()
        if name == "embed.weight":
            target = "token_embd.weight"
        elif name == "norm.weight":
            target = "output_norm.weight"
        else:
            _, layer, part, _ = name.split(".")
            target = f"blk.{layer}.{names[part]}.weight"
            if part in ("q", "k"):
                array = interleaved(array, shape["heads"] if part == "q" else shape["kv_heads"])
        if array.ndim == 1:
            out.add_tensor(target, array)
        else:
            packed = gguf.quants.quantize(
                np.ascontiguousarray(array), gguf.GGMLQuantizationType.Q8_0
            )
            out.add_tensor(target, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)


def export(checkpoint: Path, target: Path) -> None:
    saved = torch.load(checkpoint, weights_only=False, map_location="cpu")
    shape = saved["shape"]
    out = gguf.GGUFWriter(str(target), "llama")
    write_shape(out, shape, "caravan-demo", DESCRIPTION)
    out.add_uint32("caravan.training_steps", saved["step"])
    write_tokenizer(out, Tokenizer.load())
    out.add_chat_template(TEMPLATE.read_text(encoding="utf-8"))
    weights = saved["model"]
    weights["norm.weight"] = weights["norm.weight"] * SHARPEN
    write_weights(out, weights, shape)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    data = target.read_bytes()
    print(
        f"{target}: step {saved['step']}, {saved['seen'] / 1e6:.1f}M tokens, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("/tmp/caravan-demo"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "caravan-demo.gguf")
    options = parser.parse_args()
    export(options.work / "last.pt", options.out)


if __name__ == "__main__":
    main()
