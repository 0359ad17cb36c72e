"""The official formats, read and refused: idx, CIFAR's binary files, CIFAR's pickles."""

from __future__ import annotations

import builtins
import functools
import gzip
import json
import os
import pickle
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kdsearch.trainables.data import DataError, check, load_images, sample
from kdsearch.trainables.data.class_names import CIFAR_10_CLASSES, CIFAR_100_CLASSES
from kdsearch.trainables.data.pickled import RefusedPickleError, load_plain

CIFAR_10_TRAIN = [f"data_batch_{batch}.bin" for batch in range(1, 6)]


def marker(folder: Path, name: str, counts: dict[str, int]) -> None:
    (folder / "KDSEARCH_SAMPLE.json").write_text(
        json.dumps({"data_set": name, "seed": 0, "counts": counts}), encoding="utf-8"
    )


def problem(name: str, root: Path) -> str:
    """Return the only problem; loading must tell the same as a check."""
    report = check(name, root)
    assert len(report.problems) == 1, str(report)
    with pytest.raises(DataError) as caught:
        load_images(name, root)
    assert caught.value.exit_code == 2
    assert caught.value.problems == report.problems
    assert report.hint == caught.value.hint
    return str(report.problems[0])


def test_class_names_are_complete() -> None:
    assert len(set(CIFAR_100_CLASSES)) == len(CIFAR_100_CLASSES) == 100
    assert list(CIFAR_100_CLASSES) == sorted(CIFAR_100_CLASSES)  # the official order is the alphabet
    assert list(CIFAR_10_CLASSES) == sorted(CIFAR_10_CLASSES)


# -- idx ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    sample("fashion-mnist", tmp_path)
    return tmp_path / "fashion-mnist"


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.mark.parametrize("packed", [True, False])
def test_idx_round_trip(tmp_path: Path, *, packed: bool) -> None:
    rng = np.random.default_rng(1)
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    wanted = {}
    for part, stem, count in (("train", "train", 12), ("test", "t10k", 5)):
        x = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        y = rng.integers(0, 10, count, dtype=np.uint8)
        wanted[part] = x, y
        for kind, values in (("images-idx3", x), ("labels-idx1", y)):
            content = idx(values)
            path = folder / f"{stem}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    marker(folder, "fashion-mnist", {"train": 12, "test": 5})
    data = load_images("fashion-mnist", tmp_path)
    np.testing.assert_array_equal(data.train_images[:, 0], wanted["train"][0])
    np.testing.assert_array_equal(data.train_labels, wanted["train"][1])
    np.testing.assert_array_equal(data.test_images[:, 0], wanted["test"][0])
    np.testing.assert_array_equal(data.test_labels, wanted["test"][1])
    assert data.shape == (1, 28, 28)
    assert data.is_sample


def change(content: bytes, damage: str) -> bytes:
    match damage:
        case "magic":
            return b"\x00\x00\x0d\x03" + content[4:]
        case "axes":
            return content[:4] + struct.pack(">I", 601) + content[8:]
        case "short":
            return content[:-1]
        case "long":
            return content + b"\x00"
    raise AssertionError(damage)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("magic", "magic number 00000d03 where 00000803"),
        ("axes", "axes of 601 x 28 x 28"),
        ("short", "470,415 bytes (truncated)"),
        ("long", "more bytes than that"),
    ],
)
def test_wrong_idx_file_is_named(fashion: Path, damage: str, found: str) -> None:
    path = fashion / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()), damage)))
    text = problem("fashion-mnist", fashion.parent)
    assert str(path) in text
    assert "470,416 bytes unpacked (600 x 28 x 28 unsigned bytes)" in text  # 16 + 600 * 784
    assert found in text


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "no such file"),
        (b"", "an empty file"),
        (b"no gzip at all", "damaged gzip"),
        ("half", "ends too early (truncated)"),
        ("flip", "damaged gzip file (CRC check failed"),
    ],
)
def test_damaged_gzip_file_is_named(fashion: Path, content: bytes | str | None, found: str) -> None:
    path = fashion / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.unlink()
    if content == "half":
        path.write_bytes(whole[: len(whole) // 2])
    elif content == "flip":
        path.write_bytes(whole[:-8] + bytes(byte ^ 255 for byte in whole[-8:-4]) + whole[-4:])  # the checksum
    elif isinstance(content, bytes):
        path.write_bytes(content)
    text = problem("fashion-mnist", fashion.parent)
    assert str(path) in text
    assert found in text


def test_labels_beyond_the_classes_are_refused(fashion: Path) -> None:
    path = fashion / "train-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[100] = 10
    path.write_bytes(gzip.compress(bytes(content)))
    assert "expected labels from 0 to 9, found the label 10" in problem("fashion-mnist", fashion.parent)


def test_check_collects_every_problem(fashion: Path) -> None:
    (fashion / "train-images-idx3-ubyte.gz").unlink()
    (fashion / "t10k-labels-idx1-ubyte.gz").write_bytes(b"?")
    report = check("fashion-mnist", fashion.parent)
    assert [Path(found.path).name for found in report.problems] == [
        "train-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ]
    assert report.files == 5  # four idx files and the marker
    assert "github.com/zalandoresearch/fashion-mnist" in str(report)
    assert not report.ok


# -- CIFAR binary ---------------------------------------------------------------------------------------------------


def test_cifar_10_binary_layout(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(2)
    images, labels = [], []
    for file in [*CIFAR_10_TRAIN, "test_batch.bin"]:
        x = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
        y = rng.integers(0, 10, 4)
        (folder / file).write_bytes(b"".join(bytes([c]) + i.tobytes() for i, c in zip(x, y, strict=True)))
        images.append(x)
        labels.append(y)
    marker(folder, "cifar-10", dict.fromkeys([*CIFAR_10_TRAIN, "test_batch.bin"], 4))
    data = load_images("cifar-10", tmp_path)
    np.testing.assert_array_equal(data.train_images, np.concatenate(images[:5]))
    np.testing.assert_array_equal(data.train_labels, np.concatenate(labels[:5]))
    np.testing.assert_array_equal(data.test_images, images[5])
    np.testing.assert_array_equal(data.test_labels, labels[5])
    assert data.class_names == CIFAR_10_CLASSES


def test_cifar_100_binary_takes_the_fine_label(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"  # the official archive's folder, straight below the data root
    folder.mkdir()
    rng = np.random.default_rng(3)
    for file in ("train.bin", "test.bin"):
        x = rng.integers(0, 256, (3, 3072), dtype=np.uint8)
        (folder / file).write_bytes(
            b"".join(bytes([19, fine]) + row.tobytes() for fine, row in zip((7, 99, 0), x, strict=True))
        )
    marker(folder, "cifar-100", {"train.bin": 3, "test.bin": 3})
    data = load_images("cifar-100", tmp_path)
    assert data.train_labels.tolist() == [7, 99, 0]
    np.testing.assert_array_equal(data.test_images.reshape(3, -1), x)
    assert data.classes == 100


def test_official_sizes_are_expected_without_a_marker(tmp_path: Path) -> None:
    """A truncated download is an error, also when it is whole records long."""
    folder = tmp_path / "cifar-10"
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes(bytes(4000 * 3073))
    report = check("cifar-10", tmp_path)
    assert len(report.problems) == 6
    assert "data_batch_1.bin: expected 30,730,000 bytes (10,000 records of 3,073)" in str(report.problems[0])
    assert "found 12,292,000 bytes (truncated)" in str(report.problems[0])
    assert all(found.found == "no such file" for found in report.problems[1:])
    with pytest.raises(DataError) as caught:
        load_images("cifar-10", tmp_path)
    assert len(caught.value.problems) == 6


def test_wrong_label_and_wrong_names_are_named(tmp_path: Path) -> None:
    folder = sample("cifar-10", tmp_path)
    path = folder / "data_batch_3.bin"
    content = bytearray(path.read_bytes())
    content[5 * 3073] = 200
    path.write_bytes(content)
    assert "labels from 0 to 9, found the label 200 in record 5" in problem("cifar-10", tmp_path)
    path.write_bytes(bytes(content[: 5 * 3073]) + b"\x01" + bytes(content[5 * 3073 + 1 :]))
    (folder / "batches.meta.txt").write_text("cat\ndog\n", encoding="utf-8")
    assert "airplane to truck, one a line, found cat dog" in problem("cifar-10", tmp_path)


# -- CIFAR pickles --------------------------------------------------------------------------------------------------


def python_2_pickle(data: np.ndarray, label_key: bytes, labels: list[int]) -> bytes:
    """Return the pickle of a CIFAR batch opcode by opcode as Python 2 and NumPy 1 wrote it (protocol 2)."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    rows, columns = data.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + number(rows)
        + number(columns)
        + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T"
        + struct.pack("<i", data.size)
        + data.tobytes()
        + b"tb"
    )
    items = (
        text(b"batch_label")
        + text(b"training batch 1 of 5")
        + text(label_key)
        + b"]("
        + b"".join(map(number, labels))
        + b"e"
        + text(b"data")
        + array
        + text(b"filenames")
        + b"]("
        + text(b"a.png")
        + b"e"
    )
    return b"\x80\x02}(" + items + b"u."


@pytest.mark.parametrize("writer", ["python 2", 2, 4, 5])
def test_pickled_cifar_10(tmp_path: Path, writer: str | int) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(4)
    files = [*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch"]
    images, labels = [], []
    for file in files:
        x = rng.integers(0, 256, (3, 3072), dtype=np.uint8)
        y = [int(label) for label in rng.integers(0, 10, 3)]
        content = {"data": x, "labels": y, "batch_label": b"\xff", "filenames": ["a.png"]}
        pickled = (
            python_2_pickle(x, b"labels", y)
            if writer == "python 2"
            else pickle.dumps(content, protocol=int(writer))
        )
        (folder / file).write_bytes(pickled)
        images.append(x.reshape(3, 3, 32, 32))
        labels += y
    marker(folder, "cifar-10", dict.fromkeys(files, 3))
    data = load_images("cifar-10", tmp_path)
    np.testing.assert_array_equal(data.train_images, np.concatenate(images[:5]))
    np.testing.assert_array_equal(data.test_images, images[5])
    assert [*data.train_labels, *data.test_labels] == labels


def test_pickled_cifar_100_takes_the_fine_label(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100"
    folder.mkdir()
    x = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
    for file in ("train", "test"):
        (folder / file).write_bytes(python_2_pickle(x, b"fine_labels", [98, 3]))
    marker(folder, "cifar-100", {"train": 2, "test": 2})
    assert load_images("cifar-100", tmp_path).train_labels.tolist() == [98, 3]


class Attack:
    """Runs a function when it is unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    folder = sample("cifar-100", tmp_path)
    for file in ("train.bin", "test.bin"):
        (folder / file).unlink()
    marker(folder, "cifar-100", {"train": 2, "test": 2})
    victim = tmp_path / "victim"
    attack = {"data": Attack(Path.touch, victim), "fine_labels": [1]}
    (folder / "train").write_bytes(pickle.dumps(attack, protocol=protocol))
    (folder / "test").write_bytes(python_2_pickle(np.zeros((2, 3072), np.uint8), b"fine_labels", [0, 1]))
    text = problem("cifar-100", tmp_path)
    assert "a pickle can run code" in text
    assert "found the name" in text
    assert not victim.exists()


def harmful() -> list[object]:
    return [
        Attack(os.system, "exit 1"),
        Attack(builtins.eval, "1"),
        Attack(builtins.getattr, "x", "y"),
        Attack(subprocess.Popen, ["true"]),
        Attack(functools.partial, len),  # not print: Ray puts its own in its place
        Attack(np.load, "x"),
        Attack(np.frombuffer, b"x"),
        Attack(np.ndarray.tofile, np.zeros(1), "x"),
        {1, 2},
        frozenset([1]),
        None,
        (1, 2),
        complex(1, 2),
        Path("x"),
        np.array([None, "x"], dtype=object),
        np.array(["text"]),
        np.zeros(1, dtype=[("a", "u1")]),
        [{"deep": [{"er": {1}}]}],
        {(1, 2): 3},
    ]


@pytest.mark.parametrize("value", harmful(), ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("protocol", [2, 5])
def test_unpickler_admits_nothing_else(value: object, protocol: int) -> None:
    with pytest.raises(RefusedPickleError):
        load_plain(pickle.dumps(value, protocol=protocol))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\x80\x05.",
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL and REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x02\x82\x01.",  # an extension code
        b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",  # a huge array that nothing fills
        b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.",  # the type of objects
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x05rot13\x86R.",  # another codec
        b"Pperson\n.",  # a persistent id
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",  # bytes that are longer than the file
        b"]q\x00h\x00a.",  # a list that holds itself
        pickle.dumps(list(range(50)))[:-20],
    ],
)
def test_crafted_and_damaged_pickles_are_refused(content: bytes) -> None:
    with pytest.raises(RefusedPickleError):
        load_plain(content)


def test_array_whose_bytes_do_not_fill_its_shape_is_refused() -> None:
    whole = python_2_pickle(np.zeros((2, 3), np.uint8), b"labels", [1])
    wider = whole.replace(b"J" + struct.pack("<i", 3) + b"\x86", b"J" + struct.pack("<i", 4) + b"\x86")
    with pytest.raises(RefusedPickleError, match="6 bytes"):
        load_plain(wider)


def test_plain_values_come_back() -> None:
    value = {
        "arrays": [np.arange(6, dtype=dtype).reshape(2, 3) for dtype in ("u1", "<i4", ">i4", "f8")],
        "fortran": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
        b"bytes": b"\x00\xff",
        "numbers": [1, -5, 2**70, 1.5, True],
    }
    for protocol in (2, 3, 4, 5):
        back = load_plain(pickle.dumps(value, protocol=protocol))
        assert isinstance(back, dict)
        np.testing.assert_equal(back, value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1], "a pickled list"),
        ({"labels": [1, 2]}, "no such array"),
        ({"data": np.zeros((2, 3072), np.uint8)}, "none"),
        ({"data": np.zeros((2, 3072)), "labels": [1, 2]}, "float64 [2, 3072]"),
        ({"data": np.zeros((3, 3072), np.uint8), "labels": [1, 2]}, "uint8 [3, 3072]"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "1, of them 1 integers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, "2"]}, "2, of them 1 integers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, -1]}, "the label -1 in record 1"),
    ],
)
def test_pickles_of_the_wrong_shape_are_named(tmp_path: Path, content: object, found: str) -> None:
    folder = tmp_path / "cifar-10"
    folder.mkdir()
    files = [*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch"]
    good = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2]}, protocol=2)
    for file in files:
        (folder / file).write_bytes(good)
    (folder / "data_batch_4").write_bytes(pickle.dumps(content, protocol=2))
    marker(folder, "cifar-10", dict.fromkeys(files, 2))
    problems = check("cifar-10", tmp_path).problems
    assert {Path(found.path).name for found in problems} == {"data_batch_4"}
    assert found in problems[0].found
