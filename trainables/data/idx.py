"""Fashion-MNIST in its official idx files, as `.gz` or unpacked.

An idx file begins with two zero bytes, the type (8: unsigned byte), the number of axes, and each axis's
length as a big-endian 32-bit integer; the values follow.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from kdsearch.trainables.data.findings import Findings, Place, reason
from kdsearch.trainables.data.images import ImageData, Images, Labels

IMAGE_FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABEL_FILES = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SIDE = 28
UNSIGNED_BYTE = 8
MAGIC_BYTES = 4


class _WrongIdxError(Exception):
    """The message says what was found instead of the expected file."""


def read_fashion_mnist(place: Place, findings: Findings) -> ImageData | None:
    """Return Fashion-MNIST, or None where `findings` tell why not."""
    images: dict[str, Images | None] = {}
    labels: dict[str, Labels | None] = {}
    for part in ("train", "test"):
        count = place.counts[part]
        images[part] = _read_images(place.folder / IMAGE_FILES[part], count, findings)
        labels[part] = _read_labels(place.folder / LABEL_FILES[part], count, findings)
    findings.settle()
    x, y, test_x, test_y = images["train"], labels["train"], images["test"], labels["test"]
    if x is None or y is None or test_x is None or test_y is None:
        return None
    return ImageData("fashion-mnist", x, y, test_x, test_y, FASHION_MNIST_CLASSES, place.is_sample)


def _read_images(stem: Path, count: int, findings: Findings) -> Images | None:
    values = _read_idx(stem, (count, SIDE, SIDE), findings)
    return None if values is None else values.reshape(count, 1, SIDE, SIDE)


def _read_labels(stem: Path, count: int, findings: Findings) -> Labels | None:
    values = _read_idx(stem, (count,), findings)
    if values is None:
        return None
    if int(values.max(initial=0)) >= len(FASHION_MNIST_CLASSES):
        findings.add(stem, "labels from 0 to 9", f"the label {int(values.max())}")
        return None
    return values.astype(np.int64)


def _read_idx(stem: Path, shape: tuple[int, ...], findings: Findings) -> Images | None:
    """Return the values of an idx file [shape] of unsigned bytes; note what is wrong and return None."""
    packed = stem.with_name(stem.name + ".gz")
    path = stem if stem.exists() and not packed.exists() else packed
    header = struct.pack(f">HBB{len(shape)}I", 0, UNSIGNED_BYTE, len(shape), *shape)
    size = len(header) + int(np.prod(shape))
    expected = (
        f"an idx file of {size:,} bytes unpacked ({' x '.join(f'{n:,}' for n in shape)} unsigned bytes)"
    )
    findings.files += 1
    try:
        content = _unpacked(path, size + 1, findings)
        _check_idx(content, header, size)
    except _WrongIdxError as error:
        findings.add(path, expected, str(error))
        return None
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape)


def _unpacked(path: Path, limit: int, findings: Findings) -> bytes:
    """Return at most `limit` bytes of the unpacked file."""
    try:
        with findings.open(path) as packed:
            if path.suffix != ".gz":
                return packed.read(limit)
            with gzip.open(packed) as file:
                return file.read(limit)
    except EOFError:
        raise _WrongIdxError("a gzip file that ends too early (truncated)") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _WrongIdxError(f"a damaged gzip file ({error})") from error
    except OSError as error:
        raise _WrongIdxError(reason(error)) from error


def _check_idx(content: bytes, header: bytes, size: int) -> None:
    """Raise where the content does not begin with `header` or has not `size` bytes."""
    if content[:MAGIC_BYTES] != header[:MAGIC_BYTES]:
        found = f"the magic number {content[:MAGIC_BYTES].hex()}" if content else "an empty file"
        raise _WrongIdxError(f"{found} where {header[:MAGIC_BYTES].hex()} should stand")
    if content[: len(header)] != header:
        lengths = [int.from_bytes(content[at : at + 4], "big") for at in range(MAGIC_BYTES, len(header), 4)]
        raise _WrongIdxError(f"axes of {' x '.join(f'{length:,}' for length in lengths)}")
    if len(content) != size:
        raise _WrongIdxError(
            "more bytes than that" if len(content) > size else f"{len(content):,} bytes (truncated)"
        )
