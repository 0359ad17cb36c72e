"""RandAugment's two numbers and what they mean for each transform of an ECG. No torch here.

Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", CVPR Workshops 2020: N
transforms one after another, each drawn uniformly and *with replacement*, all of one constant magnitude M. BBM
(Section 2.1.3) names the six transforms and searches N, the number, in 1..5 and M, the intensity, in [0, 1]
(Appendix A.1); it does not say how strong a transform is at intensity 1. The largest magnitudes below are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.records.leads import LEADS

MOST_TRANSFORMS: Final = 6
SMOOTHING_S: Final = 0.02  # standard deviation of the kernel in time: -3 dB at 6.6 Hz
STRETCH: Final = 0.2  # as a share of the time axis
NOISE: Final = 0.5  # standard deviations of a lead
WANDER: Final = 3.0  # standard deviations of a lead
WANDER_HZ: Final = (0.05, 0.5)  # below the slowest heart rates; breathing is at 0.2 to 0.3 Hz
TIME_SHARE: Final = 0.2  # of the window
LEADS_MASKED: Final = len(LEADS) // 2


class Transform(StrEnum):
    """The six transforms, in the order in which BBM names them."""

    SMOOTHING = "gaussian smoothing"
    RESAMPLING = "time resampling with cut"
    NOISE = "gaussian noise"
    WANDER = "baseline wander"
    TIME_MASK = "time mask"
    CHANNEL_MASK = "channel mask"


@dataclass(frozen=True)
class Policy:
    """How many transforms each record gets (`number`, 1 to 6) and how strong they are (`intensity`, in [0, 1]).

    A transform may come twice, so that every number is possible with any set of transforms; 6 is one more than the
    paper searches. `rate_hz` is the sampling rate of the signals. At intensity 0 every transform is the identity.
    Signals are taken to have leads of standard deviation 1 (`EcgSettings.scale_leads`). Raises `UsageError`.
    """

    number: int
    intensity: float
    rate_hz: float

    def __post_init__(self) -> None:
        number, intensity, rate_hz = self.number, self.intensity, self.rate_hz
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_TRANSFORMS:
            raise UsageError(
                f"RandAugment: the number of transforms must be 1 to {MOST_TRANSFORMS}, not {number!r}",
                "Leave augmentation out for none.",
            )
        if not _is_number(intensity) or not 0 <= intensity <= 1:
            raise UsageError(f"RandAugment: the intensity must be in [0, 1], not {intensity!r}")
        if not _is_number(rate_hz) or not 2 * WANDER_HZ[1] < rate_hz < math.inf:
            raise UsageError(
                f"RandAugment: the sampling rate must be above {2 * WANDER_HZ[1]:g} Hz, not {rate_hz!r}"
            )

    @property
    def smoothing_samples(self) -> float:
        """Standard deviation of the smoothing kernel, in samples."""
        return self.intensity * SMOOTHING_S * self.rate_hz

    @property
    def stretch(self) -> float:
        """Ratio, 1 or more, by which time becomes longer or shorter."""
        return 1 + self.intensity * STRETCH

    @property
    def noise(self) -> float:
        """Standard deviation of the noise."""
        return self.intensity * NOISE

    @property
    def wander(self) -> float:
        """Largest distance by which the baseline moves."""
        return self.intensity * WANDER

    @property
    def masked_leads(self) -> int:
        """Number of leads that a channel mask takes: 0 to 6."""
        return math.floor(self.intensity * LEADS_MASKED + 0.5)

    def masked_samples(self, window: int) -> int:
        """Return the length of a time mask in a window of that many samples."""
        return math.floor(self.intensity * TIME_SHARE * window + 0.5)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
