"""Training: seeded, resumable, on the CPU, one process per core.

    python -m models.demo.train --work /tmp/demo-train --steps 4000 --procs 2

The learning rate is constant after a warm-up and falls to zero over the last part of --steps (--decay), so a run may be
resumed with another --steps as long as the fall has not begun. Checkpoints appear in --work every --save steps.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .corpus import ROWS, shard
from .model import Llama, Shape
from .muon import Optimizer
from .tokenizer import Tokenizer

BATCH_TOKENS = 8192
SEED = 1
FIELDS = ("tokens", "segment", "position", "learnt")


def batches(number: int, tokenizer: Tokenizer) -> list[dict[str, np.ndarray]]:
    """A shard's batches, each of one row length, in a seeded order."""
    arrays = shard(number, tokenizer)
    found = []
    for length in ROWS:
        rows = BATCH_TOKENS // length
        total = len(arrays[f"{length}/tokens"])
        for at in range(0, total - rows + 1, rows):
            part = slice(at, at + rows)
            found.append({name: arrays[f"{length}/{name}"][part] for name in FIELDS})
    Random(number).shuffle(found)
    return found


def stream(
    number: int, index: int, tokenizer: Tokenizer
) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
    """Batches from position (shard, index) on, each with the position that follows it."""
    while True:
        found = batches(number, tokenizer)
        for i in range(index, len(found)):
            yield number, i + 1, found[i]
        number, index = number + 1, 0


def loss_of(
    model: Llama, hidden: Callable[..., Tensor], batch: dict[str, np.ndarray], rank: int, ranks: int
) -> Tensor:
    """This rank's share of the mean loss over the learnt tokens of the whole batch."""
    segment = batch["segment"]
    target_ok = batch["learnt"][:, 1:] & (segment[:, 1:] == segment[:, :-1])
    total = int(target_ok.sum())
    mine = slice(rank, None, ranks)
    tokens = torch.from_numpy(batch["tokens"][mine].astype(np.int64))
    positions = torch.from_numpy(batch["position"][mine].astype(np.int64))
    parts = torch.from_numpy(segment[mine].astype(np.int64))
    length = tokens.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = ((parts[:, :, None] == parts[:, None, :]) & causal).unsqueeze(1)
    rows, columns = np.nonzero(target_ok[mine])
    with torch.autocast("cpu", torch.bfloat16):
        states = hidden(tokens, positions, mask)
        scores = model.logits(states[rows, columns])
    targets = tokens[rows, columns + 1]
    return F.cross_entropy(scores.float(), targets, reduction="sum") / total


def rate(step: int, steps: int, decay: float) -> float:
    """The learning-rate factor: 80 steps of warm-up, constant, then linear to zero."""
    return min(1.0, (step + 1) / 80, (steps - step) / max(1.0, steps * decay))


def work(rank: int, options: argparse.Namespace) -> None:
    ranks = options.procs
    if options.sessions:
        os.setsid()
    torch.set_num_threads(max(1, options.threads))
    if ranks > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(options.port))
        dist.init_process_group("gloo", rank=rank, world_size=ranks)
    torch.manual_seed(SEED)
    tokenizer = Tokenizer.load()
    model = Llama(Shape(vocab=len(tokenizer.pieces)))
    optimizer = Optimizer(model, rank, ranks, options.matrix_rate, options.other_rate)
    step, number, index, seen = 0, 0, 0, 0
    last = options.work / "last.pt"
    if last.exists():
        saved = torch.load(last, weights_only=False)
        model.load_state_dict(saved["model"])
        optimizer.restore(saved["optimizer"])
        step, number, index, seen = saved["step"], saved["shard"], saved["index"], saved["seen"]
    hidden = torch.compile(model.hidden, dynamic=False) if options.compile else model.hidden
    source = stream(number, index, tokenizer)
    began, first, smooth = time.time(), step, 0.0
    while step < options.steps and (time.time() - began) / 60 < options.minutes:
        number, index, batch = next(source)
        optimizer.zero()
        loss = loss_of(model, hidden, batch, rank, ranks)
        value = float(loss.detach())
        loss.backward()
        optimizer.step(rate(step, options.steps, options.decay))
        step, seen = step + 1, seen + int((batch["segment"] > 0).sum())
        smooth = value if step == first + 1 else 0.95 * smooth + 0.05 * value
        if rank == 0 and (step % 20 == 0 or step < first + 4):
            speed = (step - first) * BATCH_TOKENS / (time.time() - began)
            print(
                f"step {step} loss {smooth * ranks:.4f} tokens {seen / 1e6:.2f}M {speed:.0f} tok/s {(time.time() - began) / 60:.1f} min",
                flush=True,
            )
        if rank == 0 and (step % options.save == 0 or step == options.steps):
            fresh = last.with_suffix(".new")
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state(),
                    "step": step,
                    "shard": number,
                    "index": index,
                    "seen": seen,
                    "shape": model.shape.as_dict(),
                },
                fresh,
            )
            fresh.replace(last)
    if ranks > 1:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("/tmp/caravan-demo"))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long")
    parser.add_argument("--save", type=int, default=100)
    parser.add_argument("--procs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="per process")
    parser.add_argument(
        "--sessions",
        action="store_true",
        help="each process in a session of its own: Linux shares a busy machine's cores by session",
    )
    parser.add_argument("--port", type=int, default=29431)
    parser.add_argument("--decay", type=float, default=0.4)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=0.004)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.procs > 1:
        torch.multiprocessing.spawn(work, args=(options,), nprocs=options.procs)
    else:
        work(0, options)


if __name__ == "__main__":
    main()
