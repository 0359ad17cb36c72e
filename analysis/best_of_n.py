"""Lowest error against number of trials: how soon random search in a space finds a good configuration.

Fig. 4 of the KTG refinement paper plots mean and standard deviation of three runs. Here the runs are random
orders of the draws at hand, and the expectation over all orders is known exactly besides. All orders end at
the same lowest error, so the spread narrows towards the last draw because the draws run out, not because the
search is sure: read the curve up to about a third of n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdsearch.analysis.samples import Floats, StatisticsError, as_errors, as_weights

_NOTHING = 1e-20  # a probability that moves no digit of a mean


@dataclass(frozen=True, eq=False)
class BestCurve:
    """Lowest error in per cent among the first k draws, arrays [n] for k = 1 ... n."""

    draws: Floats  # k
    mean: Floats  # over the random orders
    spread: Floats  # standard deviation over the random orders, n - 1 in the denominator; 0 for one order
    exact_mean: Floats  # over all orders
    exact_spread: Floats
    orders: int


def _draws(errors: ArrayLike, weights: ArrayLike | None) -> Floats:
    """Return one error a draw: a trial that answers w draws stands there w times."""
    values = as_errors(errors)
    w = as_weights(weights, values.size)
    if not values.size:
        raise StatisticsError("there is no lowest error of no trials")
    times = np.rint(w).astype(int)
    if not np.array_equal(times, w):
        raise StatisticsError(
            "an order of draws needs whole numbers of draws as weights, not inverse probabilities"
        )
    return np.repeat(values, times)


def expected_best(errors: ArrayLike, weights: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """Return mean and standard deviation, each [n], of the minimum of k of the n draws without replacement.

    All of them are above the i smallest with probability C(n - i, k) / C(n, k), so with ascending e
    E[f(min)] = f(e_1) + sum_i (f(e_{i + 1}) - f(e_i)) C(n - i, k) / C(n, k). O(n log n) time, O(n) memory.
    """
    ordered = np.sort(_draws(errors, weights))
    n = ordered.size
    offset = ordered - ordered[0]
    rise, rise_of_square = np.diff(offset), np.diff(offset**2)
    left = n - np.arange(1.0, n)  # n - i
    above = np.ones(n - 1)
    mean, square = np.empty(n), np.empty(n)
    for k in range(1, n + 1):
        above *= np.maximum(left[: above.size] - k + 1, 0) / (n - k + 1)
        above = above[above > _NOTHING]  # falls with i, so that a beginning remains
        mean[k - 1] = above @ rise[: above.size]
        square[k - 1] = above @ rise_of_square[: above.size]
    return ordered[0] + mean, np.sqrt(np.maximum(square - mean**2, 0))


def best_of_n(
    errors: ArrayLike, weights: ArrayLike | None = None, *, rng: np.random.Generator, orders: int = 200
) -> BestCurve:
    """Return the lowest error of the first k draws over `orders` random orders, and over all orders exactly.

    Raises StatisticsError for no trials, weights that are no whole numbers, or no orders.
    """
    if orders < 1:
        raise StatisticsError("the curve needs at least one order")
    draws = _draws(errors, weights)
    shuffled = rng.permuted(np.tile(draws, (orders, 1)), axis=1)
    best = np.minimum.accumulate(shuffled, axis=1)
    exact_mean, exact_spread = expected_best(draws)
    return BestCurve(
        draws=np.arange(1.0, draws.size + 1),
        mean=best.mean(axis=0),
        spread=best.std(axis=0, ddof=1) if orders > 1 else np.zeros(draws.size),
        exact_mean=exact_mean,
        exact_spread=exact_spread,
        orders=orders,
    )
