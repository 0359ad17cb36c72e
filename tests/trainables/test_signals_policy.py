"""What RandAugment's number and intensity mean, and which are refused. No torch."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.signals.policy import Policy, Transform


def test_the_magnitudes_at_full_intensity_are_those_of_the_documentation() -> None:
    policy = Policy(3, 1.0, 200)
    assert policy.smoothing_samples == pytest.approx(4)  # 20 ms at 200 Hz
    assert policy.stretch == 1.2
    assert policy.noise == 0.5
    assert policy.wander == 3
    assert policy.masked_samples(2000) == 400
    assert policy.masked_leads == 6


def test_at_intensity_0_every_transform_is_the_identity() -> None:
    policy = Policy(1, 0, 500.0)
    assert (policy.smoothing_samples, policy.stretch, policy.noise, policy.wander) == (0, 1, 0, 0)
    assert policy.masked_samples(5000) == policy.masked_leads == 0


def test_every_magnitude_grows_with_the_intensity() -> None:
    policies = [Policy(1, step / 10, 200) for step in range(11)]
    for name in ("smoothing_samples", "stretch", "noise", "wander"):
        sizes = [getattr(policy, name) for policy in policies]
        assert sizes == sorted(set(sizes)), name
    assert [policy.masked_samples(2000) for policy in policies] == list(range(0, 401, 40))
    assert [policy.masked_leads for policy in policies] == [0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6]


def test_smoothing_is_stated_in_seconds() -> None:
    assert Policy(1, 0.5, 500).smoothing_samples == pytest.approx(2.5 * Policy(1, 0.5, 200).smoothing_samples)


def test_the_six_transforms_are_those_of_the_paper() -> None:
    assert [str(transform) for transform in Transform] == [
        "gaussian smoothing",
        "time resampling with cut",
        "gaussian noise",
        "baseline wander",
        "time mask",
        "channel mask",
    ]


@pytest.mark.parametrize("number", [0, 7, -1, 2.0, True, None, "3"])
def test_numbers_that_are_refused(number: object) -> None:
    with pytest.raises(UsageError, match=r"number of transforms must be 1 to 6, not "):
        Policy(number, 0.5, 200)


@pytest.mark.parametrize("intensity", [-0.01, 1.01, float("nan"), float("inf"), True, None, "0.5"])
def test_intensities_that_are_refused(intensity: object) -> None:
    with pytest.raises(UsageError, match=r"intensity must be in \[0, 1\], not "):
        Policy(3, intensity, 200)


@pytest.mark.parametrize("rate_hz", [0, 1, -200, float("nan"), float("inf"), None])
def test_sampling_rates_that_are_refused(rate_hz: object) -> None:
    with pytest.raises(UsageError, match="sampling rate must be above 1 Hz"):
        Policy(3, 0.5, rate_hz)


@pytest.mark.parametrize("number", range(1, 7))
def test_a_policy_is_a_value(number: int) -> None:
    policy = Policy(number, 0.7, 200)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(policy) == hash(Policy(number, 0.7, 200))


def test_a_policy_can_be_checked_without_torch() -> None:
    code = "import sys, kdsearch.trainables.signals.policy; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
