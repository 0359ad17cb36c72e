"""Rungs: the epochs after which trials are compared, as a list that rises.

A rung lies before the last epoch of a trial: at the last one there is nothing left to stop.
"""

from __future__ import annotations

from math import ceil, floor, log


def equal_rungs(every: int, last: int) -> tuple[int, ...]:
    """Return every, 2 every, ... below `last`; every: 1 or more.

    >>> equal_rungs(20, 100)
    (20, 40, 60, 80)
    """
    return tuple(range(every, last, every))


def geometric_rungs(grace: int, factor: float, last: int) -> tuple[int, ...]:
    """Return grace, grace factor, grace factor^2, ... below `last`, rounded up to whole epochs, each once.

    grace: 1 or more; factor: above 1.

    >>> geometric_rungs(1, 3, 81)
    (1, 3, 9, 27)
    >>> geometric_rungs(1, 1.5, 9)
    (1, 2, 3, 4, 6, 8)
    """
    found: list[int] = []
    power = 0
    while (rung := ceil(grace * factor**power)) < last:
        if not found or rung > found[-1]:
            found.append(rung)
        power = max(
            power + 1, floor(log(rung / grace) / log(factor))
        )  # not step by step where factor is almost 1
    return tuple(found)
