"""The images of a pack, on the device that trains, and the arithmetic that they come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.batches import EpochPlans, ImageBatches
from kdsearch.trainables.data.images import ImageData, Images, Labels
from kdsearch.trainables.data.splits import Split, make_split
from kdsearch.trainables.ktg.gates import ALL
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


VALIDATION, TEST = "val", "test"  # parts, as metrics are named by them


class Measured(NamedTuple):
    """Images that are evaluated as they are: uint8 [n, C, H, W], and labels int64 [n], on the device that trains."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class PackData:
    """What every trial of a pack sees: augmented training batches, and images that are evaluated as they are.

    evaluated: by the name that metrics have it by, "val" (the validation part, unless it trains too) and "test" (the
    test part, where the plan says evaluate: the images are not even looked up elsewhere). judging: the validation
    images without augmentation, in shuffled batches, which learned gates follow; None where they train too.
    """

    batches: ImageBatches
    evaluated: Mapping[str, Measured]
    classes: int
    judging: ImageBatches | None

    def validation_batches(self, trials: Sequence[tuple[int, int]]) -> ValidationBatches:
        """Return the batches that judge learned gates in one epoch of K trials, given as (seed, epoch).

        Raises:
            UsageError: the trials train on the validation images, and nothing is left to judge gates by.

        """
        if self.judging is None:
            raise UsageError(
                "learned gates follow validation images, and these train too",
                "Use train_on: training for graphs with learned gates.",
            )
        rounds = -(-self.batches.iterations_per_epoch // self.judging.iterations_per_epoch)
        seeds = [derive_seed(seed, "validation", epoch) for seed, epoch in trials]
        plans = [self.judging.draw([(seed, each) for seed in seeds]) for each in range(rounds)]
        return ValidationBatches(self.judging, plans)

    @property
    def eval_images(self) -> Tensor:
        """The images that a search judges by."""
        return self.evaluated[VALIDATION].images

    @property
    def eval_labels(self) -> Tensor:
        """Their labels."""
        return self.evaluated[VALIDATION].labels

    @classmethod
    def load(
        cls,
        settings: KtgSettings,
        images: ImageData,
        device: str | torch.device,
        plan: Mapping[str, Any] | None = None,
    ) -> Self:
        """Split a data set as settings and plan say, and bring it to the device.

        Raises:
            UsageError: the data set has fewer images than the settings ask for.

        """
        told, split = plan or {}, make_split(images, settings.data)
        on_all = told.get("train_on") == ALL
        train_images, train_labels = trained_on(split) if on_all else (split.train_images, split.train_labels)
        evaluated: dict[str, Measured] = {}
        if not on_all:
            evaluated[VALIDATION] = _measured(split.eval_images, split.eval_labels, device)
        if told.get("evaluate"):
            evaluated[TEST] = _measured(images.test_images, images.test_labels, device)
        batches = ImageBatches(
            train_images,
            train_labels,
            batch_size=settings.batch_size,
            augmentation=settings.data.augmentation,
            device=device,
            dtype=arithmetic_dtype(settings),
        )
        judging = None
        if VALIDATION in evaluated:
            judging = ImageBatches(
                *evaluated[VALIDATION],
                batch_size=min(settings.batch_size, len(split.eval_labels)),
                device=device,
                dtype=arithmetic_dtype(settings),
            )
        return cls(batches, evaluated, images.classes, judging)


def trained_on(split: Split) -> tuple[Images, Labels]:
    """Return training and validation images together, in this order, with their labels."""
    images = np.concatenate([split.train_images, split.eval_images])
    return images, np.concatenate([split.train_labels, split.eval_labels])


def _measured(images: Images, labels: Labels, device: str | torch.device) -> Measured:
    return Measured(torch.tensor(images, device=device), torch.tensor(labels, device=device))


def arithmetic_dtype(settings: KtgSettings) -> torch.dtype:
    """Return what weights and losses are kept in; bfloat16 is for the networks' insides alone."""
    return torch.float64 if settings.precision is Precision.FLOAT64 else torch.float32
