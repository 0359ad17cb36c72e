"""Batches of augmented images for K trials at once, on the device that trains.

The images stay on the device as bytes. An augmentation with padding p has (2p+1)^2 shifts, times two with
flips; each of these variants is a fixed choice of source pixels. A table holds that choice for every variant,
so that a batch is two gathers whatever its trials do. Which images and which variants a trial sees in an
epoch comes from generators keyed by the trial's seed and the epoch alone: nothing is carried from epoch to
epoch, and a resumed trial equals an uninterrupted one. The generators are NumPy's and run on the CPU (torch's
uses 32 bits of its seed only, and another algorithm on each device), so a trial sees the same images on every
device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.augmentation import NO_AUGMENTATION, Augmentation, PadMode
from kdsearch.trainables.data.images import IMAGE_AXES
from kdsearch.trainables.seeds import derive_seed

BYTE_SCALE = 1 / 255
BLOCK_PIXELS = 1 << 18  # of one block of batches: made at once, small enough for the cache


@dataclass(frozen=True, eq=False)
class EpochPlans:
    """What K trials see in one epoch: `order` and `variant` [iterations, K, B] as int32, on the device."""

    order: Tensor
    variant: Tensor


class ImageBatches:
    """Training images of one data set, drawn and augmented for K trials side by side.

    `images` [n, C, H, W] as uint8, `labels` [n] as int64 (arrays or tensors). Every batch has `batch_size`
    images: the n mod `batch_size` images that are left over at the end of a shuffled epoch wait for the next
    one, so that an epoch has exactly `iterations_per_epoch` = n // batch_size steps, all of one shape.
    Batches are of `dtype`, in the closed interval [0, 1] (multiplied by 1/255; no normalisation, as in the
    papers' code).

    Raises `UsageError` for a batch size above n and for padding that does not fit the images.
    """

    def __init__(
        self,
        images: NDArray[np.uint8] | Tensor,
        labels: NDArray[np.int64] | Tensor,
        *,
        batch_size: int,
        augmentation: Augmentation = NO_AUGMENTATION,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        count = len(images)
        if not 1 <= batch_size <= count:
            raise UsageError(f"a batch size of {batch_size} does not fit {count:,} training images")
        pixels = on_device(images, device)
        if pixels.ndim != IMAGE_AXES or pixels.dtype is not torch.uint8:
            raise UsageError(f"images must be uint8 [n, C, H, W], not {pixels.dtype} {list(pixels.shape)}")
        self.shape: tuple[int, int, int] = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        self.batch_size = batch_size
        self.iterations_per_epoch = count // batch_size
        self.dtype = dtype
        self._augmentation = augmentation
        self._pixels = pixels.reshape(count, -1)
        self._labels = on_device(labels, device)
        self._sources = pixel_sources(augmentation, self.shape).to(device)

    @property
    def device(self) -> torch.device:
        """The device of images, labels and batches."""
        return self._pixels.device

    def draw(self, trials: Sequence[tuple[int, int]]) -> EpochPlans:
        """Return the plans of K trials, each given as (trial seed, epoch), for one epoch.

        Trials may stand at different epochs. A trial's plan does not depend on its neighbours.
        """
        used = self.iterations_per_epoch * self.batch_size
        plans = np.empty((2, self.iterations_per_epoch, len(trials), self.batch_size), dtype=np.int32)
        for slot, (seed, epoch) in enumerate(trials):
            order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(len(self._pixels))
            augment = np.random.default_rng(derive_seed(seed, "augment", epoch))
            variant = augment.integers(0, self._augmentation.variants, used)
            plans[0, :, slot] = order[:used].reshape(-1, self.batch_size)
            plans[1, :, slot] = variant.reshape(-1, self.batch_size)
        order, variant = torch.from_numpy(plans).to(self.device)
        return EpochPlans(order, variant)

    def batch(self, plans: EpochPlans, index: int) -> tuple[Tensor, Tensor]:
        """Return batch `index` of the epoch, in [0, iterations_per_epoch): x [K, B, C, H, W] and y [K, B]."""
        x, y = self._block(plans, index, index + 1)
        return x[0], y[0]

    def epoch(self, plans: EpochPlans) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the epoch's batches in order; each equals `batch`.

        Small batches are made several at a time. Nothing here waits for the device.
        """
        pixels = plans.order.shape[1] * self.batch_size * self._pixels.shape[1]
        step = max(1, BLOCK_PIXELS // pixels)
        for first in range(0, self.iterations_per_epoch, step):
            last = min(first + step, self.iterations_per_epoch)
            yield from zip(*self._block(plans, first, last), strict=True)

    def _block(self, plans: EpochPlans, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return batches [first, last): x [last - first, K, B, C, H, W] and y [last - first, K, B]."""
        order = plans.order[first:last]
        chosen = order.reshape(-1)
        pixels = self._pixels.index_select(0, chosen)
        if self._augmentation.variants > 1:
            pixels = self._augment(pixels, plans.variant[first:last].reshape(-1))
        y = self._labels.index_select(0, chosen).view(order.shape)
        return as_unit_interval(pixels, self.dtype).view(*order.shape, *self.shape), y

    def _augment(self, pixels: Tensor, variant: Tensor) -> Tensor:
        """Return the given variant of each image; `pixels` are [images, C H W]."""
        count, channels = len(pixels), self.shape[0]
        planes = pixels.view(count, channels, -1)
        if self._augmentation.mode is PadMode.ZERO:
            planes = functional.pad(planes, (0, 1))  # the pixel that all padding points at
        sources = self._sources.index_select(0, variant)
        return planes.gather(2, sources[:, None].expand(-1, channels, -1))


def plain_batches(
    images: Tensor, labels: Tensor, *, batch_size: int, dtype: torch.dtype = torch.float32
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images in order, without augmentation, for evaluation: x [B, C, H, W] in [0, 1] and y [B].

    The last batch may be smaller. `images` are uint8 on the device that evaluates.
    """
    for first in range(0, len(images), batch_size):
        part = slice(first, first + batch_size)
        yield as_unit_interval(images[part], dtype), labels[part]


def as_unit_interval(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Return bytes as floats in the closed interval [0, 1]; half precisions are rounded from float32."""
    exact = dtype if dtype is torch.float64 else torch.float32
    return pixels.to(exact).mul_(BYTE_SCALE).to(dtype)


def pixel_sources(augmentation: Augmentation, shape: tuple[int, int, int]) -> Tensor:
    """Return which pixel of the original plane comes to each pixel of each variant: int64 [variants, H W].

    With zero padding the number H W stands for a pixel outside. Raises `UsageError` where a reflection would
    need more of the image than there is.
    """
    _, rows, columns = shape
    pad, reflect = augmentation.pad, augmentation.mode is PadMode.REFLECT
    if reflect and pad >= min(rows, columns):
        raise UsageError(f"images of {rows}x{columns} are too small to be padded by reflection of {pad}")
    row, row_inside = _axis_sources(rows, pad)
    column, column_inside = _axis_sources(columns, pad)
    if augmentation.flip:
        column, column_inside = (torch.stack([line, line.flip(1)]) for line in (column, column_inside))
    else:
        column, column_inside = column[None], column_inside[None]
    # axes: flipped, top, left, row, column
    sources = row[None, :, None, :, None] * columns + column[:, None, :, None, :]
    if not reflect:
        inside = row_inside[None, :, None, :, None] & column_inside[:, None, :, None, :]
        sources = torch.where(inside, sources, rows * columns)
    return sources.reshape(augmentation.variants, rows * columns)


def _axis_sources(length: int, pad: int) -> tuple[Tensor, Tensor]:
    """Return for each shift and position the mirrored source along one axis, and whether it was inside."""
    at = torch.arange(2 * pad + 1)[:, None] + torch.arange(length)[None] - pad
    inside = (at >= 0) & (at < length)
    mirrored = (length - 1) - ((length - 1) - at.abs()).abs()
    return mirrored, inside


def on_device(values: NDArray[Any] | Tensor, device: str | torch.device = "cpu") -> Tensor:
    """Return the values on the device; on the CPU a writable array is shared and a read-only one is copied."""
    if isinstance(values, Tensor):
        return values.to(device)
    return (torch.from_numpy(values) if values.flags.writeable else torch.tensor(values)).to(device)
