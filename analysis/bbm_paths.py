"""Block-by-block matching: where a gradient search moved a metaparameter, such as lambda, while the network trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdsearch.analysis.bbm_wording import listed
from kdsearch.analysis.method_curves import Trajectory
from kdsearch.analysis.wording import plural

_MOST = 0.5  # of a trial's epochs
_AT_BOUND = 1e-6  # of a bound: values nearer to it are at it
_NAMED = 10  # trials that a note names


def moves(trajectories: Sequence[Trajectory]) -> dict[tuple[int, str], tuple[float, float]]:
    """Start and last known value of each metaparameter, by trial and name, of those that reported any."""
    return {
        (number, one.metaparameter): (float(values[0]), float(values[1:][np.isfinite(values[1:])][-1]))
        for one in trajectories
        for number, values in zip(one.numbers, one.values, strict=True)
        if np.isfinite(values[1:]).any()
    }


def stuck(trajectories: Sequence[Trajectory]) -> tuple[str, ...]:
    """A note for each metaparameter that ended at least half of some trial's epochs at a bound of its interval."""
    found: dict[str, list[int]] = {}
    for one in trajectories:
        for number, values in zip(one.numbers, one.values, strict=True):
            if _share_at_bound(values[1:], one.bounds) >= _MOST:
                found.setdefault(one.metaparameter, []).append(number)
    return tuple(_note(name, sorted(numbers)) for name, numbers in found.items())


def _share_at_bound(values: np.ndarray, bounds: tuple[float, float]) -> float:
    """The share of the epochs with a value, [epochs], that ended at either bound; 0 without any."""
    known = values[np.isfinite(values)]
    at = [np.isclose(known, bound, rtol=_AT_BOUND, atol=0.0 if bound else _AT_BOUND) for bound in bounds]
    return float((at[0] | at[1]).mean()) if known.size else 0.0


def _note(name: str, numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        which = f"Trial {numbers[0]}"
    elif len(numbers) <= _NAMED:
        which = f"Trials {listed([str(number) for number in numbers])}"
    else:
        which = plural(len(numbers), "trial")
    return f"{which}: {name} stood at an end of its interval in most epochs: the rate is too large."
