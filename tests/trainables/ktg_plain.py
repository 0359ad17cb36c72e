"""Knowledge transfer graphs the plain way: one module per node, loops over nodes and edges, autograd, torch.optim.

The tests hold the engine against this in float64; the benchmark times it in float32. It shares no code with the
engine, only the names of tensors, so that weights can be carried across.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdsearch.spaces.graph import Gate, Graph


def conv3(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = conv3(outputs, outputs, 1), nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return functional.relu(y + shortcut)


class WideBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), conv3(inputs, outputs, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), conv3(outputs, outputs, 1)
        self.shortcut = None
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = functional.relu(self.norm1(x))
        y = self.conv2(functional.relu(self.norm2(self.conv1(active))))
        return y + (x if self.shortcut is None else self.shortcut(active))


class Network(nn.Module):
    """He's CIFAR residual network (shortcut A) or, with `wide`, Zagoruyko's pre-activation one."""

    def __init__(
        self,
        *,
        wide: bool,
        blocks: int,
        stem: int,
        widths: Sequence[int],
        channels: int,
        classes: int,
        stride: int,
    ) -> None:
        super().__init__()
        self.wide = wide
        self.stem = nn.ModuleDict({"conv": conv3(channels, stem, stride)})
        if not wide:
            self.stem["norm"] = nn.BatchNorm2d(stem)
        self.stages = []
        inputs = stem
        for stage, width in enumerate(widths, 1):
            layers = nn.ModuleDict()
            for index in range(1, blocks + 1):
                make = WideBlock if wide else ResidualBlock
                layers[f"block{index}"] = make(inputs, width, 2 if stage > 1 and index == 1 else 1)
                inputs = width
            self.add_module(f"stage{stage}", layers)
            self.stages.append(f"stage{stage}")
        self.head = nn.Linear(inputs, classes)
        if wide:
            self.head.add_module("norm", nn.BatchNorm2d(inputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem["conv"](x)
        if not self.wide:
            x = functional.relu(self.stem["norm"](x))
        for stage in self.stages:
            for block in self.get_submodule(stage).values():
                x = block(x)
        if self.wide:
            x = functional.relu(self.head.norm(x))
        return self.head(x.mean((2, 3)))


def gated(gate: Gate, losses: Tensor, right: Tensor, k: int, total: int) -> Tensor:
    """Per-sample losses [B] -> a scalar."""
    match gate:
        case Gate.THROUGH:
            return losses.mean()
        case Gate.LINEAR:
            return losses.mean() * k / total
        case Gate.NEGATIVE_LINEAR:
            return losses.mean() * (1 - k / total)
        case Gate.CORRECT:
            return losses[right].sum() / len(losses)
        case Gate.CUTOFF:
            return losses.sum() * 0


def node_loss(
    graph: Graph,
    target: int,
    logits: Sequence[Tensor],
    labels: Tensor,
    *,
    k: int,
    total: int,
    temperature: float,
) -> Tensor:
    """The sum over the edges that reach `target`; `logits` are of nodes 1 to M."""
    own = logits[target - 1]
    loss = own.new_zeros(())
    for edge in graph.edges():
        if edge.target != target:
            continue
        if edge.source == "label":
            losses = functional.cross_entropy(own, labels, reduction="none")
            right = torch.ones_like(labels, dtype=torch.bool)
        else:
            source = logits[int(edge.source) - 1].detach()
            log_p = functional.log_softmax(own / temperature, 1)
            p_source = functional.softmax(source / temperature, 1)
            losses = temperature**2 * functional.kl_div(log_p, p_source, reduction="none").sum(1)
            right = source.argmax(1) == labels
        loss = loss + gated(edge.gate, losses, right, k, total)
    return loss


def train_epoch(
    graph: Graph,
    nodes: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer | None],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    done: int,
    total: int,
    temperature: float = 1.0,
) -> list[list[Tensor]]:
    """Train for one epoch; returns each iteration's loss of every node. A node without an optimiser is frozen."""
    history = []
    for node, optimizer in zip(nodes, optimizers, strict=True):
        node.train(optimizer is not None)
    for k, (x, y) in enumerate(batches, done + 1):
        logits = [node(x) for node in nodes]
        losses = [
            node_loss(graph, t, logits, y, k=k, total=total, temperature=temperature) for t in graph.nodes
        ]
        for optimizer in optimizers:
            if optimizer is not None:
                optimizer.zero_grad()
        for loss, optimizer in zip(losses, optimizers, strict=True):
            if optimizer is not None:
                loss.backward()
        for optimizer in optimizers:
            if optimizer is not None:
                optimizer.step()
        history.append([loss.detach() for loss in losses])
    return history


@torch.no_grad()
def evaluate(node: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Return cross-entropy and error in per cent."""
    node.eval()
    loss, wrong, count = 0.0, 0, 0
    for x, y in batches:
        logits = node(x)
        loss += functional.cross_entropy(logits, y, reduction="sum").item()
        wrong += int((logits.argmax(1) != y).sum())
        count += len(y)
    return loss / count, 100 * wrong / count


def sgd(node: nn.Module, learning_rate: float) -> torch.optim.SGD:
    return torch.optim.SGD(node.parameters(), learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
