"""What the trials of a pack see: the training part with the teacher's answers to it, the validation and the test part.

The validation part chooses metaparameters, the test part measures; the teacher's training never saw either, unless
the settings ask for the paper's leak. A student that chooses nothing by validation may train on both first parts.
Without augmentation the teacher is asked once for every image, and its logits are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.augmentation import NO_AUGMENTATION
from kdsearch.trainables.data.batches import ImageBatches, as_unit_interval
from kdsearch.trainables.data.loading import load_images
from kdsearch.trainables.data.splits import DataSettings, make_split
from kdsearch.trainables.data.synthetic import CLASSES, SyntheticSettings, make_synthetic
from kdsearch.trainables.kd.kind import ALL
from kdsearch.trainables.kd.settings import KdSettings, Sees
from kdsearch.trainables.seeds import derive_seed


@dataclass(frozen=True, eq=False)
class Part:
    """Inputs [copies * n, C, H, W], bytes or floats, and labels int64 [copies * n], on the device that trains.

    A copy is what one run of a method sees; the runs share one unless each draws objects of its own.
    """

    inputs: Tensor
    labels: Tensor
    copies: int = 1

    def __len__(self) -> int:
        """Return n, the objects of one copy."""
        return len(self.labels) // self.copies

    def at(self, index: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return inputs [*index, C, H, W] as floats and labels [*index]."""
        flat = index.reshape(-1)
        inputs = self.inputs.index_select(0, flat).view(*index.shape, *self.inputs.shape[1:])
        return _floats(inputs, dtype), self.labels.index_select(0, flat).view(index.shape)

    def batches(self, size: int, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all copies in order: x [B, C, H, W] as floats and y [B]; the last batch may be smaller."""
        for first in range(0, len(self.labels), size):
            part = slice(first, first + size)
            yield _floats(self.inputs[part], dtype), self.labels[part]

    def batches_of(
        self, copies: Sequence[int], size: int, dtype: torch.dtype
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the copies of K trials in order, side by side: x [K, B, C, H, W] as floats and y [K, B]."""
        starts = torch.tensor(copies, device=self.labels.device)[:, None] * len(self)
        for first in range(0, len(self), size):
            within = torch.arange(first, min(first + size, len(self)), device=self.labels.device)
            yield self.at(starts + within, dtype)


class Batch(NamedTuple):
    """One batch of K trials: x [K, B, C, H, W], y [K, B] and which of the part's objects they are [K, B]."""

    inputs: Tensor
    labels: Tensor
    objects: Tensor


class Standing(NamedTuple):
    """Where a trial stands: its seed, its epochs done, and the copy of the data that it sees."""

    seed: int
    epoch: int
    copy: int = 0


class ImageTraining:
    """Augmented training batches of images; an epoch passes once over the part (`ImageBatches`)."""

    def __init__(self, part: Part, settings: KdSettings, data: DataSettings, dtype: torch.dtype) -> None:
        self.augmented = data.augmentation != NO_AUGMENTATION
        self._batches = ImageBatches(
            part.inputs,
            part.labels,
            batch_size=settings.batch_size,
            augmentation=data.augmentation,
            device=part.inputs.device,
            dtype=dtype,
        )
        self.batch_size = self._batches.batch_size
        self.iterations_per_epoch = self._batches.iterations_per_epoch

    def epoch(self, trials: Sequence[Standing]) -> Iterator[Batch]:
        """Yield the batches of one epoch of K trials."""
        plans = self._batches.draw([(trial.seed, trial.epoch) for trial in trials])
        for (inputs, labels), index in zip(self._batches.epoch(plans), plans.order, strict=True):
            yield Batch(inputs, labels, index)


class CycledBatches:
    """Batches without augmentation, as many an epoch as asked for: the part is shuffled anew for every pass."""

    augmented = False

    def __init__(
        self, part: Part, *, batch_size: int, iterations: int, name: str, dtype: torch.dtype
    ) -> None:
        self._part, self._name, self._dtype = part, name, dtype
        self.batch_size = min(batch_size, len(part))
        self.iterations_per_epoch = iterations

    def epoch(self, trials: Sequence[Standing]) -> Iterator[Batch]:
        """Yield the batches of one epoch of K trials."""
        for objects in self.orders(trials):
            yield self.batch(objects)

    def batch(self, objects: Tensor) -> Batch:
        """Return the batch of these objects [K, B]."""
        return Batch(*self._part.at(objects, self._dtype), objects)

    def orders(self, trials: Sequence[Standing]) -> Tensor:
        """Return which objects make the batches of one epoch of K trials: [iterations, K, B]."""
        count = len(self._part)
        orders = np.stack([self._order(each.seed, each.epoch) + each.copy * count for each in trials], axis=1)
        return torch.from_numpy(orders).to(self._part.labels.device)

    def _order(self, seed: int, epoch: int) -> NDArray[np.int32]:
        """Return which objects come: [iterations, B]; whole batches of each pass, and no object twice in a batch."""
        rng = np.random.default_rng(derive_seed(seed, self._name, epoch))
        count, size = len(self._part), self.batch_size
        a_pass = count // size
        passes = -(-self.iterations_per_epoch // a_pass)
        orders = [rng.permutation(count)[: a_pass * size].reshape(a_pass, size) for _ in range(passes)]
        return np.concatenate(orders)[: self.iterations_per_epoch].astype(np.int32)


@dataclass(frozen=True, eq=False)
class Parts:
    """All parts of one data set for one kind of student.

    known: objects whose teacher's answers are asked for, as the teacher sees them: the student's training part, in its
    order. A pack of teachers has no `known`. validation is None where the student trains on it; a teacher that has
    seen it (the leak) is still evaluated on it.
    """

    training: Part
    validation: Part | None
    test: Part
    known: Part | None
    batches: ImageTraining | CycledBatches
    classes: int
    identity: Mapping[str, Any]  # what `known` depends on
    runs: tuple[int, ...] = (0,)  # run of each copy of the data; one copy serves all runs where they share it

    def copy_of(self, plan: Mapping[str, Any]) -> int:
        """Return which copy of the data a trial of this plan sees."""
        return self.runs.index(plan.get("run", 0)) if len(self.runs) > 1 else 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the student's inputs."""
        _, channels, rows, columns = self.training.inputs.shape
        return channels, rows, columns

    @property
    def teacher_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the teacher's inputs."""
        part = self.training if self.known is None else self.known
        _, channels, rows, columns = part.inputs.shape
        return channels, rows, columns

    def validation_batches(self, settings: KdSettings, dtype: torch.dtype) -> CycledBatches:
        """Return as many validation batches an epoch as there are training batches.

        Raises:
            UsageError: the student trains on the validation part, and nothing is left to judge metaparameters by.

        """
        if self.validation is None:
            raise UsageError(
                "a student that optimises its metaparameters must not train on the validation part",
                "Use train_on: training for this method.",
            )
        return CycledBatches(
            self.validation,
            batch_size=settings.val_batch_size or settings.batch_size,
            iterations=self.batches.iterations_per_epoch,
            name="validation order",
            dtype=dtype,
        )


def load_parts(
    settings: KdSettings,
    plans: Sequence[Mapping[str, Any]],
    *,
    data_root: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    teacher: bool,
) -> Parts:
    """Load and split a data set for students of these plans, equal but for their runs, or for the teacher itself.

    Raises:
        KdsearchError: data that is missing or broken, or has fewer objects than the settings ask for.

    """
    leak = teacher and settings.teacher is not None and settings.teacher.sees is Sees.ALL
    on_all = leak or plans[0].get("train_on") == ALL
    if isinstance(settings.data, DataSettings):
        return _image_parts(settings, settings.data, data_root, device, dtype, on_all=on_all, teacher=teacher)
    return _table_parts(settings, settings.data, plans, device, dtype, on_all=on_all, teacher=teacher)


def _image_parts(
    settings: KdSettings,
    data: DataSettings,
    data_root: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    on_all: bool,
    teacher: bool,
) -> Parts:
    images = load_images(data.name, data_root)
    split = make_split(images, data)
    training = _part(split.train_images, split.train_labels, device)
    validation = _part(split.eval_images, split.eval_labels, device)
    if on_all:
        training = _joined(training, validation)
    return Parts(
        training=training,
        validation=None if on_all and not teacher else validation,
        test=_part(images.test_images, images.test_labels, device),
        known=None if teacher else training,
        batches=ImageTraining(training, settings, data, dtype),
        classes=images.classes,
        identity={"data": settings.to_mapping()["data"], "content": images.digest, "all": on_all},
    )


def _table_parts(
    settings: KdSettings,
    source: SyntheticSettings,
    plans: Sequence[Mapping[str, Any]],
    device: torch.device,
    dtype: torch.dtype,
    *,
    on_all: bool,
    teacher: bool,
) -> Parts:
    runs: tuple[int, ...] = (0,)
    if source.redrawn and not teacher:
        runs = tuple(sorted({int(plan.get("run", 0)) for plan in plans}))
    optimised = bool(plans[0].get("optimised", False))
    drawn = [make_synthetic(source, optimised=optimised, run=run) for run in runs]

    def part(*names: str) -> Part:
        """Lay the copies one behind the other, each made of these parts."""
        pieces = [getattr(copy, name) for copy in drawn for name in names]
        inputs, labels = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
        return replace(_part(inputs, labels, device), copies=len(runs))

    if teacher:
        training, known = part("teacher_train"), None
    else:
        training = part("train", "val") if on_all else part("train")
        known = part("known", "teacher_val") if on_all else part("known")
    batches = CycledBatches(
        training,
        batch_size=settings.batch_size,
        iterations=settings.iterations_per_epoch or max(1, len(training) // settings.batch_size),
        name="order",
        dtype=dtype,
    )
    return Parts(
        training=training,
        validation=None if on_all and not teacher else part("teacher_val" if teacher else "val"),
        test=part("teacher_test" if teacher else "test"),
        known=known,
        batches=batches,
        classes=CLASSES,
        identity={"data": source.to_mapping(), "content": "", "all": on_all, "runs": list(runs)},
        runs=runs,
    )


def _part(inputs: NDArray[Any], labels: NDArray[np.int64], device: torch.device) -> Part:
    return Part(torch.tensor(inputs, device=device), torch.tensor(labels, device=device))


def _joined(first: Part, second: Part) -> Part:
    return replace(
        first,
        inputs=torch.cat([first.inputs, second.inputs]),
        labels=torch.cat([first.labels, second.labels]),
    )


def _floats(inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes come to the closed interval [0, 1]; what is a float already keeps its value."""
    return as_unit_interval(inputs, dtype) if inputs.dtype is torch.uint8 else inputs.to(dtype)
