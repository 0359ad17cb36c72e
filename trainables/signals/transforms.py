"""The six transforms of twelve-lead signals, each for a whole batch at once.

Signals are float tensors [B, 12, T]; results are new tensors of the same shape, type and device. What is drawn comes
from a generator on the CPU, so that it is the same on every device. Nothing here checks its input: `RandAugment` does.

What was not measured stays so: where all leads are 0 (the padding of a short record, a masked span) and where a lead is
0 throughout (missing, masked), nothing is added or smeared in. Resampling moves the padding along with the record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kdsearch.trainables.signals.policy import WANDER_HZ, Policy, Transform

WAVES = 3  # sinusoids of a wandering baseline


def smoothed(signals: Tensor, deviation: float) -> Tensor:
    """Convolve with a Gaussian of the given standard deviation in samples, mirrored at both ends of the window.

    Done in the frequency domain, where the kernel is exp(-(2 pi f s)^2 / 2) and neither cut nor sampled. A mirror keeps
    the mean of each lead (but for records with padding, whose end does not run over into it). 0: the identity.
    """
    if deviation == 0 or not len(signals):  # two Fourier transforms are the identity only to rounding
        return signals.clone()
    samples = signals.shape[2]
    spectrum = torch.fft.rfft(torch.cat([signals, signals.flip(2)], dim=2))
    frequency = torch.fft.rfftfreq(2 * samples, device=signals.device, dtype=signals.dtype)
    spectrum *= torch.exp(-((2 * math.pi * deviation * frequency) ** 2) / 2)
    return _as_measured(torch.fft.irfft(spectrum, 2 * samples)[:, :, :samples], signals)


def resampled(signals: Tensor, stretch: float, generator: torch.Generator) -> Tensor:
    """Make each record longer or shorter in time by the ratio `stretch` >= 1 and cut it to the window again.

    Either way is drawn with probability 1/2. Of a longer record, the window starts at a place drawn uniformly from
    those where it is full; a shorter one is followed by zeros, as short records are. Sample k of the result stands at
    (k + start) / factor in the original, with factor = stretch or 1 / stretch; linear between samples. All leads of
    a record share both draws. 1: the identity.
    """
    last = signals.shape[2] - 1
    longer, place = torch.rand((2, len(signals), 1), generator=generator, dtype=torch.float64)
    factor = torch.where(longer < 1 / 2, stretch, 1 / stretch)
    start = place * (factor - 1).clamp(min=0) * last
    at = torch.arange(last + 1, dtype=torch.float64)
    source = ((at + start) / factor).clamp(max=last)
    before = source.floor()
    weight = (source - before).to(signals)[:, None]
    inside = (at <= last * factor).to(signals)[:, None]
    index = before.to(device=signals.device, dtype=torch.int64)[:, None].expand_as(signals)
    left, right = signals.gather(2, index), signals.gather(2, (index + 1).clamp(max=last))
    return torch.lerp(left, right, weight).mul_(inside)


def with_noise(signals: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Add white Gaussian noise of the given standard deviation, independent for each lead and sample."""
    noise = torch.randn(signals.shape, generator=generator, dtype=signals.dtype).mul_(deviation)
    return _as_measured(noise.to(signals.device).add_(signals), signals)


def with_wander(signals: Tensor, amplitude: float, rate_hz: float, generator: torch.Generator) -> Tensor:
    """Add a slow wave to each record: one course in time for its leads, with a gain of its own for each lead.

    The course is a mean of three sinusoids, with weights, phases and frequencies drawn uniformly, these in [0.05, 0.5)
    Hz; it stays in [-1, 1]. Gains are drawn uniformly in [-amplitude, amplitude).
    """
    batch, leads, samples = signals.shape
    frequency, phase, weight = torch.rand((3, batch, WAVES, 1), generator=generator, dtype=signals.dtype)
    gain = torch.rand((batch, leads, 1), generator=generator, dtype=signals.dtype) * 2 - 1
    low, high = WANDER_HZ
    time = torch.arange(samples, dtype=signals.dtype) / rate_hz
    waves = torch.sin(2 * math.pi * ((low + (high - low) * frequency) * time + phase))
    weight = 1 - weight  # in (0, 1], so that their sum is never 0
    course = (waves * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)
    wander = (gain * amplitude).to(signals.device) * course.to(signals.device)
    return _as_measured(wander.add_(signals), signals)


def time_masked(signals: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Set a span of `samples` in a row to 0 in all leads, all places inside the window being equally likely."""
    window = signals.shape[2]
    places = window - samples + 1
    start = (torch.rand((len(signals), 1), generator=generator, dtype=torch.float64) * places).long()
    at = torch.arange(window)
    span = (at >= start) & (at < start + samples)
    return signals.masked_fill(span[:, None].to(signals.device), 0.0)


def leads_masked(signals: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Set `count` leads, drawn for each record, to 0; all choices are equally likely.

    Where that would take the last leads that are not 0 already, one of these is left.
    """
    key = torch.rand(signals.shape[:2], generator=generator).to(signals.device)
    chosen = key.argsort(dim=1).argsort(dim=1) < count
    heard = (signals != 0).any(dim=2)
    spared = key.masked_fill(~heard, -1.0).argmax(dim=1, keepdim=True)
    silenced = ~(heard & ~chosen).any(dim=1, keepdim=True)
    chosen = chosen & ~(silenced & torch.zeros_like(chosen).scatter(1, spared, value=True))
    return signals.masked_fill(chosen[:, :, None], 0.0)


def _as_measured(changed: Tensor, signals: Tensor) -> Tensor:
    """Return `changed` with 0 where nothing was measured (see the module); in place."""
    known = signals != 0
    changed *= known.any(dim=1, keepdim=True)
    changed *= known.any(dim=2, keepdim=True)
    return changed


Apply = Callable[[Tensor, Policy, torch.Generator], Tensor]
TRANSFORMS: Mapping[Transform, Apply] = {
    Transform.SMOOTHING: lambda signals, policy, _: smoothed(signals, policy.smoothing_samples),
    Transform.RESAMPLING: lambda signals, policy, draws: resampled(signals, policy.stretch, draws),
    Transform.NOISE: lambda signals, policy, draws: with_noise(signals, policy.noise, draws),
    Transform.WANDER: lambda signals, policy, draws: with_wander(
        signals, policy.wander, policy.rate_hz, draws
    ),
    Transform.TIME_MASK: lambda signals, policy, draws: time_masked(
        signals, policy.masked_samples(signals.shape[2]), draws
    ),
    Transform.CHANNEL_MASK: lambda signals, policy, draws: leads_masked(signals, policy.masked_leads, draws),
}
