"""Distillation with optimised metaparameters the plain way: torch.nn, one student, double backward.

The tests hold the pack against this in float64. It shares no code with the pack, only the names of tensors.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from kdsearch.trainables.seeds import derive_seed


class Student(nn.Module):
    """3x3 convolutions with padding, batch norm, ReLU, pooling by 2; then 64 hidden units."""

    def __init__(self, widths: tuple[int, ...], channels: int, features: int, classes: int) -> None:
        super().__init__()
        self.names = []
        for number, width in enumerate(widths, 1):
            layer = nn.ModuleDict(
                {"conv": nn.Conv2d(channels, width, 3, padding=1, bias=False), "norm": nn.BatchNorm2d(width)}
            )
            self.add_module(f"layer{number}", layer)
            self.names.append(f"layer{number}")
            channels = width
        self.hidden, self.head = nn.Linear(features, 64), nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            layer = self.get_submodule(name)
            x = functional.max_pool2d(functional.relu(layer["norm"](layer["conv"](x))), 2)
        return self.head(functional.relu(self.hidden(x.flatten(1))))


def train_loss(logits: Tensor, answers: Tensor, labels: Tensor, values: Tensor) -> Tensor:
    """The paper's L_train, mean over the batch."""
    weight, temperature = values
    q = functional.softmax(answers / temperature, 1)
    soft = -(q * functional.log_softmax(logits / temperature, 1)).sum(1).mean()
    return weight * functional.cross_entropy(logits, labels) + (1 - weight) * soft


def order(seed: int, name: str, epoch: int, count: int) -> Tensor:
    rng_seed = derive_seed(seed, name, epoch)
    import numpy as np

    return torch.from_numpy(np.random.default_rng(rng_seed).permutation(count))


def step(
    student: nn.Module,
    values: Tensor,
    batch: tuple[Tensor, Tensor, Tensor],
    judge: tuple[Tensor, Tensor],
    *,
    rate: float,
    meta_rate: float,
    bounds: Iterable[tuple[float, float]],
    temperature: float,
) -> Tensor:
    """One step of SGD, and equation 3 through it by double backward; returns the new values."""
    images, labels, answers = batch
    student.train()
    free = values.clone().requires_grad_()
    weights = dict(student.named_parameters())
    loss = train_loss(student(images), answers, labels, free)  # moves the running statistics, once
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    moved = {name: w - rate * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    frozen = {name: buffer.clone() for name, buffer in student.named_buffers()}
    judged = functional_call(student, (moved, frozen), (judge[0],))
    (slope,) = torch.autograd.grad(functional.cross_entropy(judged / temperature, judge[1]), free)
    with torch.no_grad():
        for name, weight in student.named_parameters():
            weight.copy_(moved[name])
    low, high = torch.tensor(list(bounds), dtype=values.dtype).T
    return torch.clamp(values - meta_rate * slope, low, high).detach()
