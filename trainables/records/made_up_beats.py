"""Made-up heartbeats, for the samples of ECG records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def beats(samples: int, rate_hz: int, beats_per_minute: float, t_wave: float) -> NDArray[np.float64]:
    """Return P, QRS and T waves as bumps, in millivolts [samples]."""
    phase = (np.arange(samples) / rate_hz * beats_per_minute / 60) % 1.0
    waves = (
        (0.20, 0.025, 0.15),
        (0.38, 0.010, -0.15),
        (0.40, 0.012, 1.0),
        (0.42, 0.010, -0.25),
        (0.65, 0.04, t_wave),
    )
    return sum(
        (height * np.exp(-0.5 * ((phase - at) / width) ** 2) for at, width, height in waves),
        np.zeros(samples),
    )
