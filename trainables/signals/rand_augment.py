"""RandAugment (Cubuk et al. 2020) for batches of twelve-lead signals; `policy` says what its numbers mean."""

from __future__ import annotations

import torch
from torch import Tensor

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.records.leads import LEADS
from kdsearch.trainables.signals.policy import Policy, Transform
from kdsearch.trainables.signals.transforms import TRANSFORMS

AXES = 3  # records, leads, samples


class RandAugment:
    """Gives each record `number` transforms one after another, drawn uniformly with replacement, of one `intensity`.

    Transforms, places, signs, waves and leads are drawn for each record; the magnitude is the same for all (Cubuk et
    al.). Records of one transform are done together, without a loop over records. Raises `UsageError` for a number
    outside 1..6 and an intensity outside [0, 1].
    """

    def __init__(self, number: int, intensity: float, rate_hz: float) -> None:
        self.policy = Policy(number, intensity, rate_hz)

    def __repr__(self) -> str:
        policy = self.policy
        return f"RandAugment({policy.number}, {policy.intensity}, {policy.rate_hz})"

    def __call__(self, signals: Tensor, generator: torch.Generator) -> Tensor:
        """Return augmented signals [B, 12, T] in a new tensor of the same type, on the same device.

        `generator` is one of the CPU, whatever the device; equal seeds give equal results. What a record gets depends
        on its place in the batch and on the size of the batch, and through the shared generator on what the others
        draw, but never on the others' signals. Raises `UsageError` for signals that are not finite float32 or float64
        [B, 12, T].
        """
        check_signals(signals)
        if generator.device.type != "cpu":
            raise UsageError(f"RandAugment: the generator must be one of the CPU, not of {generator.device}")
        with torch.no_grad():
            return self._augmented(signals, generator)

    def drawn(self, records: int, generator: torch.Generator) -> Tensor:
        """Return which transforms the records get, as places in `Transform`: int64 [number, records].

        These are the first draws of a call: a generator of the same seed gives the same here as there.
        """
        return torch.randint(len(Transform), (self.policy.number, records), generator=generator)

    def _augmented(self, signals: Tensor, generator: torch.Generator) -> Tensor:
        result = signals.clone()
        for choices in self.drawn(len(signals), generator):
            for number, transform in enumerate(Transform):
                rows = (choices == number).nonzero().flatten().to(signals.device)
                if len(rows):
                    part = result.index_select(0, rows)
                    result.index_copy_(0, rows, TRANSFORMS[transform](part, self.policy, generator))
        return result


def check_signals(signals: Tensor) -> None:
    """Raise `UsageError` unless the signals are finite float32 or float64 [B, 12, T] with T >= 1."""
    shape = tuple(signals.shape)
    if len(shape) != AXES or shape[1] != len(LEADS) or shape[2] < 1:
        raise UsageError(f"RandAugment: signals must be [B, {len(LEADS)}, T], not {list(shape)}")
    if signals.dtype not in {torch.float32, torch.float64}:
        raise UsageError(f"RandAugment: signals must be float32 or float64, not {signals.dtype}")
    # One sum is much faster than a look at each value; a sum of huge values may overflow, so look then.
    if not torch.isfinite(signals.sum()) and not torch.isfinite(signals).all():
        bad = (~torch.isfinite(signals)).flatten(1).any(dim=1).nonzero().flatten().tolist()
        named = ", ".join(map(str, bad[:3])) + (", …" if len(bad) > len(bad[:3]) else "")
        raise UsageError(
            f"RandAugment: signals must be finite; NaN or infinity in records {named} of the batch"
        )
