"""The images of a pack, on the device that trains, and the arithmetic that they come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from kdsearch.trainables.data.batches import ImageBatches
from kdsearch.trainables.data.images import ImageData
from kdsearch.trainables.data.splits import make_split
from kdsearch.trainables.ktg.settings import KtgSettings, Precision


@dataclass(frozen=True, eq=False)
class PackData:
    """What every trial of a pack sees: augmented training batches, and images that are evaluated as they are.

    eval_images: uint8 [n, C, H, W] and eval_labels: int64 [n], on the device that trains.
    """

    batches: ImageBatches
    eval_images: Tensor
    eval_labels: Tensor
    classes: int

    @classmethod
    def load(cls, settings: KtgSettings, images: ImageData, device: str | torch.device) -> Self:
        """Split a data set as the settings say and bring it to the device.

        Raises:
            UsageError: the data set has fewer images than the settings ask for.

        """
        split = make_split(images, settings.data)
        batches = ImageBatches(
            split.train_images,
            split.train_labels,
            batch_size=settings.batch_size,
            augmentation=settings.data.augmentation,
            device=device,
            dtype=arithmetic_dtype(settings),
        )
        return cls(
            batches,
            torch.tensor(split.eval_images, device=device),
            torch.tensor(split.eval_labels, device=device),
            images.classes,
        )


def arithmetic_dtype(settings: KtgSettings) -> torch.dtype:
    """Return what weights and losses are kept in; bfloat16 is for the networks' insides alone."""
    return torch.float64 if settings.precision is Precision.FLOAT64 else torch.float32
