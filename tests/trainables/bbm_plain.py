"""Block-by-block matching, DeiT's loss and linear CKA the plain way: one record, one step, one value after the other.

The tests hold the real ones against these in float64. Nothing is shared but the blocks themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# One block: (what is on the time axis [1, T, D], what is beside it) -> the same after the block.
Block = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]


def resized(features: Tensor, steps: int) -> Tensor:
    """Linear interpolation of [T, D] at the middles of `steps` equal stretches; ends stay what they are."""
    length = len(features)
    rows = []
    for step in range(steps):
        place = (step + 0.5) * length / steps - 0.5
        place = min(max(place, 0.0), length - 1.0)
        low = math.floor(place)
        high = min(low + 1, length - 1)
        share = place - low
        rows.append((1 - share) * features[low] + share * features[high])
    return torch.stack(rows)


def mapped(features: Tensor, weight: Tensor, steps: int) -> Tensor:
    """Equation 1 on [1, T, D], value by value."""
    rows = resized(features[0], steps)
    columns = [
        sum(rows[:, d] * weight[d, column] for d in range(weight.shape[0]))
        for column in range(weight.shape[1])
    ]
    return torch.stack(columns, -1)[None]


def squared(features: Tensor, other: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for step in range(features.shape[1]):
        for depth in range(features.shape[2]):
            total = total + (features[0, step, depth] - other[0, step, depth]) ** 2
    return total


def constant(state: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    return state[0].detach(), None if state[1] is None else state[1].detach()


def matching(
    student: Sequence[Block],
    teacher: Sequence[Block],
    to_teacher: Sequence[Tensor],
    to_student: Sequence[Tensor],
    records: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Equations 2, 3 and 4 by block, [N] each, mean over the records; a record is [T, F] without padding."""
    count = len(student)
    terms = [[torch.zeros((), dtype=torch.float64) for _ in range(count)] for _ in range(3)]
    for record in records:
        x = record[None]
        f_way: list[tuple[Tensor, Tensor | None]] = [(x, None)]
        g_way: list[tuple[Tensor, Tensor | None]] = [(x, None)]
        for n in range(count):
            f_way.append(student[n](*f_way[n]))
            g_way.append(constant(teacher[n](*g_way[n])))
        for n in range(1, count + 1):
            z_f, z_g = f_way[n - 1][0], g_way[n - 1][0]
            steps_f, steps_g = f_way[n][0].shape[1], g_way[n][0].shape[1]
            into_g, into_f = z_f, z_g
            if n > 1:
                into_g = mapped(z_f, to_teacher[n - 2], z_g.shape[1])
                into_f = mapped(z_g, to_student[n - 2], z_f.shape[1])
            f_of_own, _ = student[n - 1](*f_way[n - 1])
            g_of_own, _ = constant(teacher[n - 1](*g_way[n - 1]))
            g_of_f, _ = teacher[n - 1](into_g, constant(g_way[n - 1])[1])
            f_of_g, _ = student[n - 1](into_f, constant(f_way[n - 1])[1])
            if n == 1:
                g_of_f = g_of_f.detach()  # x and the teacher are constants: nothing to differentiate
            terms[0][n - 1] = terms[0][n - 1] + squared(f_of_own, mapped(g_of_f, to_student[n - 1], steps_f))
            terms[1][n - 1] = terms[1][n - 1] + squared(g_of_own, mapped(f_of_g, to_teacher[n - 1], steps_g))
            third = squared(mapped(f_way[n][0], to_teacher[n - 1], steps_g), g_way[n][0])
            terms[2][n - 1] = terms[2][n - 1] + third
    first, second, third = (torch.stack(own) / len(records) for own in terms)
    return first, second, third


def binary_cross_entropy(logit: float, label: float) -> float:
    """-y log p - (1 - y) log(1 - p) of one answer."""
    p = 1 / (1 + math.exp(-logit))
    return -label * math.log(p) - (1 - label) * math.log(1 - p)


def mean_cross_entropy(logits: Tensor, labels: Tensor, real: Tensor | None = None) -> float:
    """Mean over records and classes ([B, C]), or over real hours ([B, T, C])."""
    found = []
    for b in range(len(logits)):
        if real is None:
            rows = [(logits[b], labels[b])]
        else:
            rows = [(logits[b, t], labels[b, t]) for t in range(logits.shape[1]) if real[b, t]]
        for row, answers in rows:
            for logit, label in zip(row.tolist(), answers.tolist(), strict=True):
                found.append(binary_cross_entropy(logit, float(label)))
    return sum(found) / len(found)


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Of all samples at once, [n, D1] and [n, D2], by Gram matrices: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))."""
    n = len(first)
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    grams = [centring @ (x.double() @ x.double().T) @ centring for x in (first, second)]
    product = float(torch.trace(grams[0] @ grams[1]))
    return product / math.sqrt(
        float(torch.trace(grams[0] @ grams[0])) * float(torch.trace(grams[1] @ grams[1]))
    )
