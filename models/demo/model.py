"""The network: a small Llama (RMSNorm, RoPE, grouped-query attention, SwiGLU, tied embeddings) in torch.

Shapes: B rows, L tokens a row, D = dim, H query heads, K key/value heads, E = D / H.
The rotary layout is "rotate half"; export.py permutes query and key rows into llama.cpp's interleaved layout.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Everything that fixes the size of the network."""

    vocab: int = 2048
    dim: int = 256
    layers: int = 6
    heads: int = 8
    kv_heads: int = 4
    ffn: int = 640
    context: int = 2048
    rope_base: float = 10000.0
    eps: float = 1e-5

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def rope_tables(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [context, E], for the rotate-half layout."""
    head = shape.dim // shape.heads
    inverse = shape.rope_base ** (-torch.arange(0, head, 2).float() / head)
    angles = torch.outer(torch.arange(shape.context).float(), inverse)
    angles = torch.cat([angles, angles], dim=1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply RoPE to x [B, heads, L, E] with cos and sin [B, 1, L, E]."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos + turned * sin


class Norm(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads = shape.heads, shape.kv_heads
        self.head = shape.dim // shape.heads
        kv = self.head * shape.kv_heads
        self.attn_norm = Norm(shape.dim, shape.eps)
        self.q = nn.Linear(shape.dim, shape.dim, bias=False)
        self.k = nn.Linear(shape.dim, kv, bias=False)
        self.v = nn.Linear(shape.dim, kv, bias=False)
        self.o = nn.Linear(shape.dim, shape.dim, bias=False)
        self.ffn_norm = Norm(shape.dim, shape.eps)
        self.gate = nn.Linear(shape.dim, shape.ffn, bias=False)
        self.up = nn.Linear(shape.dim, shape.ffn, bias=False)
        self.down = nn.Linear(shape.ffn, shape.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, bias: Tensor) -> Tensor:
        rows, length, dim = x.shape
        h = self.attn_norm(x)
        q = self.q(h).view(rows, length, self.heads, self.head).transpose(1, 2)
        k = self.k(h).view(rows, length, self.kv_heads, self.head).transpose(1, 2)
        v = self.v(h).view(rows, length, self.kv_heads, self.head).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        share = self.heads // self.kv_heads
        k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
        scores = (
            q @ k.transpose(2, 3) * self.head**-0.5 + bias
        )  # plain attention trains faster here than torch's fused one
        a = scores.softmax(dim=-1).to(v.dtype) @ v
        x = x + self.o(a.transpose(1, 2).reshape(rows, length, dim))
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.dim)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.dim, shape.eps)
        cos, sin = rope_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.reset()

    def reset(self) -> None:
        """Initial weights: embeddings 0.02-like, matrices by fan-in, residual outputs smaller."""
        nn.init.normal_(self.embed.weight, std=0.02)
        deep = (2 * self.shape.layers) ** -0.5
        for layer in self.layers:
            for name in ("q", "k", "v", "gate", "up"):
                weight = getattr(layer, name).weight
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            for name in ("o", "down"):
                weight = getattr(layer, name).weight
                nn.init.normal_(weight, std=deep * weight.shape[1] ** -0.5)

    def hidden(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Final normalized states [B, L, D] of tokens [B, L]; mask [B, 1, L, L] is True where a token may look."""
        x = self.embed(tokens)
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.bfloat16)
        cos = self.cos[positions].unsqueeze(1).to(x.dtype)
        sin = self.sin[positions].unsqueeze(1).to(x.dtype)
        bias = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -30000.0)
        for layer in self.layers:
            x = layer(x, cos, sin, bias)
        return self.norm(x)

    def logits(self, states: Tensor) -> Tensor:
        """Scores over the vocabulary, with the embedding matrix as output matrix."""
        return F.linear(states, self.embed.weight)
