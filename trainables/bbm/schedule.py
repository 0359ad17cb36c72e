"""The learning rate by iteration: linear warm-up, then half a cosine. No torch here.

Source: Lee, Jo and Kwon (2022), section 2.1: "the cosine warmup scheduler that peaks at ten epochs". With W iterations
of warm-up and N in all, iteration i (from 0) has

    base (i + 1) / W                                 for i < W: from base / W to base, in the last of the warm-up
    base (1 + cos(pi (i - W) / (N - W))) / 2         for W <= i: from base towards 0, which would be reached at i = N

so that no iteration is spent on a rate of 0. The decays of `training_settings.Schedule` are constant inside an epoch,
and by epochs a short warm-up would be a few leaps; hence this one beside them.
"""

from __future__ import annotations

import math

from kdsearch.spaces.errors import UsageError


def check_warm_up(warm_up: int, epochs: int) -> None:
    """Refuse a warm-up (in epochs) that leaves nothing of the epochs to the cosine, or is negative.

    Raises:
        UsageError: warm_up is outside [0, epochs).

    """
    if warm_up < 0:
        raise UsageError(f"warm_up is {warm_up} epochs", "It must be 0 (no warm-up) or more.")
    if warm_up >= epochs:
        raise UsageError(
            f"warm_up is {warm_up} epochs of {epochs}: the learning rate would never come down",
            f"Set warm_up to at most {epochs - 1} or train for at least {warm_up + 1} epochs.",
        )


def rate(base: float, iteration: int, *, per_epoch: int, epochs: int, warm_up: int) -> float:
    """Return the learning rate of an iteration, in (0, base]; 0 at the end, iteration per_epoch * epochs.

    base: the highest rate; iteration: counted from 0 over all epochs; per_epoch: iterations of an epoch, 1 or more;
    warm_up: epochs, in [0, epochs).

    Raises:
        UsageError: the warm-up does not fit, or the iteration is not in [0, per_epoch * epochs].

    """
    check_warm_up(warm_up, epochs)
    last, rising = per_epoch * epochs, per_epoch * warm_up
    if not 0 <= iteration <= last:
        raise UsageError(
            f"iteration {iteration} of {last} ({epochs} epochs of {per_epoch})", "They count from 0."
        )
    if iteration < rising:
        return base * (iteration + 1) / rising
    return 0.5 * base * (1.0 + math.cos(math.pi * (iteration - rising) / (last - rising)))
