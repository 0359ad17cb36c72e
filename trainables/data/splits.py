"""Which images train and which evaluate.

Refining Design Spaces, Section IV: while searching, 40,000 of CIFAR-100's 50,000 training images train and the
other 10,000 validate, drawn at random; when evaluating, 50,000 train and the 10,000 test images are the
measure. A search never touches the test part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.data.augmentation import NO_AUGMENTATION, Augmentation
from kdsearch.trainables.data.images import ImageData, Images, Labels
from kdsearch.trainables.data.registry import data_set
from kdsearch.trainables.seeds import derive_seed

Purpose = Literal["search", "evaluate"]
Order = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images of which data set a trial sees.

    `val_size` images of the training part validate (None: the data set's share, for CIFAR-100 10,000) and
    `train_size` of the others train (None: all of them). They never overlap, and the validation images do not
    depend on `train_size`. With purpose `evaluate` nothing is held out: `train_size` images of the training
    part train, the whole test part is evaluated, and `val_size` has no meaning. `stratified` draws in
    proportion to the classes (None: the data set's way; random on CIFAR, as in the paper).
    """

    name: str
    train_size: int | None = None
    val_size: int | None = None
    split_seed: int = 0
    augment: bool = True
    purpose: Purpose = "search"
    stratified: bool | None = None

    def __post_init__(self) -> None:
        for field, size in (("train_size", self.train_size), ("val_size", self.val_size)):
            if size is not None and (not _whole(size) or size < 1):
                raise UsageError(f"data: {field} must be a whole number, 1 or more, not {size!r}")
        if not _whole(self.split_seed) or self.split_seed < 0:
            raise UsageError(f"data: split_seed must be a whole number, 0 or more, not {self.split_seed!r}")
        for field, flag in (("augment", self.augment), ("stratified", self.stratified)):
            if not isinstance(flag, bool) and not (field == "stratified" and flag is None):
                raise UsageError(f"data: {field} must be true or false, not {flag!r}")
        if self.purpose not in get_args(Purpose):
            raise UnknownNameError("purpose", self.purpose, get_args(Purpose))
        data_set(self.name)

    @property
    def augmentation(self) -> Augmentation:
        """What is done to the training images: the data set's own way, or nothing."""
        return data_set(self.name).augmentation if self.augment else NO_AUGMENTATION


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, eq=False)
class Split:
    """Training and evaluation images [n, C, H, W] as uint8, labels [n] as int64."""

    train_images: Images
    train_labels: Labels
    eval_images: Images
    eval_labels: Labels


def make_split(data: ImageData, settings: DataSettings) -> Split:
    """Return the images that train and those that evaluate; the same settings give the same split anywhere.

    Raises `UsageError` where the data set has fewer images than asked for.
    """
    available = len(data.train_labels)
    if settings.purpose == "evaluate":
        size = settings.train_size or available
        if size > available:
            raise UsageError(f"data set {data.name!r} has {available:,} training images, not {size:,}")
        if size == available:
            return Split(data.train_images, data.train_labels, data.test_images, data.test_labels)
        chosen = np.sort(_order(data, settings)[:size])
        return Split(data.train_images[chosen], data.train_labels[chosen], data.test_images, data.test_labels)
    train_size, val_size = _search_sizes(available, settings, data.name)
    order = _order(data, settings)
    val = np.sort(order[:val_size])
    train = np.sort(order[val_size : val_size + train_size])
    return Split(
        data.train_images[train], data.train_labels[train], data.train_images[val], data.train_labels[val]
    )


def _search_sizes(available: int, settings: DataSettings, name: str) -> tuple[int, int]:
    val_size = settings.val_size
    if val_size is None:
        val_size = max(1, round(available * data_set(settings.name).validation))
    if val_size >= available:
        raise UsageError(
            f"data set {name!r} has {available:,} training images: {val_size:,} to validate leave none to train",
            "Give a smaller val_size.",
        )
    train_size = settings.train_size or available - val_size
    if train_size < 1 or train_size + val_size > available:
        raise UsageError(
            f"data set {name!r} has {available:,} training images: "
            f"{train_size:,} to train and {val_size:,} to validate do not fit",
            "Give a smaller train_size or val_size.",
        )
    return train_size, val_size


def _order(data: ImageData, settings: DataSettings) -> Order:
    """Return the training images in random order; stratified, each stretch holds all classes in proportion."""
    rng = np.random.default_rng(derive_seed(settings.split_seed, "split", data.name))
    order = rng.permutation(len(data.train_labels))
    stratified = data_set(settings.name).stratified if settings.stratified is None else settings.stratified
    if not stratified:
        return order
    labels = data.train_labels[order]
    by_class = np.argsort(labels, kind="stable")
    totals = np.bincount(labels, minlength=data.classes)
    rank = np.arange(len(labels)) - np.repeat(
        np.cumsum(totals) - totals, totals
    )  # of each image in its class
    share = (rank + 0.5) / np.repeat(totals, totals)
    return order[by_class][np.argsort(share, kind="stable")]
