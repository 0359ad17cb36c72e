"""The losses of K students and their gradients at the logits, in closed form.

Source: "Metaparameter optimization in knowledge distillation", section 2. With student logits g, teacher logits f,
label y, p = softmax(g), p_T = softmax(g / T), q_T = softmax(f / T) and H(q, p) = -sum q log p, per sample

    soft:    lambda_1 H(y, p) + (1 - lambda_1) s H(q_T, p_T),   s = 1 (the paper) or T^2 (Hinton et al., 2015)
    hard:    lambda_1 H(y, p) + (1 - lambda_1) H(argmax f, p)
    deit:    as hard, but the second term is of a second head: logits [g, g'] of 2C values, p' = softmax(g')
             (Touvron et al., "Training data-efficient image transformers", 2021, equation 3); the prediction is the
             mean of both heads' softmaxes
    none:    H(y, p)

and a student's loss is the mean over the batch. The teacher is a constant, so

    dL / dg = lambda_1 (p - y) + (1 - lambda_1) (s / T) (p_T - q_T)

and nothing of the loss goes through autograd: the networks' backward passes start from these gradients. Logits are
in float32 or more. Mutual learning is none of this module's: it is a graph of two nodes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from kdsearch.trainables.kd.settings import Distillation


class KdLosses(NamedTuple):
    """What one batch says: `losses` [K] and `gradients` [K, B, C'] of each at its own logits."""

    losses: Tensor
    gradients: Tensor


class _Soft(NamedTuple):
    """Both networks' answers at temperature T: [K, B, C] each."""

    q: Tensor
    log_q: Tensor
    log_p: Tensor


@torch.no_grad()
def kd_loss(
    logits: Tensor,
    teacher: Tensor | None,
    labels: Tensor,
    values: Tensor,
    *,
    distillation: Distillation,
    squared: bool,
) -> KdLosses:
    """Return every student's training loss and its gradient at the student's logits.

    logits: [K, B, C'], C' = 2C for deit, else C; teacher: [K, B, C], None for `none` alone; labels: [K, B]; values:
    [K, 2], lambda_1 in [0, 1] and T > 0; squared: the factor T^2.
    """
    label = _cross_entropy(_label_head(logits, distillation), labels)
    if distillation is Distillation.NONE:
        return label
    weight = values[:, 0].to(logits.dtype)
    taught = _teacher_term(logits, _given(teacher), values, distillation, squared=squared)
    losses = torch.lerp(taught.losses, label.losses, weight)
    gradients = label.gradients.mul_(weight[:, None, None]), taught.gradients.mul_(1 - weight[:, None, None])
    if distillation is Distillation.DEIT:
        return KdLosses(losses, torch.cat(gradients, -1))
    return KdLosses(losses, gradients[0].add_(gradients[1]))


def by_metaparameters(
    logits: Tensor,
    teacher: Tensor | None,
    labels: Tensor,
    values: Tensor,
    *,
    distillation: Distillation,
    squared: bool,
) -> Tensor:
    """Return the training losses' derivatives by lambda_1 and T: [K, 2]; arguments as those of `kd_loss`.

    Every operation on the logits has a forward derivative, so they may be dual tensors. With u = log q_T and
    v = log p_T, dH(q_T, p_T) / dT = (cov_q(u, v) + sum q v - sum p v) / T: no logit itself stands there, so that a
    large one costs no digits. A metaparameter that the loss does not depend on has derivative 0.
    """
    values = values.to(logits.dtype)
    zero = logits.new_zeros(len(logits))
    if distillation is Distillation.NONE:
        return torch.stack([zero, zero], -1)
    answers = _given(teacher)
    if distillation in (Distillation.HARD, Distillation.DEIT):
        label = _negative_log(functional.log_softmax(_label_head(logits, distillation), -1), labels)
        log_p = functional.log_softmax(_teacher_head(logits, distillation), -1)
        return torch.stack([label - _negative_log(log_p, answers.argmax(-1)), zero], -1)
    temperature = values[:, 1]
    soft = _soft(logits, answers, temperature)
    taught = _mean_cross_entropy(soft)
    by_temperature = _cross_entropy_by_temperature(soft) / temperature
    if squared:
        by_temperature = temperature**2 * by_temperature + 2 * temperature * taught
        taught = temperature**2 * taught
    label = _negative_log(functional.log_softmax(logits, -1), labels)
    return torch.stack([label - taught, (1 - values[:, 0]) * by_temperature], -1)


@torch.no_grad()
def validation_loss(
    logits: Tensor, labels: Tensor, *, temperature: float, distillation: Distillation
) -> KdLosses:
    """Return the cross-entropy of softmax(g / T_val) with the labels, batch mean, and its gradient at the logits.

    logits: [K, B, C']; labels: [K, B]; temperature: T_val > 0. For deit the prediction is the mean of both heads'
    softmaxes at T_val.
    """
    scaled = logits / temperature
    if distillation is not Distillation.DEIT:
        losses, gradients = _cross_entropy(scaled, labels)
        return KdLosses(losses, gradients.div_(temperature))
    heads = torch.stack(scaled.chunk(2, -1))  # [2, K, B, C]
    log_p = functional.log_softmax(heads, -1)
    answers = labels[None, ..., None].expand(2, -1, -1, 1)
    right = log_p.gather(-1, answers)  # [2, K, B, 1]
    losses = math.log(2) - right.logsumexp(0)[..., 0].mean(-1)
    share = right.softmax(0)  # of each head in the mean's value at the label
    gradients = log_p.exp_().scatter_add_(-1, answers, right.new_full((), -1.0).expand_as(answers))
    gradients.mul_(share).div_(labels.shape[-1] * temperature)
    return KdLosses(losses, torch.cat([gradients[0], gradients[1]], -1))


@torch.no_grad()
def wrong_answers(logits: Tensor, labels: Tensor, distillation: Distillation) -> Tensor:
    """Return how many samples each student has wrong: [K], int64. logits: [K, B, C']; labels: [K, B]."""
    if distillation is Distillation.DEIT:
        first, second = logits.chunk(2, -1)
        logits = first.softmax(-1) + second.softmax(-1)
    return (logits.argmax(-1) != labels).sum(-1)


def _given(teacher: Tensor | None) -> Tensor:
    if teacher is None:
        raise ValueError("distillation needs the teacher's logits")
    return teacher


def _label_head(logits: Tensor, distillation: Distillation) -> Tensor:
    return logits.chunk(2, -1)[0] if distillation is Distillation.DEIT else logits


def _teacher_head(logits: Tensor, distillation: Distillation) -> Tensor:
    return logits.chunk(2, -1)[1] if distillation is Distillation.DEIT else logits


def _teacher_term(
    logits: Tensor, teacher: Tensor, values: Tensor, distillation: Distillation, *, squared: bool
) -> KdLosses:
    """Return the unweighted term of the teacher, and its gradient at the head that learns from it."""
    if distillation in (Distillation.HARD, Distillation.DEIT):
        return _cross_entropy(_teacher_head(logits, distillation), teacher.argmax(-1))
    temperature = values[:, 1].to(logits.dtype)
    soft = _soft(logits, teacher, temperature)
    losses = _mean_cross_entropy(soft)
    gradients = (soft.log_p.exp() - soft.q).mul_(
        (temperature if squared else 1 / temperature)[:, None, None] / logits.shape[1]
    )
    return KdLosses(temperature**2 * losses if squared else losses, gradients)


def _cross_entropy(logits: Tensor, labels: Tensor) -> KdLosses:
    log_p = functional.log_softmax(logits, -1)
    answers = labels[..., None]
    losses = -log_p.gather(-1, answers)[..., 0].mean(-1)
    gradients = log_p.exp().scatter_add_(-1, answers, log_p.new_full((), -1.0).expand_as(answers))
    return KdLosses(losses, gradients.div_(labels.shape[-1]))


def _negative_log(log_p: Tensor, labels: Tensor) -> Tensor:
    return -log_p.gather(-1, labels[..., None])[..., 0].mean(-1)


def _soft(logits: Tensor, teacher: Tensor, temperature: Tensor) -> _Soft:
    divisor = temperature[:, None, None]
    log_q = functional.log_softmax(teacher.to(logits.dtype) / divisor, -1)
    return _Soft(log_q.exp(), log_q, functional.log_softmax(logits / divisor, -1))


def _mean_cross_entropy(soft: _Soft) -> Tensor:
    """Return the batch mean of H(q_T, p_T): [K]."""
    return -(soft.q * soft.log_p).sum(-1).mean(-1)


def _cross_entropy_by_temperature(soft: _Soft) -> Tensor:
    """Return T times the derivative of `_mean_cross_entropy` by T: [K]."""
    centred = soft.log_q - (soft.q * soft.log_q).sum(-1, keepdim=True)
    moved = soft.q * (1 + centred) - soft.log_p.exp()
    return (moved * soft.log_p).sum(-1).mean(-1)
