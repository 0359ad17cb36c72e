"""The real files, where KDSEARCH_DATA has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kdsearch.trainables.data import check, load_images

pytestmark = pytest.mark.data


def real(name: str) -> Path:
    """Return the data root, or skip with what is missing."""
    root = os.environ.get("KDSEARCH_DATA")
    if not root:
        pytest.skip("KDSEARCH_DATA is not set: no real data sets")
    if not (Path(root) / name).is_dir():
        pytest.skip(f"KDSEARCH_DATA has no folder {name}")
    return Path(root)


def test_fashion_mnist() -> None:
    root = real("fashion-mnist")
    report = check("fashion-mnist", root)
    assert report.ok, str(report)
    data = load_images("fashion-mnist", root)
    assert not data.is_sample
    assert data.train_images.shape == (60_000, 1, 28, 28)
    assert data.test_images.shape == (10_000, 1, 28, 28)
    assert np.bincount(data.train_labels).tolist() == [6_000] * 10
    assert np.bincount(data.test_labels).tolist() == [1_000] * 10
    assert data.train_labels[:5].tolist() == [9, 0, 0, 3, 0]  # ankle boot, T-shirt, T-shirt, dress, T-shirt
    assert round(float(data.train_images.mean() / 255), 4) == 0.2860  # the published mean


def test_first_4000_of_cifar_10() -> None:
    root = real("cifar-10-first4000")
    data = load_images("cifar-10-first4000", root)
    assert data.train_images.shape == (3_000, 3, 32, 32)
    assert data.test_images.shape == (1_000, 3, 32, 32)
    assert [data.class_names[label] for label in data.train_labels[:3]] == ["frog", "truck", "truck"]
    assert data.train_images[0, :, 0, 0].tolist() == [
        59,
        62,
        63,
    ]  # the first pixel of CIFAR-10: red, green, blue


def test_first_4000_are_not_cifar_10(tmp_path: Path) -> None:
    (tmp_path / "cifar-10").symlink_to(real("cifar-10-first4000") / "cifar-10-first4000")
    report = check("cifar-10", tmp_path)
    assert "found 12,292,000 bytes (truncated)" in str(report)


def test_cifar_10_as_a_zip_of_jpeg_files() -> None:
    root = real("cifar-10-imagefolder")
    data = load_images("cifar-10-imagefolder", root)
    assert data.train_images.shape == (12_800, 3, 32, 32)
    assert data.test_images.shape == (10_000, 3, 32, 32)
    assert np.bincount(data.train_labels).tolist() == [1_280] * 10
    assert np.bincount(data.test_labels).tolist() == [1_000] * 10


def test_both_copies_of_cifar_10_show_the_same_images() -> None:
    """The first training images are in both, once lossless, once as JPEG: they agree closely, channels and all."""
    lossless = load_images("cifar-10-first4000", real("cifar-10-first4000"))
    jpeg = load_images("cifar-10-imagefolder", real("cifar-10-imagefolder"))
    for label in range(10):
        image = lossless.train_images[lossless.train_labels == label][0].astype(int)
        others = jpeg.train_images[jpeg.train_labels == label].astype(int)
        assert np.abs(others - image).mean(axis=(1, 2, 3)).min() < 15  # the next nearest image is beyond 24
