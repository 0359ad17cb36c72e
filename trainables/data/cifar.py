"""CIFAR-10 and CIFAR-100 in their official binary and Python files.

A binary record is the label (CIFAR-100: coarse, then fine), then 3,072 bytes: the red, green and blue planes
of 32 rows of 32. A Python file is a pickled dictionary with the same rows under `data`; see `pickled`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdsearch.trainables.data.class_names import CIFAR_10_CLASSES, CIFAR_100_CLASSES
from kdsearch.trainables.data.findings import Findings, Place
from kdsearch.trainables.data.images import ImageData, Images, Labels
from kdsearch.trainables.data.pickled import Plain, RefusedPickleError, load_plain

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
FIRST_4000_TRAIN = 3_000


@dataclass(frozen=True)
class Part:
    """Images and labels of one file, as many as expected there."""

    images: Images
    labels: Labels


@dataclass(frozen=True)
class BinaryFormat:
    """How a record of a binary file begins; the fine label is its last label byte."""

    label_bytes: int
    classes: int

    def read(self, path: Path, count: int, findings: Findings) -> Part | None:
        """Return the file's records, or note what is wrong and return None."""
        record = self.label_bytes + PIXELS
        expected = f"{count * record:,} bytes ({count:,} records of {record:,})"
        content = findings.read(path, expected)
        if content is None:
            return None
        if len(content) != count * record:
            short = " (truncated)" if len(content) < count * record else ""
            findings.add(path, expected, f"{len(content):,} bytes{short}")
            return None
        records = np.frombuffer(content, dtype=np.uint8).reshape(count, record)
        labels = records[:, self.label_bytes - 1].astype(np.int64)
        if not _labels_fit(labels, self.classes, path, findings):
            return None
        return Part(records[:, self.label_bytes :].reshape(count, *SHAPE), labels)


@dataclass(frozen=True)
class PythonFormat:
    """Under which key the pickled dictionary holds its labels."""

    label_key: str
    classes: int

    def read(self, path: Path, count: int, findings: Findings) -> Part | None:
        """Return the file's records, or note what is wrong and return None."""
        expected = f"a pickled dictionary with `data` [{count:,}, {PIXELS:,}] and `{self.label_key}`"
        content = findings.read(path, expected)
        if content is None:
            return None
        try:
            value = load_plain(content)
        except RefusedPickleError as error:
            findings.add(path, f"{expected} and nothing else (a pickle can run code)", str(error))
            return None
        if not isinstance(value, dict):
            findings.add(path, expected, f"a pickled {type(value).__name__}")
            return None
        data = _pickled_data(value, path, count, findings)
        labels = self._pickled_labels(value, path, count, findings)
        if data is None or labels is None:
            return None
        return Part(data.reshape(count, *SHAPE), np.array(labels, dtype=np.int64))

    def _pickled_labels(
        self, value: Mapping[Plain, Plain], path: Path, count: int, findings: Findings
    ) -> list[int] | None:
        labels = value.get(self.label_key.encode(), value.get(self.label_key))
        if not isinstance(labels, list):
            findings.add(
                path,
                f"`{self.label_key}` as a list",
                f"{'none' if labels is None else type(labels).__name__}",
            )
            return None
        whole = [label for label in labels if type(label) is int]
        if len(labels) != count or len(whole) != count:
            findings.add(
                path, f"{count:,} labels, all integers", f"{len(labels):,}, of them {len(whole):,} integers"
            )
            return None
        return whole if _labels_fit(whole, self.classes, path, findings) else None


def _pickled_data(value: Mapping[Plain, Plain], path: Path, count: int, findings: Findings) -> Images | None:
    data = value.get(b"data", value.get("data"))
    if isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape == (count, PIXELS):
        return data
    found = f"{data.dtype} {list(data.shape)}" if isinstance(data, np.ndarray) else "no such array"
    findings.add(path, f"`data` as uint8 [{count:,}, {PIXELS:,}]", found)
    return None


Format = BinaryFormat | PythonFormat


def _labels_fit(labels: Labels | list[int], classes: int, path: Path, findings: Findings) -> bool:
    """Say whether all labels lie in [0, classes); note the first that does not."""
    values = list(labels)
    wrong = next((at for at, label in enumerate(values) if not 0 <= label < classes), None)
    if wrong is None:
        return True
    findings.add(path, f"labels from 0 to {classes - 1}", f"the label {values[wrong]} in record {wrong}")
    return False


def reader(
    name: str,
    form: Format,
    class_names: tuple[str, ...],
    *,
    train: tuple[str, ...],
    test: str,
    names_file: str | None = None,
) -> Callable[[Place, Findings], ImageData | None]:
    """Return a reader of the training files `train` and the test file `test`, all of the same format."""

    def read(place: Place, findings: Findings) -> ImageData | None:
        if names_file is not None:
            _check_names(place.folder / names_file, class_names, findings)
        training = _read_all(place, train, form, findings)
        testing = _read_all(place, (test,), form, findings)
        findings.settle()
        if training is None or testing is None:
            return None
        return ImageData(
            name,
            training.images,
            training.labels,
            testing.images,
            testing.labels,
            class_names,
            place.is_sample,
        )

    return read


def read_first_4000(place: Place, findings: Findings) -> ImageData | None:
    """Return the first 4,000 training images of CIFAR-10: the first three quarters train, the others test."""
    _check_names(place.folder / "batches.meta.txt", CIFAR_10_CLASSES, findings)
    part = _read_all(place, ("data_batch_1.bin",), CIFAR_10_BINARY, findings)
    findings.settle()
    if part is None:
        return None
    x, y = part.images, part.labels
    cut = len(y) * FIRST_4000_TRAIN // 4_000
    return ImageData(
        "cifar-10-first4000", x[:cut], y[:cut], x[cut:], y[cut:], CIFAR_10_CLASSES, place.is_sample
    )


def _read_all(place: Place, files: tuple[str, ...], form: Format, findings: Findings) -> Part | None:
    """Return the records of all files in one array, or None if any of them is not as it should be."""
    total = sum(place.counts[file] for file in files)
    images = np.empty((total, *SHAPE), dtype=np.uint8)
    labels = np.empty(total, dtype=np.int64)
    whole, start = True, 0
    for file in files:
        part = form.read(place.folder / file, place.counts[file], findings)
        if part is None:
            whole = False
            continue
        end = start + len(part.labels)
        images[start:end], labels[start:end] = part.images, part.labels
        start = end
    return Part(images, labels) if whole else None


def _check_names(path: Path, class_names: tuple[str, ...], findings: Findings) -> None:
    """Note where the official list of class names, if it is there, has other names than ours."""
    if not path.exists():
        return
    content = findings.read(path, f"{len(class_names)} class names")
    if content is None:
        return
    names = tuple(content.decode("utf-8", "replace").split())
    if names != class_names:
        findings.add(
            path, f"the class names {class_names[0]} to {class_names[-1]}, one a line", " ".join(names[:12])
        )


CIFAR_10_BINARY = BinaryFormat(label_bytes=1, classes=10)
CIFAR_10_PYTHON = PythonFormat("labels", classes=10)
CIFAR_100_BINARY = BinaryFormat(label_bytes=2, classes=100)
CIFAR_100_PYTHON = PythonFormat("fine_labels", classes=100)

CIFAR_10_BINARY_FILES = (*(f"data_batch_{batch}.bin" for batch in range(1, 6)), "test_batch.bin")
CIFAR_10_PYTHON_FILES = (*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch")
CIFAR_100_BINARY_FILES = ("train.bin", "test.bin")
CIFAR_100_PYTHON_FILES = ("train", "test")

read_cifar_10_binary = reader(
    "cifar-10",
    CIFAR_10_BINARY,
    CIFAR_10_CLASSES,
    train=CIFAR_10_BINARY_FILES[:-1],
    test=CIFAR_10_BINARY_FILES[-1],
    names_file="batches.meta.txt",
)
read_cifar_10_python = reader(
    "cifar-10",
    CIFAR_10_PYTHON,
    CIFAR_10_CLASSES,
    train=CIFAR_10_PYTHON_FILES[:-1],
    test=CIFAR_10_PYTHON_FILES[-1],
)
read_cifar_100_binary = reader(
    "cifar-100",
    CIFAR_100_BINARY,
    CIFAR_100_CLASSES,
    train=("train.bin",),
    test="test.bin",
    names_file="fine_label_names.txt",
)
read_cifar_100_python = reader(
    "cifar-100", CIFAR_100_PYTHON, CIFAR_100_CLASSES, train=("train",), test="test"
)
