"""scikit-learn's bundled digits: 1,797 handwritten digits, 8x8, grey; nothing to download.

The set has no official parts. Ours are fixed: 357 test images, taken from each class in proportion, the same
on every machine and with every version of NumPy, because the choice is a hash of the image's number.
"""

from __future__ import annotations

import numpy as np

from kdsearch.trainables.data.findings import Findings, Place
from kdsearch.trainables.data.images import ImageData, Labels
from kdsearch.trainables.seeds import derive_seed

TEST_IMAGES = 357  # leaves 1,440 training images: 1,152 and 288 in a search
GREY_LEVELS = 16  # the bundled values are 0 to 16, both included


def read_digits(_place: Place, findings: Findings) -> ImageData:
    """Return the digits, values 0 to 16 stretched to 0 to 255 and rounded half to even."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 (a second of import that other data sets need not pay)

    findings.files += 1
    bundle = load_digits()
    images = np.rint(bundle.images * (255 / GREY_LEVELS)).astype(np.uint8)[:, None]
    labels = bundle.target.astype(np.int64)
    test = _test_mask(labels)
    return ImageData(
        name="digits",
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple(str(digit) for digit in range(10)),
    )


def _test_mask(labels: Labels) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mark the first 357 images in an order whose every beginning holds the classes in proportion."""
    drawn = sorted(range(len(labels)), key=lambda image: derive_seed("digits", "test part", image))
    seen = np.zeros(10, dtype=np.int64)
    totals = np.bincount(labels, minlength=10)
    share = np.empty(len(labels))
    for image in drawn:
        label = labels[image]
        share[image] = (seen[label] + 0.5) / totals[label]
        seen[label] += 1
    first = sorted(drawn, key=lambda image: float(share[image]))[:TEST_IMAGES]
    mask = np.zeros(len(labels), dtype=np.bool_)
    mask[first] = True
    return mask
