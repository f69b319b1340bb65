"""Writes tiny projectors with random weights, and a model that sees rows and columns.

What they see means nothing; that two images differ, and one is always the same, does.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

_WIDTH, _HEADS, _FEED = 32, 2, 64
_PATCH, _SIDE = 8, 32
# Width of models/caravan-demo.gguf.
DEMO_WIDTH = 256
# Cells of an image, whatever its size, and of 30 seconds of sound.
IMAGE_CELLS = (_SIDE // _PATCH) ** 2
SOUND_CELLS = 25
_STACK = 1500 // SOUND_CELLS


class _Writer:
    def __init__(self, path: Path, arch: str, seed: int) -> None:
        self.gguf = gguf.GGUFWriter(path, arch)
        self._random = np.random.default_rng(seed)

    def random(self, name: str, *shape: int, std: float = 0.2, half: bool = False) -> None:
        values = (self._random.standard_normal(shape) * std).astype(np.float32)
        self.gguf.add_tensor(name, values.astype(np.float16) if half else values)

    def ones(self, name: str, size: int) -> None:
        self.gguf.add_tensor(name, np.ones(size, np.float32))

    def norm(self, name: str, size: int) -> None:
        self.ones(f"{name}.weight", size)
        self.gguf.add_tensor(f"{name}.bias", np.zeros(size, np.float32))

    def linear(self, name: str, inputs: int, outputs: int, std: float = 0.2) -> None:
        self.random(f"{name}.weight", outputs, inputs, std=std)
        self.random(f"{name}.bias", outputs, std=std)

    def block(self, name: str, *, key_bias: bool = False) -> None:
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            if part == "attn_k" and not key_bias:
                self.random(f"{name}.{part}.weight", _WIDTH, _WIDTH)
            else:
                self.linear(f"{name}.{part}", _WIDTH, _WIDTH)
        self.norm(f"{name}.ln1", _WIDTH)
        self.norm(f"{name}.ln2", _WIDTH)
        self.linear(f"{name}.ffn_up", _WIDTH, _FEED)
        self.linear(f"{name}.ffn_down", _FEED, _WIDTH)

    def encoder(self, kind: str, blocks: int, width: int) -> None:
        for key, value in (
            ("embedding_length", _WIDTH),
            ("attention.head_count", _HEADS),
            ("feed_forward_length", _FEED),
            ("block_count", blocks),
            ("projection_dim", width),
        ):
            self.gguf.add_uint32(f"clip.{kind}.{key}", value)
        self.gguf.add_float32(f"clip.{kind}.attention.layer_norm_epsilon", 1e-5)

    def vision(self, projector: str, width: int, *, patch: int = _PATCH, blocks: int = 2) -> None:
        self.gguf.add_bool("clip.has_vision_encoder", True)
        self.gguf.add_string("clip.vision.projector_type", projector)
        self.encoder("vision", blocks, width)
        self.gguf.add_uint32("clip.vision.image_size", _SIDE)
        self.gguf.add_uint32("clip.vision.patch_size", patch)
        for key in ("image_mean", "image_std"):
            self.gguf.add_array(f"clip.vision.{key}", [0.5, 0.5, 0.5])

    def close(self) -> None:
        self.gguf.write_header_to_file()
        self.gguf.write_kv_data_to_file()
        self.gguf.write_tensors_to_file()
        self.gguf.close()


def write(
    path: Path, *, width: int = DEMO_WIDTH, seed: int = 1, images: bool = True, sounds: bool = True
) -> Path:
    """Of LLaVA's kind for images, of Ultravox's for sounds."""
    writer = _Writer(path, "clip", seed)
    if images:
        writer.vision("mlp", width)
        writer.random("v.patch_embd.weight", _WIDTH, 3, _PATCH, _PATCH)
        writer.random("v.position_embd.weight", IMAGE_CELLS, _WIDTH)
        writer.block("v.blk.0")
        # LLaVA leaves the last one out.
        writer.block("v.blk.1")
        writer.linear("mm.0", _WIDTH, _WIDTH)
        writer.linear("mm.2", _WIDTH, width, std=0.05)
    if sounds:
        _sounds(writer, width)
    writer.close()
    return path


def _sounds(writer: _Writer, width: int) -> None:
    bins = 16
    writer.gguf.add_bool("clip.has_audio_encoder", True)
    writer.gguf.add_string("clip.audio.projector_type", "ultravox")
    writer.encoder("audio", 1, width)
    writer.gguf.add_uint32("clip.audio.num_mel_bins", bins)
    writer.gguf.add_uint32("clip.audio.projector.stack_factor", _STACK)
    writer.random("a.conv1d.1.weight", _WIDTH, bins, 3, half=True)
    writer.random("a.conv1d.1.bias", _WIDTH, 1)
    writer.random("a.conv1d.2.weight", _WIDTH, _WIDTH, 3, half=True)
    writer.random("a.conv1d.2.bias", _WIDTH, 1)
    writer.random("a.position_embd.weight", 1500, _WIDTH)
    writer.block("a.blk.0")
    writer.norm("a.post_ln", _WIDTH)
    stacked = _WIDTH * _STACK
    writer.ones("mm.a.norm_pre.weight", stacked)
    writer.random("mm.a.mlp.1.weight", 2 * _WIDTH, stacked, std=0.05)
    writer.ones("mm.a.norm_mid.weight", _WIDTH)
    writer.random("mm.a.mlp.2.weight", width, _WIDTH, std=0.05)


def write_together(path: Path, *, width: int = DEMO_WIDTH, seed: int = 1) -> Path:
    """Of Gemma 3's kind: all cells of an image attend to each other."""
    writer = _Writer(path, "clip", seed)
    writer.vision("gemma3", width)
    writer.gguf.add_uint32("clip.vision.projector.scale_factor", 1)
    writer.random("v.patch_embd.weight", _WIDTH, 3, _PATCH, _PATCH)
    writer.random("v.patch_embd.bias", _WIDTH)
    writer.random("v.position_embd.weight", IMAGE_CELLS, _WIDTH)
    writer.block("v.blk.0", key_bias=True)
    writer.block("v.blk.1", key_bias=True)
    writer.norm("v.post_ln", _WIDTH)
    writer.ones("mm.soft_emb_norm.weight", _WIDTH)
    writer.random("mm.input_projection.weight", _WIDTH, width, std=0.05)
    writer.close()
    return path


def write_grid(path: Path, *, width: int, seed: int = 1) -> Path:
    """Of Qwen2-VL's kind: cells have rows and columns, and images any size."""
    writer = _Writer(path, "clip", seed)
    writer.vision("qwen2vl_merger", width, patch=14)
    writer.gguf.add_bool("clip.use_silu", False)
    for tensor in ("v.patch_embd.weight", "v.patch_embd.weight.1"):
        writer.random(tensor, _WIDTH, 3, 14, 14)
    writer.block("v.blk.0", key_bias=True)
    writer.block("v.blk.1", key_bias=True)
    writer.norm("v.post_ln", _WIDTH)
    writer.linear("mm.0", 4 * _WIDTH, 4 * _WIDTH, std=0.05)
    writer.linear("mm.2", 4 * _WIDTH, width, std=0.05)
    writer.close()
    return path


# Of the model that `write_grid_model` writes.
GRID_WIDTH = 64


def write_grid_model(path: Path, seed: int = 1) -> Path:
    """A model of Qwen2-VL's architecture; its vocabulary is bytes and ChatML's marks."""
    writer = _Writer(path, "qwen2vl", seed)
    width, feed, out = GRID_WIDTH, 128, writer.gguf
    out.add_context_length(2048)
    out.add_embedding_length(width)
    out.add_block_count(2)
    out.add_feed_forward_length(feed)
    out.add_head_count(2)
    out.add_head_count_kv(2)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_rope_freq_base(10_000.0)
    out.add_rope_dimension_sections([4, 6, 6, 0])
    tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    out.add_tokenizer_model("llama")
    out.add_token_list([*special[:1], *tokens, *special[1:]])
    out.add_token_scores([0.0] * (len(tokens) + len(special)))
    out.add_token_types([2, *([6] * 256), *([3] * 4)])
    out.add_unk_token_id(0)
    out.add_eos_token_id(258)
    out.add_add_bos_token(False)
    out.add_add_space_prefix(False)
    writer.random("token_embd.weight", len(tokens) + len(special), width)
    writer.ones("output_norm.weight", width)
    for block in ("blk.0", "blk.1"):
        writer.ones(f"{block}.attn_norm.weight", width)
        for part in ("attn_q", "attn_k", "attn_v"):
            writer.linear(f"{block}.{part}", width, width)
        writer.random(f"{block}.attn_output.weight", width, width)
        writer.ones(f"{block}.ffn_norm.weight", width)
        writer.random(f"{block}.ffn_gate.weight", feed, width)
        writer.random(f"{block}.ffn_up.weight", feed, width)
        writer.random(f"{block}.ffn_down.weight", width, feed)
    writer.close()
    return path
