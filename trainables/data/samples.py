"""Small made-up data sets in the official formats, so that everything can be tried without the real files.

Each class is a coarse random pattern; an image is its class's pattern with noise. A network can learn it, and
it says nothing about the real data: the marker file makes every loader and report say so.
"""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data import cifar, folders, idx
from kdsearch.trainables.data.class_names import CIFAR_10_CLASSES, CIFAR_100_CLASSES
from kdsearch.trainables.data.findings import DataError, reason
from kdsearch.trainables.data.images import Images, Labels
from kdsearch.trainables.data.marker import Marker
from kdsearch.trainables.data.registry import SAMPLED, data_set
from kdsearch.trainables.seeds import derive_seed

PATTERN_CELLS = 4  # along each side of an image
NOISE = 40.0  # standard deviation, in grey levels of 256


@dataclass(frozen=True)
class Maker:
    """Makes up images of one kind."""

    rng: np.random.Generator
    patterns: Images  # [classes, C, H, W]

    @classmethod
    def of(cls, seed: int, classes: int, shape: tuple[int, int, int]) -> Maker:
        """Return a maker with its own pattern for each class."""
        rng = np.random.default_rng(seed)
        channels, rows, columns = shape
        coarse = rng.integers(40, 216, (classes, channels, PATTERN_CELLS, PATTERN_CELLS), dtype=np.uint8)
        patterns = coarse.repeat(rows // PATTERN_CELLS, axis=2).repeat(columns // PATTERN_CELLS, axis=3)
        return cls(rng, patterns)

    def images(self, labels: Labels) -> Images:
        """Return one image [n, C, H, W] for each label."""
        noise = self.rng.normal(0.0, NOISE, (len(labels), *self.patterns.shape[1:]))
        return np.clip(np.rint(self.patterns[labels] + noise), 0, 255).astype(np.uint8)

    def records(self, count: int) -> tuple[Images, Labels]:
        """Return `count` images in random order and their labels; all classes alike, give or take one."""
        labels = self.rng.permutation(np.arange(count) % len(self.patterns)).astype(np.int64)
        return self.images(labels), labels


Writer = Callable[[Path, int], Mapping[str, int]]  # folder, seed -> the counts of the marker


def sample(name: str, directory: str | Path, seed: int = 0) -> Path:
    """Write a small made-up set in the official format of `name` below `directory`, and return its folder.

    `directory` then serves as a data root. Equal seeds give equal files. Nothing is left half written. Raises
    `UnknownNameError` for an unknown name, `UsageError` for a set that needs no sample or a folder that is in
    use, and `DataError` where the files cannot be written.
    """
    known = data_set(name)
    if name not in SAMPLED:
        why = "comes with an installed package" if known.bundled else "is made of your own images"
        raise UsageError(f"data set {name!r} {why}: there is nothing to make up")
    root = Path(directory).expanduser()
    target = root / known.layouts[0].folders[0]
    if target.exists():
        raise UsageError(f"{target} exists already", "Give another directory, or move that folder away.")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".kdsearch-sample-") as scratch:
            draft = Path(scratch) / target.name
            draft.mkdir()
            counts = WRITERS[name](draft, derive_seed(seed, "sample", name))
            Marker(name, seed, counts).write(draft)
            draft.rename(target)
    except OSError as error:
        raise DataError(f"the sample of {name!r} cannot be written to {target}: {reason(error)}") from error
    return target


def _write_fashion_mnist(folder: Path, seed: int) -> Mapping[str, int]:
    counts = {"train": 600, "test": 100}
    maker = Maker.of(seed, len(idx.FASHION_MNIST_CLASSES), (1, idx.SIDE, idx.SIDE))
    for part, count in counts.items():
        images, labels = maker.records(count)
        _write_idx(folder / f"{idx.IMAGE_FILES[part]}.gz", images[:, 0])
        _write_idx(folder / f"{idx.LABEL_FILES[part]}.gz", labels.astype(np.uint8))
    return counts


def _write_idx(path: Path, values: Images) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, idx.UNSIGNED_BYTE, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), mtime=0))


def _cifar_10_writer(counts: Mapping[str, int]) -> Writer:
    def write(folder: Path, seed: int) -> Mapping[str, int]:
        maker = Maker.of(seed, len(CIFAR_10_CLASSES), cifar.SHAPE)
        for file, count in counts.items():
            images, labels = maker.records(count)
            heads = labels[:, None].astype(np.uint8)
            (folder / file).write_bytes(np.hstack([heads, images.reshape(count, -1)]).tobytes())
        (folder / "batches.meta.txt").write_text("\n".join(CIFAR_10_CLASSES) + "\n", encoding="utf-8")
        return counts

    return write


def _write_cifar_100(folder: Path, seed: int) -> Mapping[str, int]:
    counts = {"train.bin": 1_000, "test.bin": 200}
    maker = Maker.of(seed, len(CIFAR_100_CLASSES), cifar.SHAPE)
    for file, count in counts.items():
        images, labels = maker.records(count)
        heads = np.stack([labels // 5, labels], axis=1).astype(np.uint8)  # 20 coarse classes, made up as well
        (folder / file).write_bytes(np.hstack([heads, images.reshape(count, -1)]).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(CIFAR_100_CLASSES) + "\n", encoding="utf-8")
    return counts


def _encoded(image: Images, kind: str) -> bytes:
    """Return one image [C, H, W] as a PNG or JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, format=kind)
    return stream.getvalue()


def _write_cinic_10(folder: Path, seed: int) -> Mapping[str, int]:
    counts = {"train": 30, "valid": 10, "test": 10}
    maker = Maker.of(seed, len(CIFAR_10_CLASSES), folders.SMALL_SHAPE)
    for part, count in counts.items():
        for label, name in enumerate(CIFAR_10_CLASSES):
            (folder / part / name).mkdir(parents=True)
            for number, image in enumerate(maker.images(np.full(count, label))):
                (folder / part / name / f"made-up-{part}-{number}.png").write_bytes(_encoded(image, "PNG"))
    return counts


def _write_cifar_10_folders(folder: Path, seed: int) -> Mapping[str, int]:
    counts = {"train": 30, "test": 10}
    maker = Maker.of(seed, len(CIFAR_10_CLASSES), folders.SMALL_SHAPE)
    with zipfile.ZipFile(folder / "cifar10-jpeg-made-up.zip", "w", zipfile.ZIP_STORED) as archive:
        for part, count in counts.items():
            for label, name in enumerate(CIFAR_10_CLASSES):
                for number, image in enumerate(maker.images(np.full(count, label))):
                    member = zipfile.ZipInfo(f"{part}/{name}/{number:04}.jpg")  # a fixed date: equal files
                    archive.writestr(member, _encoded(image, "JPEG"))
    return counts


def _write_tiny_imagenet(folder: Path, seed: int) -> Mapping[str, int]:
    counts = {"train": 3, "val": 1}
    maker = Maker.of(seed, folders.TINY_CLASSES, folders.TINY_SHAPE)
    wnids = [f"n{label:08}" for label in range(folders.TINY_CLASSES)]
    for label, wnid in enumerate(wnids):
        inside = folder / "train" / wnid / "images"
        inside.mkdir(parents=True)
        for number, image in enumerate(maker.images(np.full(counts["train"], label))):
            (inside / f"{wnid}_{number}.JPEG").write_bytes(_encoded(image, "JPEG"))
    val = folder / "val" / "images"
    val.mkdir(parents=True)
    images, labels = maker.records(counts["val"] * folders.TINY_CLASSES)
    lines = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (val / f"val_{number}.JPEG").write_bytes(_encoded(image, "JPEG"))
        lines.append(f"val_{number}.JPEG\t{wnids[label]}\t0\t0\t63\t63\n")
    (val.parent / "val_annotations.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "wnids.txt").write_text("\n".join(wnids) + "\n", encoding="utf-8")
    return counts


WRITERS: Mapping[str, Writer] = {
    "fashion-mnist": _write_fashion_mnist,
    "cifar-10": _cifar_10_writer(dict.fromkeys(cifar.CIFAR_10_BINARY_FILES, 100)),
    "cifar-10-first4000": _cifar_10_writer({"data_batch_1.bin": 400}),
    "cifar-10-imagefolder": _write_cifar_10_folders,
    "cifar-100": _write_cifar_100,
    "cinic-10": _write_cinic_10,
    "tiny-imagenet": _write_tiny_imagenet,
}
