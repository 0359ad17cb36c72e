"""Splits: sizes of the papers, disjoint and seeded, and a test part that a search never touches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.data import DataSettings, ImageData, load_images, make_split
from kdsearch.trainables.data.augmentation import NO_AUGMENTATION


def numbered(name: str, count: int, classes: int = 10, test: int = 50) -> ImageData:
    """Return images that hold their own number in their first four bytes."""

    def images(start: int, many: int) -> np.ndarray:
        numbers = np.arange(start, start + many, dtype="<u4")
        return numbers.view(np.uint8).reshape(many, 1, 2, 2).copy()

    rng = np.random.default_rng(0)
    return ImageData(
        name,
        images(0, count),
        rng.integers(0, classes, count),
        images(1_000_000, test),
        rng.integers(0, classes, test),
        tuple(str(label) for label in range(classes)),
    )


def numbers(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images).reshape(len(images), 4).view("<u4")[:, 0]


@pytest.mark.parametrize(
    ("name", "count", "train", "val"),
    [
        ("cifar-100", 50_000, 40_000, 10_000),  # the paper's search split
        ("cifar-10", 50_000, 40_000, 10_000),
        ("fashion-mnist", 60_000, 50_000, 10_000),
        ("cinic-10", 90_000, 80_000, 10_000),
        ("tiny-imagenet", 100_000, 90_000, 10_000),
        ("digits", 1_440, 1_152, 288),
    ],
)
def test_default_sizes(name: str, count: int, train: int, val: int) -> None:
    data = numbered(name, count)
    split = make_split(data, DataSettings(name=name))
    assert (len(split.train_labels), len(split.eval_labels)) == (train, val)
    every = np.concatenate([numbers(split.train_images), numbers(split.eval_images)])
    assert np.array_equal(np.sort(every), np.arange(count))
    np.testing.assert_array_equal(split.train_labels, data.train_labels[numbers(split.train_images)])
    np.testing.assert_array_equal(split.eval_labels, data.train_labels[numbers(split.eval_images)])


def test_search_never_touches_the_test_part() -> None:
    data = numbered("cifar-100", 100)
    object.__delattr__(data, "test_images")  # any touch raises AttributeError
    object.__delattr__(data, "test_labels")
    make_split(data, DataSettings(name="cifar-100"))
    with pytest.raises(AttributeError):
        make_split(data, DataSettings(name="cifar-100", purpose="evaluate"))


def test_evaluation_trains_on_everything_and_takes_the_test_part() -> None:
    data = numbered("cifar-100", 100)
    split = make_split(data, DataSettings(name="cifar-100", purpose="evaluate", val_size=7))
    assert split.train_images is data.train_images  # nothing is copied
    assert split.eval_images is data.test_images
    part = make_split(data, DataSettings(name="cifar-100", purpose="evaluate", train_size=30))
    assert len(set(numbers(part.train_images))) == 30
    assert part.eval_labels is data.test_labels


@given(
    train=st.integers(1, 60),
    val=st.integers(1, 40),
    seed=st.integers(0, 5),
    stratified=st.sampled_from([True, False]),
)
def test_parts_are_disjoint_and_seeded(train: int, val: int, seed: int, *, stratified: bool) -> None:
    data = numbered("cifar-10", 100)
    settings = DataSettings(
        name="cifar-10", train_size=train, val_size=val, split_seed=seed, stratified=stratified
    )
    split, again = make_split(data, settings), make_split(data, settings)
    trained, validated = set(numbers(split.train_images)), set(numbers(split.eval_images))
    assert (len(trained), len(validated)) == (train, val)
    assert not trained & validated
    np.testing.assert_array_equal(split.train_images, again.train_images)
    np.testing.assert_array_equal(split.eval_images, again.eval_images)


def test_validation_images_do_not_depend_on_the_training_size() -> None:
    data = numbered("cifar-10", 200)
    few, many = (
        numbers(make_split(data, DataSettings(name="cifar-10", train_size=size)).eval_images)
        for size in (10, 160)
    )
    np.testing.assert_array_equal(few, many)
    assert len(few) == 40


def test_other_seeds_give_other_splits() -> None:
    data = numbered("cifar-10", 200)
    parts = {
        tuple(numbers(make_split(data, DataSettings(name="cifar-10", split_seed=seed)).eval_images))
        for seed in range(20)
    }
    assert len(parts) == 20


@pytest.mark.parametrize(("train", "val"), [(None, None), (100, 50), (333, 77)])
def test_stratified_parts_hold_the_classes_in_proportion(train: int | None, val: int | None) -> None:
    data = load_images("digits")
    split = make_split(data, DataSettings(name="digits", train_size=train, val_size=val))
    overall = np.bincount(data.train_labels) / len(data.train_labels)
    for labels in (split.train_labels, split.eval_labels):
        assert np.abs(np.bincount(labels, minlength=10) - overall * len(labels)).max() <= 2


def test_random_is_the_default_on_cifar() -> None:
    data = numbered("cifar-10", 1000)
    random = make_split(data, DataSettings(name="cifar-10"))
    plain = make_split(data, DataSettings(name="cifar-10", stratified=False))
    drawn = make_split(data, DataSettings(name="cifar-10", stratified=True))
    np.testing.assert_array_equal(random.eval_images, plain.eval_images)
    assert not np.array_equal(random.eval_images, drawn.eval_images)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train_size": 81}, "81 to train and 20 to validate do not fit"),
        ({"val_size": 100}, "100 to validate leave none to train"),
        ({"train_size": 50, "val_size": 51}, "100 training images"),
        ({"train_size": 101, "purpose": "evaluate"}, "has 100 training images, not 101"),
    ],
)
def test_sizes_that_do_not_fit(sizes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_split(numbered("cifar-10", 100), DataSettings(name="cifar-10", **sizes))  # type: ignore[arg-type]


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match="val_size must be a whole number, 1 or more, not 0"):
        DataSettings(name="digits", val_size=0)
    with pytest.raises(UnknownNameError, match="purpose"):
        DataSettings(name="digits", purpose="test")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="data set"):
        DataSettings(name="imagenet")
    assert DataSettings(name="digits").augmentation.pad == 1
    assert DataSettings(name="digits", augment=False).augmentation == NO_AUGMENTATION
