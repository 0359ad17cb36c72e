"""The twelve leads, what follows from which, and how a signal is cut, resampled and scaled.

Einthoven's law III = II - I and Goldberger's aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2: any two of the three
limb leads give the other four.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEADS: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LEAD_AT: Final = {name.upper(): at for at, name in enumerate(LEADS)}
ONE, TWO, THREE, AVR, AVL, AVF = range(6)  # where the limb leads stand
LARGEST_TERM: Final = 2_000  # of the ratio of two sampling rates: 257 Hz to 200 Hz is 200/257

Signal = NDArray[np.float64]  # [leads, samples]
Flags = NDArray[np.bool_]


def without_gaps(signal: Signal) -> tuple[Signal, int]:
    """Return the signal with NaN samples interpolated in time, and their number.

    Before the first and after the last number it is held. A lead of NaN alone stays as it is, uncounted.
    """
    gaps = np.isnan(signal)
    leads = np.flatnonzero(gaps.any(axis=1) & ~gaps.all(axis=1))
    for lead in leads:
        known = np.flatnonzero(~gaps[lead])
        signal[lead] = np.interp(np.arange(signal.shape[1]), known, signal[lead, known])
    return signal, int(gaps[leads].sum())


def completed(signal: Signal, known: Flags) -> tuple[Signal, Flags]:
    """Return twelve leads [12, samples], with limb leads that follow from two others put in, and which are known.

    What is not known and does not follow is 0.
    """
    signal = np.where(known[:, None], signal, 0.0)
    known = known.copy()
    for lead, follows in _limb_leads(signal, known):
        signal[lead], known[lead] = follows, True
    return signal, known


def _limb_leads(signal: Signal, known: Flags) -> Iterator[tuple[int, Signal]]:
    if known[[ONE, TWO, THREE]].sum() < len((ONE, TWO)):
        return
    if not known[ONE]:
        yield ONE, signal[TWO] - signal[THREE]
    if not known[TWO]:
        yield TWO, signal[ONE] + signal[THREE]
    one, two = signal[ONE], signal[TWO]  # put in by now
    formulas = {THREE: two - one, AVR: -(one + two) / 2, AVL: one - two / 2, AVF: two - one / 2}
    for lead, follows in formulas.items():
        if not known[lead]:
            yield lead, follows


def resampled(signal: Signal, rate_hz: float, wanted_hz: float) -> Signal:
    """Return the signal at another sampling rate, by a polyphase filter, with the ends continued by a line."""
    from scipy.signal import resample_poly  # noqa: PLC0415 nearly a second of import

    ratio = Fraction(wanted_hz / rate_hz).limit_denominator(LARGEST_TERM)
    if ratio == 1:
        return signal
    again: Signal = resample_poly(signal, ratio.numerator, ratio.denominator, axis=1, padtype="line")
    return again


def middle(length: int, wanted: int) -> slice:
    """Return the middle `wanted` of `length` samples, or all of them where there are fewer."""
    start = max(0, (length - wanted) // 2)
    return slice(start, min(length, start + wanted))


def scaled(signal: Signal) -> Signal:
    """Return each lead with mean 0 and standard deviation 1; a constant lead as 0."""
    centred: Signal = signal - signal.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    result: Signal = np.zeros_like(centred)
    np.divide(centred, deviation, out=result, where=deviation > 0)
    return result
