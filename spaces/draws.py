"""Random numbers that are the same on every machine.

Integers come from whole random bytes and floats from integers and decimal arithmetic, so that no C library's
last digit and no width of a machine word shows in a configuration.
"""

from __future__ import annotations

from decimal import Context, Decimal

import numpy as np

SPARE_BYTES = 8  # more random bytes than needed: what the remainder favours is below 2**-64 in probability
GRID = 2**53  # numbers in [0, 1) that a float can tell apart evenly
DECIMAL = Context(prec=40)


def integer_below(rng: np.random.Generator, n: int) -> int:
    """Return a uniform integer in [0, n) for any n >= 1, however large; off uniform by less than 2**-64."""
    width = (n.bit_length() + 7) // 8 + SPARE_BYTES
    return int.from_bytes(rng.bytes(width), "little") % n


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a uniform float in the closed interval [low, high]."""
    share = DECIMAL.divide(Decimal(integer_below(rng, GRID + 1)), Decimal(GRID))
    width = DECIMAL.subtract(Decimal(high), Decimal(low))
    return _between(low, high, float(DECIMAL.add(Decimal(low), DECIMAL.multiply(width, share))))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a float in the closed interval [low, high], 0 < low, whose logarithm is uniform."""
    share = DECIMAL.divide(Decimal(integer_below(rng, GRID + 1)), Decimal(GRID))
    start, end = DECIMAL.ln(Decimal(low)), DECIMAL.ln(Decimal(high))
    exponent = DECIMAL.add(start, DECIMAL.multiply(DECIMAL.subtract(end, start), share))
    return _between(low, high, float(DECIMAL.exp(exponent)))


def _between(low: float, high: float, value: float) -> float:
    """Keep the rounding of the last digit inside the interval."""
    return min(max(value, float(low)), float(high))
