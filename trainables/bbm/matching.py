"""Block-by-block matching: the maps between two networks' features, and Equations 1 to 4.

Source: Lee, Jo and Kwon, "On the inductive bias transfer with knowledge distillation for real-world data" (2022),
section 3.1. Teacher g and student f are cut into N blocks each; z^f_n and z^g_n [B, T, D] are their features after
block n on their own way from the input, and z_0 = x for both. Block 1 includes a network's stem, and what comes after
the last block (pooling, head) is not matched. T and D may differ between the networks; h takes features of one to the
shape of the other's at the same depth:

    h_n^{f->g}(z) = I(z) W_n^{f->g}                                                  (1)
    L^1_n = || f_n(z^f_{n-1}) - h_n^{g->f}( g_n( h_{n-1}^{f->g}(z^f_{n-1}) ) ) ||^2  (2)
    L^2_n = || g_n(z^g_{n-1}) - h_n^{f->g}( f_n( h_{n-1}^{g->f}(z^g_{n-1}) ) ) ||^2  (3)
    L^3_n = || h_n^{f->g}(z^f_n) - z^g_n ||^2                                        (4)

The squared error is summed over time (real hours alone where there is padding) and depth, and its mean is taken over
the batch. What the paper leaves open is read like this:

* h_0 is the identity, because the input has one shape for both networks. So L^2_1 and L^3_1 are the same term, which
  counts twice in L_BBM.
* The teacher's own features z^g_n are constants, in every place. Gradients reach the student and the maps, through
  the teacher's blocks where Equation 2 has them, but never its parameters, and its running statistics stay.
* Both sides of Equation 2 depend on the student: f_n, and all before it through z^f_{n-1}, learn from either side.
* Tokens that are not on the time axis (a class token) have no counterpart in the other network. Where a block is run
  on features of the other network, it is given its own network's tokens of that depth, from the network's own way, as
  constants. So L^2_n for n > 1 trains f_n, W_{n-1}^{g->f} and W_n^{f->g} and nothing else.

Each network's own way is walked once: f_n(z^f_{n-1}) of Equation 2 is the z^f_n of Equation 4, and g_n(z^g_{n-1}) of
Equation 3 its z^g_n. Beside it every block but the first is run once on the other network's features. The student's
two runs of a block draw their own dropout masks; the teacher has none, being in eval mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.series.blocks import Blocks
from kdsearch.trainables.series.networks import Features


@dataclass(frozen=True, kw_only=True)
class MatchingTerms:
    """The terms of L_BBM by block, each the mean over the batch: [N] of float32, or float64 for such features."""

    first: Tensor  # L^1_n, Equation 2
    second: Tensor  # L^2_n, Equation 3
    third: Tensor  # L^3_n, Equation 4

    @property
    def total(self) -> Tensor:
        """L_BBM, the sum of all: a scalar."""
        return (self.first + self.second + self.third).sum()


class Maps(nn.Module):
    """W_n^{f->g} [D^f_n, D^g_n] and W_n^{g->f} [D^g_n, D^f_n] of Equation 1, for n = 1..N (indices from 0 here).

    They are trained with the student. Initial values are normal with variance 1 / (rows of W), so that features keep
    their size, and come from the generator alone.
    """

    def __init__(self, student: Blocks, teacher: Blocks, *, generator: torch.Generator) -> None:
        """Make the maps for two networks' depths after each of their N blocks.

        Raises:
            UsageError: the networks have different numbers of blocks.

        """
        super().__init__()
        _check_count(student, teacher)
        pairs = list(zip(student.depths, teacher.depths, strict=True))
        self.to_teacher = nn.ParameterList([_initial(f, g, generator) for f, g in pairs])
        self.to_student = nn.ParameterList([_initial(g, f, generator) for f, g in pairs])


def resize(features: Tensor, steps: int) -> Tensor:
    """Return I(z): features [B, T, D] at so many steps, by linear interpolation along time: [B, steps, D].

    A step's value stands for the middle of its stretch of time (`align_corners=False`), so that networks that cut the
    same record into 100 and into 125 steps are compared at the same times. The same steps are left as they are.
    """
    if features.shape[1] == steps:
        return features
    return functional.interpolate(features.transpose(1, 2), size=steps, mode="linear").transpose(1, 2)


def transform(features: Tensor, weight: Tensor, steps: int) -> Tensor:
    """Return h(z) = I(z) W, Equation 1: [B, steps, D'] from features [B, T, D] and weight [D, D'].

    I works along time and W along depth, so that either may come first; the product is made where time is shorter.
    """
    if features.shape[1] < steps:
        return resize(features @ weight, steps)
    return resize(features, steps) @ weight


def check_matching(student: Blocks, teacher: Blocks, *, steps: int, masked: bool) -> None:
    """Refuse two networks that cannot be matched on records of so many steps; masked: records have padding.

    Raises:
        UsageError: different numbers of blocks, or features of padded records that do not keep one row an hour.

    """
    _check_count(student, teacher)
    if not masked:
        return
    for name, blocks in (("student", student), ("teacher", teacher)):
        lengths = tuple(blocks.lengths(steps))
        if any(length != steps for length in lengths):
            raise UsageError(
                f"the {name}'s blocks turn {steps} hours into {lengths} steps",
                "Patients of different length are matched hour by hour: take networks that keep every hour.",
            )


def block_features(blocks: Blocks, values: Tensor, real: Tensor | None = None) -> list[Features]:
    """Return a network's features after each of its blocks, on its own way from the input.

    values: [B, T, F]; real: [B, T], bool, or None. The network's logits follow from the last ones, so that training
    runs the student once: `network.finish(features[-1], real)`.
    """
    features = [blocks.first(values, real)]
    for k in range(1, len(blocks.depths)):
        features.append(blocks.run(k, features[-1], real))
    return features


def matching_loss(
    student: Blocks,
    teacher: Blocks,
    maps: Maps,
    values: Tensor,
    real: Tensor | None = None,
    *,
    student_features: Sequence[Features] | None = None,
    teacher_features: Sequence[Features] | None = None,
) -> MatchingTerms:
    """Return the terms of L_BBM, Equations 2 to 4, on one batch.

    values: [B, T, F], the input of both networks. real: [B, T], bool, False where an hour is padding.
    student_features, teacher_features: what `block_features` gives for this batch, if it is there already.

    Raises:
        ValueError: the teacher is in training mode, its parameters take gradients, or features do not fit the blocks
            or the mask.

    """
    _check_frozen(teacher)
    own = block_features(student, values, real) if student_features is None else list(student_features)
    if teacher_features is None:
        with torch.no_grad():
            taught = block_features(teacher, values, real)
    else:
        taught = [_constant(features) for features in teacher_features]
    if not len(own) == len(taught) == len(maps.to_teacher):
        raise ValueError(f"{len(own)} and {len(taught)} blocks' features and {len(maps.to_teacher)} maps")
    # h_n^{f->g}(z^f_n), of Equation 4 and, one block later, 2; and h_n^{g->f}(z^g_n), of Equation 3 and the first 2.
    to_teacher = [_across(f, g, w) for f, g, w in zip(own, taught, maps.to_teacher, strict=True)]
    to_student = [_across(g, f, w) for f, g, w in zip(own, taught, maps.to_student, strict=True)]
    first, second, third = [], [], []
    for n, (z_f, z_g) in enumerate(zip(own, taught, strict=True)):
        if n == 0:  # h_0 is the identity: both first blocks have seen x on their own way
            g_of_f, f_of_g = to_student[0], to_teacher[0]
        else:
            with _differentiable(teacher):
                moved = replace(taught[n - 1], time=to_teacher[n - 1])
                g_of_f = _across(teacher.run(n, moved, real), z_f, maps.to_student[n])
            moved = replace(_constant(own[n - 1]), time=to_student[n - 1])
            f_of_g = _across(student.run(n, moved, real), z_g, maps.to_teacher[n])
        first.append(_squared_error(z_f.time, g_of_f, real))  # (2)
        second.append(_squared_error(z_g.time, f_of_g, real))  # (3)
        third.append(_squared_error(to_teacher[n], z_g.time, real))  # (4)
    return MatchingTerms(first=torch.stack(first), second=torch.stack(second), third=torch.stack(third))


def _across(source: Features, target: Features, weight: Tensor) -> Tensor:
    """Return h of one network's features over time, at the other's number of steps."""
    return transform(source.time, weight, target.time.shape[1])


def _squared_error(features: Tensor, other: Tensor, real: Tensor | None) -> Tensor:
    """Return the squared error, summed over (real) time and depth, mean over the batch: a scalar."""
    difference = features.to(torch.promote_types(features.dtype, torch.float32)) - other
    if real is not None:
        if real.shape != difference.shape[:2]:
            raise ValueError(f"features of shape {tuple(features.shape)} and a mask of {tuple(real.shape)}")
        difference = difference.masked_fill(~real[..., None], 0)
    return difference.square().sum() / len(difference)


def _constant(features: Features) -> Features:
    """Return the features as constants, those beside time too."""
    beside = None if features.beside is None else features.beside.detach()
    return replace(features, time=features.time.detach(), beside=beside)


def _initial(inputs: int, outputs: int, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.randn(inputs, outputs, generator=generator) / inputs**0.5)


def _check_count(student: Blocks, teacher: Blocks) -> None:
    if len(student.depths) != len(teacher.depths):
        raise UsageError(
            f"the student is cut into {len(student.depths)} blocks and the teacher into {len(teacher.depths)}",
            "Block-by-block matching needs the same number of both.",
        )


def _check_frozen(teacher: Blocks) -> None:
    """Refuse a teacher that the matching would change."""
    if any(module.training for module in teacher.network.modules()):
        raise ValueError("the teacher is in training mode: call eval() before matching")
    if any(parameter.requires_grad for parameter in teacher.network.parameters()):
        raise ValueError(
            "the teacher's parameters take gradients: call requires_grad_(False) before matching"
        )


@contextlib.contextmanager
def _differentiable(teacher: Blocks) -> Iterator[None]:
    """Let gradients pass through recurrent layers on the GPU.

    cuDNN has no backward pass for recurrent layers in eval mode. Training mode differs from it in dropout between the
    layers of one module alone; a module without that computes the same in both.
    """
    modules = [m for m in teacher.network.modules() if isinstance(m, nn.RNNBase) and m.dropout == 0]
    for module in modules:
        module.training = True
    try:
        yield
    finally:
        for module in modules:
            module.training = False
