"""Trains the embedding model: a smaller Llama whose mean-pooled states are alike for sentences that mean the same.

    python -m models.demo.embed --steps 300 --out models/caravan-demo-embed.gguf

Contrastive (InfoNCE): of all second phrasings in a batch, the own one must be the nearest. Minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import gguf
import torch
import torch.nn.functional as F
from torch import Tensor

from .export import write_shape, write_tokenizer, write_weights
from .model import Llama, Shape
from .muon import Optimizer
from .similar import Similar
from .tokenizer import Tokenizer

SHAPE = Shape(dim=192, layers=4, heads=6, kv_heads=3, ffn=512, context=512)
SHORT, LONG = (
    (96, 32),
    (32, 96),
)  # pairs in a batch and tokens in a text; every eighth batch is long
TEMPERATURE, SEED = 0.05, 2
DESCRIPTION = (
    "A tiny embedding model, trained from scratch for demonstrations and tests. Mean pooling."
)


def encode(texts: list[str], tokenizer: Tokenizer, width: int) -> tuple[Tensor, Tensor]:
    """Tokens [N, L] padded with 0, and a mask [N, L] of the real ones."""
    lists = [tokenizer.encode(text)[:width] for text in texts]
    tokens = torch.zeros(len(lists), width, dtype=torch.long)
    for row, ids in zip(tokens, lists, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return tokens, torch.arange(width) < torch.tensor([len(ids) for ids in lists])[:, None]


def pooled(hidden: Callable[..., Tensor], tokens: Tensor, real: Tensor) -> Tensor:
    """Unit vectors [N, D]: the mean of the final states over the real tokens (padding follows, attention is causal)."""
    length = tokens.shape[1]
    mask = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    states = hidden(tokens, torch.arange(length).expand_as(tokens), mask).float()
    return F.normalize((states * real[..., None]).sum(1), dim=1)


def train(options: argparse.Namespace) -> Llama:
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    tokenizer = Tokenizer.load()
    model = Llama(SHAPE)
    hidden = torch.compile(model.hidden, dynamic=False)
    optimizer = Optimizer(model, 0, 1, matrix_rate=0.01, other_rate=0.003)
    source = Similar(Random(f"caravan-demo-embed {SEED}"))
    began, smooth = time.time(), 0.0
    for step in range(options.steps):
        count, width = LONG if step % 8 == 7 else SHORT
        draw = source.passages if step % 8 == 7 else source.pair
        pairs = [draw() for _ in range(count)]
        keys = [pair[0] for pair in pairs]
        same = torch.tensor(
            [[a == b and i != j for j, b in enumerate(keys)] for i, a in enumerate(keys)]
        )
        tokens, real = encode(
            [pair[1] for pair in pairs] + [pair[2] for pair in pairs], tokenizer, width
        )
        optimizer.zero()
        with torch.autocast("cpu", torch.bfloat16):
            vectors = pooled(hidden, tokens, real)
        scores = (vectors[:count].float() @ vectors[count:].float().T / TEMPERATURE).masked_fill(
            same, -1e4
        )
        target = torch.arange(count)
        loss = (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
        loss.backward()
        optimizer.step(min(1.0, (step + 1) / 40, (options.steps - step) / (0.5 * options.steps)))
        smooth = loss.item() if step == 0 else 0.95 * smooth + 0.05 * loss.item()
        if step % 50 == 0 or step == options.steps - 1:
            print(f"step {step + 1} loss {smooth:.4f} {time.time() - began:.0f} s", flush=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "caravan-demo-embed.gguf"
    )
    options = parser.parse_args()
    model = train(options)
    shape = SHAPE.as_dict()
    out = gguf.GGUFWriter(str(options.out), "llama")
    write_shape(out, shape, "caravan-demo-embed", DESCRIPTION)
    out.add_pooling_type(gguf.PoolingType.MEAN)
    write_tokenizer(out, Tokenizer.load())
    write_weights(out, model.state_dict(), shape)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    data = options.out.read_bytes()
    print(f"{options.out}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
