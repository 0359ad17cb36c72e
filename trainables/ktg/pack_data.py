"""The images of a pack, on the device that trains, and the arithmetic that they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from kdsearch.trainables.data.batches import EpochPlans, ImageBatches
from kdsearch.trainables.data.images import ImageData
from kdsearch.trainables.data.splits import make_split
from kdsearch.trainables.ktg.settings import KtgSettings, Precision
from kdsearch.trainables.seeds import derive_seed


@dataclass(frozen=True, eq=False)
class ValidationBatches:
    """The validation batches of one epoch: whole batches of each shuffle of the images, as many shuffles as needed."""

    images: ImageBatches
    plans: Sequence[EpochPlans]

    def batch(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Return the batch of a training iteration: x [K, B, C, H, W] and y [K, B]; made when it is asked for."""
        shuffle, index = divmod(iteration, self.images.iterations_per_epoch)
        return self.images.batch(self.plans[shuffle], index)


@dataclass(frozen=True, eq=False)
class PackData:
    """What every trial of a pack sees: augmented training batches, and images that are evaluated as they are.

    eval_images: uint8 [n, C, H, W] and eval_labels: int64 [n], on the device that trains. judging: the same images
    without augmentation, in shuffled batches, which learned gates follow.
    """

    batches: ImageBatches
    eval_images: Tensor
    eval_labels: Tensor
    classes: int
    judging: ImageBatches

    def validation_batches(self, trials: Sequence[tuple[int, int]]) -> ValidationBatches:
        """Return the batches that judge learned gates in one epoch of K trials, given as (seed, epoch)."""
        rounds = -(-self.batches.iterations_per_epoch // self.judging.iterations_per_epoch)
        seeds = [derive_seed(seed, "validation", epoch) for seed, epoch in trials]
        plans = [self.judging.draw([(seed, each) for seed in seeds]) for each in range(rounds)]
        return ValidationBatches(self.judging, plans)

    @classmethod
    def load(cls, settings: KtgSettings, images: ImageData, device: str | torch.device) -> Self:
        """Split a data set as the settings say and bring it to the device.

        Raises:
            UsageError: the data set has fewer images than the settings ask for.

        """
        split = make_split(images, settings.data)
        eval_images = torch.tensor(split.eval_images, device=device)
        eval_labels = torch.tensor(split.eval_labels, device=device)
        batches = ImageBatches(
            split.train_images,
            split.train_labels,
            batch_size=settings.batch_size,
            augmentation=settings.data.augmentation,
            device=device,
            dtype=arithmetic_dtype(settings),
        )
        judging = ImageBatches(
            eval_images,
            eval_labels,
            batch_size=min(settings.batch_size, len(eval_labels)),
            device=device,
            dtype=arithmetic_dtype(settings),
        )
        return cls(batches, eval_images, eval_labels, images.classes, judging)


def arithmetic_dtype(settings: KtgSettings) -> torch.dtype:
    """Return what weights and losses are kept in; bfloat16 is for the networks' insides alone."""
    return torch.float64 if settings.precision is Precision.FLOAT64 else torch.float32
