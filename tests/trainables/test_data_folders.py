"""Folders of images and zips of them: CINIC-10, Tiny-ImageNet, CIFAR-10 as JPEG files, and anyone's own."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdsearch.trainables.data import DataError, check, load_images, sample
from kdsearch.trainables.data.trees import FolderTree, ImageReadError, ZipTree, decode


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def own_images(rng: np.random.Generator, *, grey: bool = False) -> dict[str, tuple[bytes, np.ndarray]]:
    names = [
        f"{part}/{name}/{number}.png"
        for part, count in (("train", 3), ("test", 2))
        for name in ("ant", "bee")
        for number in range(count)
    ]
    shape = (6, 5) if grey else (6, 5, 3)
    pixels = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in names]
    return {name: (png(image), image) for name, image in zip(names, pixels, strict=True)}


def write_folder(folder: Path, files: dict[str, tuple[bytes, np.ndarray]]) -> None:
    for name, (content, _) in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("home", ["folder", "zip", "zip with one folder around it"])
@pytest.mark.parametrize("grey", [False, True])
def test_own_images_pixel_by_pixel(tmp_path: Path, home: str, *, grey: bool) -> None:
    files = own_images(np.random.default_rng(0), grey=grey)
    if home == "folder":
        write_folder(tmp_path / "insects", files)
        (tmp_path / "insects" / "train" / "ant" / "notes.txt").write_text("no image", encoding="utf-8")
        (tmp_path / "insects" / "train" / ".cache").mkdir()
    else:
        top = "insects-1.0/" if "around" in home else ""
        members = {top + name: content for name, (content, _) in files.items()}
        write_zip(tmp_path / "insects" / "all.zip", members | {"__MACOSX/train/ant/._0.png": b"x"})
    data = load_images("folder:insects", tmp_path)
    assert data.name == "folder:insects"
    assert data.class_names == ("ant", "bee")
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test_labels.tolist() == [0, 0, 1, 1]
    assert not data.is_sample
    wanted = [pixels for name, (_, pixels) in files.items() if name.startswith("train")]
    stacked = np.stack(wanted)
    channels_first = stacked[:, None] if grey else stacked.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(data.train_images, channels_first)


def test_own_images_can_lie_deeper_and_have_val_for_test(tmp_path: Path) -> None:
    files = own_images(np.random.default_rng(0))
    write_folder(tmp_path / "mine" / "insects", {n.replace("test", "val"): c for n, c in files.items()})
    assert len(load_images("folder:mine/insects", tmp_path).test_labels) == 4


@pytest.mark.parametrize(
    "name",
    ["folder:", "folder:.", "folder:..", "folder:a/../../b", "folder:/etc", "folder:a\\b", "folder:C:x"],
)
def test_names_cannot_leave_the_data_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="not a folder below the data root"):
        load_images(name, tmp_path)


@pytest.mark.parametrize(
    ("member", "found"),
    [
        ("../evil.png", "unsafe member name"),
        ("train/../../evil.png", "unsafe member name"),
        ("/etc/evil.png", "unsafe member name"),
        ("train\\..\\evil.png", "unsafe member name"),
        ("C:/evil.png", "unsafe member name"),
    ],
)
def test_zip_names_that_reach_outside_are_refused(tmp_path: Path, member: str, found: str) -> None:
    good = {name: content for name, (content, _) in own_images(np.random.default_rng(0)).items()}
    write_zip(tmp_path / "insects" / "all.zip", good | {member: b"x"})
    report = check("folder:insects", tmp_path)
    assert found in str(report.problems[0])
    assert "evil" in str(report.problems[0])
    assert not list(tmp_path.rglob("evil*"))


def test_zip_with_links_or_duplicates_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("train/ant/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ImageReadError, match="symbolic link"):
        ZipTree(path)
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train/a.png", "1")
        archive.writestr("train//a.png", "2")
    with pytest.raises(ImageReadError, match="twice"):
        ZipTree(path)


def test_damaged_zips_are_named(tmp_path: Path) -> None:
    folder = sample("cifar-10-imagefolder", tmp_path)
    path = next(folder.glob("*.zip"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "a damaged zip" in str(check("cifar-10-imagefolder", tmp_path).problems[0])
    path.write_bytes(whole[:3000] + bytes(500) + whole[3500:])
    report = check("cifar-10-imagefolder", tmp_path)
    assert report.problems
    assert all(f"{path}:train/airplane/" in found.path for found in report.problems)
    path.write_bytes(whole)
    (folder / "other.zip").write_bytes(whole)
    assert "found 2 zips" in str(check("cifar-10-imagefolder", tmp_path).problems[0])
    with pytest.raises(DataError, match="2 zips"):
        load_images("cifar-10-imagefolder", tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"no image", "no such image or damaged"),
        (png(np.zeros((32, 31, 3), np.uint8)), "an image of 32x31"),
        (png(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))[:900], "damaged"),
        (b"GIF89a" + bytes(100), "no such image or damaged"),
    ],
)
def test_files_that_are_no_such_image_are_named(tmp_path: Path, content: bytes, found: str) -> None:
    folder = sample("cinic-10", tmp_path)
    path = folder / "test" / "frog" / "made-up-test-3.png"
    path.write_bytes(content)
    problems = check("cinic-10", tmp_path).problems
    assert len(problems) == 1
    assert problems[0].path == str(path)
    assert problems[0].expected == "a 32x32 RGB PNG or JPEG"
    assert found in problems[0].found
    with pytest.raises(DataError, match="made-up-test-3"):
        load_images("cinic-10", tmp_path)


def test_grey_files_in_a_coloured_set_become_grey_colours() -> None:
    grey = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    image = decode(png(grey), (3, 32, 32))
    assert image.shape == (3, 32, 32)
    assert all(np.array_equal(channel, grey) for channel in image)


def test_cinic_10_counts_are_expected_in_every_class(tmp_path: Path) -> None:
    folder = sample("cinic-10", tmp_path)
    data = load_images("cinic-10", tmp_path)
    assert (len(data.train_labels), len(data.test_labels)) == (300, 100)
    (folder / "train" / "cat" / "made-up-train-0.png").unlink()
    (folder / "valid" / "dog" / "made-up-valid-0.png").unlink()
    (folder / "test" / "ship").rename(folder / "test" / "boat")
    found = [str(problem) for problem in check("cinic-10", tmp_path).problems]
    assert found == [
        f"{folder}/train/cat: expected 30 images, found 29 PNG or JPEG files",
        f"{folder}/test/boat: expected one of the 10 classes, found another folder",
        f"{folder}/test/ship: expected a folder of 10 images, found no such folder",
        f"{folder}/valid/dog: expected 10 images, found 9 PNG or JPEG files",
    ]
    (folder / "KDSEARCH_SAMPLE.json").unlink()
    assert "expected 9,000 images" in str(check("cinic-10", tmp_path).problems[0])


def test_folder_without_test_part_is_an_error(tmp_path: Path) -> None:
    files = own_images(np.random.default_rng(0))
    write_folder(tmp_path / "insects", {n: c for n, c in files.items() if n.startswith("train")})
    assert "insects/test: expected a folder" in str(check("folder:insects", tmp_path).problems[0])
    (tmp_path / "empty" / "train").mkdir(parents=True)
    assert "one folder a class" in str(check("folder:empty", tmp_path).problems[0])


def test_tiny_imagenet_takes_labels_from_the_annotations(tmp_path: Path) -> None:
    folder = sample("tiny-imagenet", tmp_path)
    data = load_images("tiny-imagenet", tmp_path)
    assert data.shape == (3, 64, 64)
    assert data.classes == 200
    assert np.bincount(data.train_labels).tolist() == [3] * 200
    assert sorted(data.test_labels) == list(range(200))
    first = (folder / "val" / "val_annotations.txt").read_text(encoding="utf-8").split()[:2]
    assert data.class_names[data.test_labels[0]] == first[1]
    with Image.open(folder / "val" / "images" / first[0]) as image:
        np.testing.assert_array_equal(data.test_images[0].transpose(1, 2, 0), np.asarray(image))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("n00000003\t", "n99999999\t", "one of the wnids in train/"),
        ("val_7.JPEG", "../../val_7.JPEG", "no such file"),
        ("val_7.JPEG", "val_8.JPEG", "of 199 images"),
        ("\t", " ", "one of the wnids in train/"),
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, old: str, new: str, found: str) -> None:
    path = sample("tiny-imagenet", tmp_path) / "val" / "val_annotations.txt"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_images("tiny-imagenet", tmp_path)
    assert found in str(caught.value)


def test_tiny_imagenet_without_classes_or_annotations(tmp_path: Path) -> None:
    folder = sample("tiny-imagenet", tmp_path)
    (folder / "val" / "val_annotations.txt").unlink()
    (folder / "train" / "n00000003" / "images" / "n00000003_0.JPEG").unlink()
    (folder / "train" / "n00000199").rename(tmp_path / "elsewhere")
    found = [str(problem) for problem in check("tiny-imagenet", tmp_path).problems]
    assert "expected 200 folders, one a class, found 199" in found[0]
    assert "n00000003/images: expected 3 images, found 2" in found[1]
    assert (
        "val_annotations.txt: expected 200 lines of file name, wnid and box, found no such file" in found[2]
    )


def test_trees_list_alike(tmp_path: Path) -> None:
    files = own_images(np.random.default_rng(0))
    write_folder(tmp_path / "tree", files)
    write_zip(tmp_path / "tree.zip", {name: content for name, (content, _) in files.items()})
    folder, archive = FolderTree(tmp_path / "tree"), ZipTree(tmp_path / "tree.zip")
    for place in ("", "train", "train/ant", "nowhere"):
        assert folder.folders(place) == archive.folders(place)
        assert folder.files(place) == archive.files(place)
    assert folder.read("train/ant/0.png") == archive.read("train/ant/0.png")
    archive.close()
