"""The losses of K graphs and their gradients at the logits, in closed form.

A graph is a tensor of weights W[k, t, s]: trial k, target node t, source s (0 is the label, s >= 1 a node). Per sample

    L_t = W[t, 0] CE(z_t, y) + T^2 sum_s W[t, s] m_s KL(p_s || p_t),   p = softmax(z / T),

with sources detached and m_s = 1, or under the correct gate [argmax z_s = y]; a node's loss is the mean over the full
batch (Minami et al., ACCV 2020; Iwata et al., Section III). As sources are constants,

    dL_t / dz_t = W[t, 0] (softmax(z_t) - y) + T sum_s W[t, s] m_s (p_t - p_s),

so that nothing of the graph goes through autograd: the networks' backward passes start from these gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kdsearch.spaces.graph import Gate, Graph


class GraphLosses(NamedTuple):
    """What one batch says: `losses` [K, M] and `gradients` [K, M, B, classes] at the logits."""

    losses: Tensor
    gradients: Tensor


def gate_weights(
    graphs: Sequence[Graph], done: Sequence[int], iterations: int, total: int
) -> NDArray[np.float64]:
    """Return W [iterations, K, M, M + 1] for the iterations that come next.

    done: [K] iterations each trial has behind it; total: iterations in the whole run. With k counted from 1, linear is
    k / total and negative linear 1 - k / total; through and correct are 1 (correct's mask comes from the batch). A
    learned edge has 0 here: its weight does not follow from the iteration.
    """
    counts = np.asarray(done, dtype=np.float64) + np.arange(1, iterations + 1)[:, None]  # [iterations, K]
    share = (counts / total)[:, :, None, None]
    kinds = np.array([graph.gates for graph in graphs])  # [K, M, M + 1]
    weights = np.zeros((iterations, *kinds.shape))
    for gate, value in (
        (Gate.THROUGH, np.ones_like(share)),
        (Gate.CORRECT, np.ones_like(share)),
        (Gate.LINEAR, share),
        (Gate.NEGATIVE_LINEAR, 1.0 - share),
    ):
        weights += np.where(kinds == gate, value, 0.0)
    return weights


def correct_gates(graphs: Sequence[Graph]) -> NDArray[np.bool_]:
    """Return [K, M, M + 1]: where the source has to be right. The label always is."""
    marks: NDArray[np.bool_] = np.array([graph.gates for graph in graphs]) == Gate.CORRECT
    marks[:, :, 0] = False
    return marks


@torch.no_grad()
def graph_losses(
    logits: Tensor, labels: Tensor, weights: Tensor, correct: Tensor, *, temperature: float
) -> GraphLosses:
    """Return every node's loss and its gradient at that node's logits.

    logits: [K, M, B, classes]; labels: [K, B]; weights: [K, M, M + 1]; correct: [K, M, M + 1], boolean.
    An edge whose weight is 0 is absent: its source may be NaN and nothing of it arrives (0 * NaN would).
    """
    batch = logits.shape[2]
    answers = labels[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
    log_p = functional.log_softmax(logits, -1)
    label_weights = weights[:, :, :1]
    losses = label_weights[..., 0] * -log_p.gather(-1, answers).mean((2, 3))
    target = log_p.exp().scatter_add_(-1, answers, log_p.new_full((), -1.0).expand(answers.shape))
    gradients = target.mul_(label_weights[..., None])

    log_q = log_p if temperature == 1.0 else functional.log_softmax(logits / temperature, -1)
    q = log_q.exp()
    right = logits.argmax(-1) == labels[:, None]
    passed = weights[:, :, 1:, None] * (right[:, None] | ~correct[:, :, 1:, None])  # [K, M, M, B]
    present = passed != 0
    zero = passed.new_zeros(())
    q_source, log_q_source = q[:, None], log_q[:, None]
    divergence = (q_source * (log_q_source - log_q[:, :, None])).sum(-1)  # KL(p_s || p_t) [K, M, M, B]
    carried = torch.where(present, divergence, zero).mul_(passed)
    losses.add_(carried.sum((2, 3)), alpha=temperature**2 / batch)
    difference = torch.where(present[..., None], q[:, :, None] - q_source, zero)
    gradients.add_(difference.mul_(passed[..., None]).sum(2), alpha=temperature)
    return GraphLosses(losses, gradients.div_(batch))


def edge_losses(logits: Tensor, sources: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Return the mean loss that each edge would carry to node t of a slot at weight 1, up to a constant: [N, M + 1].

    logits: z_t [N, B, classes]; sources: p_s = softmax(z_s / T) of all nodes of the slot's trial [N, M, B, classes];
    labels: [N, B]. Column 0 is the label's cross-entropy, column s is T^2 times the cross-entropy with p_s: KL(p_s ||
    p_t) and it differ by p_s's entropy, which does not depend on z_t. Differentiable by forward mode in `logits`.
    """
    batch = labels.shape[1]
    log_p = functional.log_softmax(logits, -1)
    of_label = -log_p.gather(-1, labels[..., None]).sum((1, 2))
    log_q = log_p if temperature == 1.0 else functional.log_softmax(logits / temperature, -1)
    of_nodes = -(sources * log_q[:, None]).sum((2, 3)) * temperature**2
    return torch.cat([of_label[:, None], of_nodes], 1) / batch
