"""What each of the six transforms keeps, and what it changes by how much."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdsearch.trainables.signals.policy import Policy, Transform
from kdsearch.trainables.signals.transforms import (
    TRANSFORMS,
    leads_masked,
    resampled,
    smoothed,
    time_masked,
    with_noise,
    with_wander,
)

RATE_HZ = 200
EVERY = pytest.mark.parametrize("transform", list(Transform), ids=str)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(batch: int = 8, samples: int = 500, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    return torch.randn((batch, 12, samples), generator=draws(seed), dtype=dtype)


def applied(transform: Transform, signals: Tensor, intensity: float, seed: int = 0) -> Tensor:
    return TRANSFORMS[transform](signals, Policy(1, intensity, RATE_HZ), draws(seed))


def size(change: Tensor) -> float:
    return float(change.double().square().mean().sqrt())


# -- all six --------------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(0, 12, 50), (1, 12, 1), (1, 12, 2), (3, 12, 7), (5, 12, 501)], ids=str)
@pytest.mark.parametrize("intensity", [0.05, 1.0])
def test_shape_type_and_finite_values_are_kept(
    transform: Transform, dtype: torch.dtype, shape: tuple[int, ...], intensity: float
) -> None:
    signals = torch.randn(shape, generator=draws(), dtype=dtype)
    before = signals.clone()
    result = applied(transform, signals, intensity)
    assert result.shape == shape
    assert result.dtype is dtype
    assert torch.isfinite(result).all()
    assert torch.equal(signals, before)  # a new tensor, never in place
    assert result.numel() == 0 or result.data_ptr() != signals.data_ptr()


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_intensity_0_is_exactly_the_identity(transform: Transform, dtype: torch.dtype) -> None:
    signals = noise(dtype=dtype) * torch.logspace(-6, 6, 12, dtype=dtype)[:, None]
    signals[2, :, 300:] = 0
    signals[3, 4] = 0
    assert torch.equal(applied(transform, signals, 0.0), signals)


@EVERY
def test_the_same_seed_gives_the_same_result(transform: Transform) -> None:
    signals = noise()
    assert torch.equal(applied(transform, signals, 0.7, seed=3), applied(transform, signals, 0.7, seed=3))
    if transform is not Transform.SMOOTHING:  # draws nothing
        assert not torch.equal(
            applied(transform, signals, 0.7, seed=3), applied(transform, signals, 0.7, seed=4)
        )


@EVERY
def test_records_are_drawn_apart(transform: Transform) -> None:
    alike = noise(batch=1).expand(16, -1, -1)
    result = applied(transform, alike, 0.7)
    different = {tuple(record.flatten().tolist()) for record in result}
    if transform is Transform.SMOOTHING:  # draws nothing
        assert len(different) == 1
    else:
        assert len(different) > (4 if transform is Transform.RESAMPLING else 12)  # shorter ones are alike


@EVERY
def test_what_happens_to_a_record_does_not_hang_on_the_signals_of_others(transform: Transform) -> None:
    signals = noise()
    others = torch.cat([signals[:1], noise(seed=9)[1:] * 100])
    one, two = applied(transform, signals, 0.7), applied(transform, others, 0.7)
    torch.testing.assert_close(one[0], two[0], rtol=0, atol=1e-5)


@EVERY
def test_a_stronger_one_changes_more(transform: Transform) -> None:
    beats = torch.sin(torch.arange(2000) / RATE_HZ * 2 * math.pi * 1.2).pow(9).expand(64, 12, -1)
    changes = [size(applied(transform, beats, step / 4) - beats) for step in range(5)]
    assert changes[0] == 0
    if transform is Transform.RESAMPLING:  # beats that moved by half a period cannot move further away
        assert min(changes[1:]) > 0.1
    else:
        assert changes == sorted(set(changes))


@EVERY
def test_padding_and_missing_leads_stay_zero(transform: Transform) -> None:
    signals = noise(batch=16, samples=2000)
    signals[:, :, 1200:] = 0
    signals[:, 5] = 0
    result = applied(transform, signals, 1.0)
    moved = 240 if transform is Transform.RESAMPLING else 0  # of 1200 samples made longer by a fifth
    assert (result[:, :, 1200 + moved :] == 0).all()
    assert (result[:, 5] == 0).all()
    assert (result != 0).any(dim=2).any(dim=1).all()


@EVERY
def test_zeros_alone_stay_zeros(transform: Transform) -> None:
    assert not applied(transform, torch.zeros(4, 12, 100), 1.0).any()


# -- gaussian smoothing ---------------------------------------------------------------------------------------------


def test_smoothing_is_a_convolution_with_a_gaussian() -> None:
    signals, deviation = noise(2, 300, torch.float64), 3.3
    at = torch.arange(-40, 41, dtype=torch.float64)
    kernel = torch.exp(-((at / deviation) ** 2) / 2)
    kernel /= kernel.sum()
    mirrored = torch.cat([signals[..., :40].flip(2), signals, signals[..., -40:].flip(2)], dim=2)
    expected = (mirrored.unfold(2, 81, 1) * kernel).sum(dim=3)
    torch.testing.assert_close(smoothed(signals, deviation), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("samples", [2, 3, 500, 2000])
def test_smoothing_keeps_the_mean(samples: int) -> None:
    signals = noise(4, samples, torch.float64) + 5
    for deviation in (0.3, 4.0, 20.0):
        torch.testing.assert_close(smoothed(signals, deviation).mean(dim=2), signals.mean(dim=2))


def test_smoothing_keeps_a_constant() -> None:
    signals = torch.arange(1.0, 13.0)[:, None].expand(3, 12, 100)
    torch.testing.assert_close(smoothed(signals, 4.0), signals, rtol=0, atol=1e-5)


def test_smoothing_lowers_each_frequency_by_the_response_of_the_gaussian() -> None:
    samples, deviation = 1000, 4.0
    for cycles in (5, 50, 200):  # cosines that a mirror continues
        wave = torch.cos(math.pi * (torch.arange(samples, dtype=torch.float64) + 0.5) * cycles / samples)
        response = math.exp(-((2 * math.pi * cycles / (2 * samples) * deviation) ** 2) / 2)
        torch.testing.assert_close(smoothed(wave.expand(1, 12, -1), deviation)[0, 0], wave * response)


def test_the_stated_cutoff_of_the_strongest_smoothing() -> None:
    deviation_s = Policy(1, 1.0, RATE_HZ).smoothing_samples / RATE_HZ
    cutoff_hz = math.sqrt(math.log(2)) / (2 * math.pi * deviation_s)  # where half the power is left
    assert cutoff_hz == pytest.approx(6.6, abs=0.05)


# -- time resampling with cut ---------------------------------------------------------------------------------------


def test_resampling_moves_peaks_by_the_ratio() -> None:
    at = torch.arange(2000, dtype=torch.float64)
    peaks = torch.tensor([700 + 40 * lead for lead in range(12)])  # one for each lead
    beats = torch.exp(-(((at - peaks[:, None]) / 12) ** 2) / 2).expand(100, -1, -1)
    moved = resampled(beats, 1.2, draws()).argmax(dim=2)
    distances = (moved[:, -1] - moved[:, 0]).double()  # 440 samples before
    longer = distances > 440
    assert (distances[longer] - 440 * 1.2).abs().max() <= 1
    assert (distances[~longer] - 440 / 1.2).abs().max() <= 1
    assert 30 < int(longer.sum()) < 70  # either way
    assert (moved.diff(dim=1) > 0).all()  # leads stay in their order
    assert (moved[~longer] - peaks / 1.2).abs().max() <= 1  # what is shorter begins where it began


def test_resampling_draws_a_straight_line_at_the_stated_places() -> None:
    line = torch.arange(1, 2001, dtype=torch.float64).expand(200, 12, -1)
    result = resampled(line, 1.2, draws())
    longer = result[:, 0, -1] > 0
    steps = result.diff(dim=2)
    torch.testing.assert_close(steps[longer], torch.full_like(steps[longer], 1 / 1.2))
    short = result[~longer]
    filled = math.floor(1999 / 1.2) + 1
    torch.testing.assert_close(short[:, :, 0], torch.ones_like(short[:, :, 0]))
    torch.testing.assert_close(
        steps[~longer][:, :, : filled - 1], torch.full((len(short), 12, filled - 1), 1.2, dtype=torch.float64)
    )
    assert (short[:, :, filled:] == 0).all()
    starts = result[longer, 0, 0] - 1  # uniform from 0 to what the cut leaves out, 0.2 / 1.2 of the window
    assert starts.min() >= 0
    assert starts.max() <= 1999 * 0.2 / 1.2
    assert starts.mean() == pytest.approx(1999 * 0.1 / 1.2, rel=0.15)


def test_resampling_keeps_the_order_of_leads_and_cuts_all_of_them_alike() -> None:
    one = torch.sin(torch.arange(2000, dtype=torch.float64) / 20) + 2
    gains = torch.arange(1.0, 13.0, dtype=torch.float64)[:, None]
    result = resampled((gains * one).expand(6, -1, -1), 1.15, draws())
    torch.testing.assert_close(result, gains * result[:, :1])


def test_resampling_keeps_a_constant_up_to_the_end_of_the_record() -> None:
    result = resampled(torch.full((20, 12, 1000), 3.0), 1.2, draws())
    assert set(result.unique().tolist()) == {0.0, 3.0}
    filled = (result[:, 0] != 0).sum(dim=1)
    assert set(filled.tolist()) == {1000, math.floor(999 / 1.2) + 1}


def test_resampling_stays_between_the_extremes() -> None:
    signals = noise(20)
    result = resampled(signals, 1.1, draws())
    assert result.max() <= signals.max()
    assert result.min() >= signals.min()


# -- gaussian noise -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deviation", [0.05, 0.5])
def test_noise_has_the_stated_deviation_and_is_white(deviation: float) -> None:
    signals = noise(16, 4000, torch.float64)
    added = with_noise(signals, deviation, draws()) - signals
    count = added.numel()
    assert abs(added.mean()) < 5 * deviation / math.sqrt(count)
    assert added.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * count))
    bound = 5 / math.sqrt(count)
    unit = added / deviation
    assert abs((unit[..., 1:] * unit[..., :-1]).mean()) < bound  # in time
    assert abs((unit[:, 1:] * unit[:, :-1]).mean()) < bound  # over leads
    assert abs((unit[1:] * unit[:-1]).mean()) < bound  # over records
    assert (unit**4).mean() == pytest.approx(3, abs=0.1)  # of a normal distribution


# -- baseline wander ------------------------------------------------------------------------------------------------


def test_wander_is_below_half_a_hertz() -> None:
    seconds, rate_hz = 400, 20
    signals = torch.ones(32, 12, seconds * rate_hz, dtype=torch.float64)
    added = with_wander(signals, 2.0, rate_hz, draws()) - signals
    window = torch.hann_window(seconds * rate_hz, dtype=torch.float64)
    power = torch.fft.rfft(added * window).abs().square()
    frequency_hz = torch.fft.rfftfreq(seconds * rate_hz, 1 / rate_hz)
    margin_hz = 8 / seconds  # of the window's lobes
    inside = (frequency_hz > 0.05 - margin_hz) & (frequency_hz < 0.5 + margin_hz)
    assert (power[..., ~inside].sum(dim=2) / power.sum(dim=2)).max() < 1e-5
    peaks = frequency_hz[power.sum(dim=1).argmax(dim=1)]
    assert peaks.min() < 0.15  # all of the band is used
    assert peaks.max() > 0.4


def test_wander_has_one_course_for_all_leads_and_a_gain_for_each() -> None:
    signals = noise(6, 2000, torch.float64)
    added = with_wander(signals, 2.0, RATE_HZ, draws()) - signals
    for record in added:
        singular = torch.linalg.svdvals(record)
        assert singular[1] < 1e-9 * singular[0]
        sizes = record.abs().amax(dim=1)
        assert len(set(sizes.tolist())) == 12
    up = (added[:, :, 1000] > 0).sum(dim=1)
    assert (up % 12 != 0).all()  # in each record some leads move up while others move down


@pytest.mark.parametrize("amplitude", [0.3, 2.0])
def test_wander_stays_within_the_stated_distance_and_comes_near_it(amplitude: float) -> None:
    signals = torch.ones(256, 12, 2000, dtype=torch.float64)
    largest = (with_wander(signals, amplitude, RATE_HZ, draws()) - 1).abs().max()
    assert 0.8 * amplitude < largest <= amplitude


# -- time mask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 40, 400, 2000])
def test_a_time_mask_takes_one_span_of_the_stated_length_in_all_leads(samples: int) -> None:
    signals = noise(32, 2000)
    result = time_masked(signals, samples, draws())
    masked = result == 0
    assert (masked == masked[:, :1]).all()
    assert (masked[:, 0].sum(dim=1) == samples).all()
    edges = masked[:, 0].int().diff(dim=1).abs().sum(dim=1)
    assert edges.max() <= 2  # in one piece
    assert torch.equal(result[~masked], signals[~masked])


def test_every_place_of_a_time_mask_is_equally_likely() -> None:
    masked = time_masked(torch.ones(8000, 12, 10), 3, draws())[:, 0] == 0
    starts = masked.int().argmax(dim=1).bincount(minlength=8)
    assert len(starts) == 8  # 0 to 7
    assert (starts - 1000).abs().max() < 5 * math.sqrt(1000 * 7 / 8)


# -- channel mask ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_channel_mask_takes_the_stated_number_of_whole_leads(count: int) -> None:
    signals = noise(64)
    result = leads_masked(signals, count, draws())
    gone = ~(result != 0).any(dim=2)
    assert (gone.sum(dim=1) == count).all()
    assert torch.equal(result[~gone], signals[~gone])


def test_every_lead_is_as_likely_to_be_masked() -> None:
    gone = ~(leads_masked(torch.ones(6000, 12, 1), 4, draws()) != 0).any(dim=2)
    assert (gone.sum(dim=0) - 2000).abs().max() < 5 * math.sqrt(6000 * 2 / 9)
    assert len({tuple(row) for row in gone.tolist()}) > 400  # of 495 choices


def test_channel_masks_never_take_all_leads() -> None:
    signals = noise(64, 20)
    result, generator = signals, draws()
    for _ in range(30):
        result = leads_masked(result, 6, generator)
        assert (result != 0).any(dim=2).any(dim=1).all()
    assert ((result != 0).any(dim=2).sum(dim=1) == 1).all()


def test_the_only_lead_of_a_record_is_never_masked() -> None:
    signals = torch.zeros(200, 12, 20)
    for lead in range(12):
        signals[lead::12, lead] = 1
    assert torch.equal(leads_masked(signals, 6, draws()), signals)
