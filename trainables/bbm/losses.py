"""The loss of classification, and DeiT's loss with hard labels.

Sources: Lee, Jo and Kwon (2022), section 3.1 (L_CLS) and Appendix A (DeiT's ratio); Touvron et al., "Training
data-efficient image transformers" (2021), equation 3. Both data sets ask questions with yes or no for an answer, 26 of
an ECG and one of every hour, so that every cross-entropy is a binary one:

    BCE(s, y) = -y log sigmoid(s) - (1 - y) log(1 - sigmoid(s))

Logits are taken to float32 if they have less, and padded hours count for nothing, whatever stands in them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def classification_loss(logits: Tensor, labels: Tensor, real: Tensor | None = None) -> Tensor:
    """Return L_CLS, the mean binary cross-entropy: a scalar of float32, or float64 for such logits.

    logits: [B, C] of records, the mean is over records and classes; [B, T, C] of hours with `real`, the mean is over
    all real hours of the batch, so that a long stay counts more than a short one. labels: of the logits' shape, in
    [0, 1], of any type. real: [B, T], bool, False where a row is padding. NaN if no hour is real.

    Raises:
        ValueError: the shapes do not fit together.

    """
    _check_shapes(logits, labels, real)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = labels.to(logits.dtype)
    if real is None:
        return functional.binary_cross_entropy_with_logits(logits, labels)
    padded = ~real[..., None]
    # Filled before the loss and after: a padded logit that is not finite must not reach a gradient as 0 * NaN.
    losses = functional.binary_cross_entropy_with_logits(
        logits.masked_fill(padded, 0), labels, reduction="none"
    )
    return losses.masked_fill(padded, 0).sum() / (real.sum() * logits.shape[-1])


def deit_terms(
    class_logits: Tensor,
    distillation_logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    real: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return BCE(class token, label) and BCE(distillation token, teacher's answer), each a scalar.

    The teacher's answer is hard: 1 where its logit is above 0, that is its probability above 0.5. All logits have the
    labels' shape; means, masks and types as in `classification_loss`.

    Raises:
        ValueError: the shapes do not fit together.

    """
    answers = teacher_logits.detach() > 0
    return (
        classification_loss(class_logits, labels, real),
        classification_loss(distillation_logits, answers, real),
    )


def _check_shapes(logits: Tensor, labels: Tensor, real: Tensor | None) -> None:
    if logits.shape != labels.shape:
        raise ValueError(f"logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)}")
    if real is not None and (logits.dim() != 3 or real.shape != logits.shape[:2]):  # noqa: PLR2004 [B, T, C]
        raise ValueError(f"logits of shape {tuple(logits.shape)} and a mask of shape {tuple(real.shape)}")
