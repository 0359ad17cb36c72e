"""A data set in memory: images as unsigned bytes, labels as integers, a training part and a test part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

IMAGE_AXES = 4  # image, channel, row, column


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images [n, C, H, W] as uint8 in [0, 255], labels [n] as int64 in [0, classes).

    The arrays are read-only, because one process shares them. `is_sample` marks a made-up set, written by
    `kdsearch data sample`: results on it say nothing about the real one.
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]
    is_sample: bool = False

    def __post_init__(self) -> None:
        for part, images, labels in (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if images.dtype != np.uint8 or images.ndim != IMAGE_AXES:
                raise ValueError(
                    f"{part} images must be uint8 [n, C, H, W], not {images.dtype} {images.shape}"
                )
            if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
                raise ValueError(
                    f"{part} labels must be int64 [{len(images)}], not {labels.dtype} {labels.shape}"
                )
            images.flags.writeable = False
            labels.flags.writeable = False

    @cached_property
    def digest(self) -> str:
        """A digest of every image and label: equal data, wherever they lie, have equal digests."""
        found = hashlib.blake2b(digest_size=16)
        for values in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            found.update(str(values.shape).encode())
            found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of one image."""
        _, channels, rows, columns = self.train_images.shape
        return channels, rows, columns
