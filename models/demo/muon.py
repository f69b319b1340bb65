"""Muon for matrices (momentum made orthogonal by Newton-Schulz) beside Adam for embeddings and norms.

Works over data-parallel ranks: gradients are summed first, then each rank orthogonalizes its share of the matrices and
the shares are exchanged. Reference: Keller Jordan, "Muon: an optimizer for hidden layers", 2024.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def orthogonal(batch: Tensor, rounds: int = 5) -> Tensor:
    """Nearest orthogonal-like matrices of batch [N, rows <= cols], by a quintic Newton-Schulz iteration in bfloat16."""
    x = batch.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        a = x @ x.transpose(1, 2)
        b = -4.7750 * a + 2.0315 * (a @ a)
        x = 3.4445 * x + b @ x
    return x


class Optimizer:
    """One step over all parameters of a model; `rank` and `ranks` share the work."""

    def __init__(
        self, model: nn.Module, rank: int, ranks: int, matrix_rate: float, other_rate: float
    ) -> None:
        self.rank, self.ranks = rank, ranks
        self.matrix_rate = matrix_rate
        groups: defaultdict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
        others: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                groups[tuple(sorted(parameter.shape))].append(parameter)
            else:
                others.append(parameter)
        self.groups = list(groups.values())
        self.parameters = [p for group in self.groups for p in group] + others
        self.momentum = [torch.zeros(len(g), *sorted(g[0].shape)) for g in self.groups]
        self.adam = torch.optim.AdamW(
            others, lr=other_rate, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0
        )
        self.other_rate = other_rate
        self.flat = torch.zeros(sum(p.numel() for p in self.parameters))
        at = 0
        for (
            parameter
        ) in self.parameters:  # gradients live in one buffer, so one exchange moves them all
            parameter.grad = self.flat[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()

    def zero(self) -> None:
        self.flat.zero_()

    def step(self, scale: float) -> float:
        """Sum the ranks' gradients, update with rates times `scale`; returns the gradient's norm."""
        if self.ranks > 1:
            dist.all_reduce(self.flat)
        norm = float(self.flat.norm())
        updates = [self._update(i) for i in range(len(self.groups))]
        if self.ranks > 1:
            joint = torch.cat([u.reshape(-1) for u in updates])
            dist.all_reduce(joint)
            updates = [
                part.view_as(u)
                for part, u in zip(joint.split([u.numel() for u in updates]), updates, strict=True)
            ]
        for group, update in zip(self.groups, updates, strict=True):
            for parameter, change in zip(group, update, strict=True):
                rows, columns = parameter.shape
                turned = change if rows <= columns else change.T
                parameter.data.mul_(1 - 0.01 * self.matrix_rate * scale)
                parameter.data.add_(
                    turned, alpha=-self.matrix_rate * scale * max(1.0, rows / columns) ** 0.5
                )
        for options in self.adam.param_groups:
            options["lr"] = self.other_rate * scale
        self.adam.step()
        return norm

    def _update(self, i: int) -> Tensor:
        group, momentum = self.groups[i], self.momentum[i]
        gradients = torch.stack([p.grad if p.shape[0] <= p.shape[1] else p.grad.T for p in group])
        momentum.lerp_(gradients, 0.05)
        mixed = gradients.lerp(momentum, 0.95)
        update = torch.zeros_like(momentum)
        mine = slice(self.rank, None, self.ranks)
        update[mine] = orthogonal(mixed[mine]).float()
        return update

    def state(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        for mine, saved in zip(self.momentum, state["momentum"], strict=True):
            mine.copy_(saved)
        self.adam.load_state_dict(state["adam"])
