"""Data sets that are folders of images: CINIC-10, Tiny-ImageNet, and anyone's own.

CINIC-10 has `train/`, `valid/` and `test/` with one folder a class, 9,000 images each; as in Refining Design
Spaces, Section IV, 90,000 images train and 90,000 test, and the validation folder is not used. Tiny-ImageNet's
official test images have no labels, so its 10,000 validation images are the test part, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kdsearch.trainables.data.class_names import CIFAR_10_CLASSES
from kdsearch.trainables.data.findings import Findings, Place
from kdsearch.trainables.data.images import ImageData
from kdsearch.trainables.data.trees import (
    FolderTree,
    ImageReadError,
    Tree,
    ZipTree,
    image_files,
    image_shape,
    read_images,
)

TEST_FOLDERS = ("test", "val", "valid")
TINY_CLASSES = 200
TINY_SHAPE = (3, 64, 64)
SMALL_SHAPE = (3, 32, 32)

Part = tuple[list[str], list[int]]  # paths in the tree, and their labels


def class_folders(
    name: str,
    *,
    class_names: tuple[str, ...] | None = None,
    shape: tuple[int, int, int] | None = None,
    spare: tuple[str, ...] = (),
) -> Callable[[Place, Findings], ImageData | None]:
    """Return a reader of `train/<class>/` and `test/<class>/` (or `val/`, `valid/`), or of a zip of them.

    Without `class_names` the classes are the folders of `train`, sorted; without `shape` every image must be
    like the first. Parts named in `spare` are looked at by a check, where they exist, and never loaded.
    """

    def read(place: Place, findings: Findings) -> ImageData | None:
        with _open(place.folder, findings) as tree:
            if tree is None:
                return None
            top = _top(tree)
            names = class_names or tuple(tree.folders(f"{top}train"))
            if not names:
                findings.add(tree.where(f"{top}train"), "one folder a class", "no folders")
                return None
            test = _test_folder(tree, top, findings)
            train_part = _list_part(tree, f"{top}train", names, place.counts.get("train"), findings)
            test_part = _list_part(tree, f"{top}{test}", names, place.counts.get("test"), findings)
            findings.settle()
            wanted = shape or _first_shape(tree, train_part[0], findings)
            if wanted is None:
                return None
            train_images = read_images(tree, train_part[0], wanted, findings)
            test_images = read_images(tree, test_part[0], wanted, findings)
            if findings.collect_all:
                for part in (part for part in spare if tree.folders(part)):
                    paths, _ = _list_part(tree, part, names, place.counts.get(part), findings)
                    read_images(tree, paths, wanted, findings)
        return ImageData(
            name,
            train_images,
            np.array(train_part[1], dtype=np.int64),
            test_images,
            np.array(test_part[1], dtype=np.int64),
            names,
            place.is_sample,
        )

    return read


@contextmanager
def _open(folder: Path, findings: Findings) -> Iterator[Tree | None]:
    """Yield the folder itself where it has a `train` folder, else the one zip in it, else None."""
    zips = sorted(folder.glob("*.zip"))
    if (folder / "train").is_dir() or not zips:
        yield FolderTree(folder, findings.inside)
        return
    if len(zips) > 1:
        findings.add(folder, "one zip, or the folders train and test", f"{len(zips)} zips")
        findings.settle()
        yield None
        return
    findings.files += 1
    try:
        tree = ZipTree(zips[0], findings.inside)
    except ImageReadError as error:
        findings.add(zips[0], "a zip with the folders train and test", str(error))
        findings.settle()
        yield None
        return
    try:
        yield tree
    finally:
        tree.close()


def _top(tree: Tree) -> str:
    """Return the one folder that holds everything, with its slash, or the empty string."""
    folders = tree.folders("")
    inside_one = len(folders) == 1 and folders[0] != "train" and "train" in tree.folders(folders[0])
    return f"{folders[0]}/" if inside_one else ""


def _test_folder(tree: Tree, top: str, findings: Findings) -> str:
    present = tree.folders(top.rstrip("/"))
    found = next((name for name in TEST_FOLDERS if name in present), None)
    if found is None:
        findings.add(tree.where(f"{top}test"), "a folder with one folder a class", "no such folder")
    return found or TEST_FOLDERS[0]


def _list_part(tree: Tree, part: str, names: tuple[str, ...], count: int | None, findings: Findings) -> Part:
    """Return paths and labels of a part; note classes that are missing, unknown, empty or of another size."""
    folders = tree.folders(part)
    paths: list[str] = []
    labels: list[int] = []
    for unknown in sorted(set(folders) - set(names)):
        findings.add(tree.where(f"{part}/{unknown}"), f"one of the {len(names)} classes", "another folder")
    for label, name in enumerate(names):
        found = image_files(tree, f"{part}/{name}")
        expected = "images" if count is None else f"{count:,} images"
        if name not in folders:
            findings.add(tree.where(f"{part}/{name}"), f"a folder of {expected}", "no such folder")
        elif not found or (count is not None and len(found) != count):
            findings.add(tree.where(f"{part}/{name}"), expected, f"{len(found):,} PNG or JPEG files")
        paths += found
        labels += [label] * len(found)
    return paths, labels


def _first_shape(tree: Tree, paths: list[str], findings: Findings) -> tuple[int, int, int] | None:
    for path in paths[:1]:
        try:
            return image_shape(tree.read(path))
        except ImageReadError as error:
            findings.add(tree.where(path), "a PNG or JPEG", str(error))
            findings.settle()
    return None


def read_tiny_imagenet(place: Place, findings: Findings) -> ImageData | None:
    """Return Tiny-ImageNet: `train/<wnid>/images/`, and the annotated `val/images/` as the test part."""
    tree = FolderTree(place.folder, findings.inside)
    wnids = tuple(tree.folders("train"))
    if len(wnids) != TINY_CLASSES:
        findings.add(tree.where("train"), f"{TINY_CLASSES} folders, one a class", f"{len(wnids)}")
    paths: list[str] = []
    labels: list[int] = []
    for label, wnid in enumerate(wnids):
        found = image_files(tree, f"train/{wnid}/images")
        if len(found) != place.counts["train"]:
            findings.add(
                tree.where(f"train/{wnid}/images"), f"{place.counts['train']:,} images", f"{len(found):,}"
            )
        paths += found
        labels += [label] * len(found)
    test_paths, test_labels = _annotated(tree, place, wnids, findings)
    findings.settle()
    train_images = read_images(tree, paths, TINY_SHAPE, findings)
    test_images = read_images(tree, test_paths, TINY_SHAPE, findings)
    return ImageData(
        "tiny-imagenet",
        train_images,
        np.array(labels, dtype=np.int64),
        test_images,
        np.array(test_labels, dtype=np.int64),
        wnids,
        place.is_sample,
    )


def _annotated(tree: Tree, place: Place, wnids: tuple[str, ...], findings: Findings) -> Part:
    """Return the images of `val/` and their labels; a line is file, wnid and box, parted by tabs."""
    count = place.counts["val"] * TINY_CLASSES
    path = place.folder / "val" / "val_annotations.txt"
    content = findings.read(path, f"{count:,} lines of file name, wnid and box")
    if content is None:
        return [], []
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    present = set(tree.files("val/images"))
    paths: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in label_of:
            findings.add(
                f"{path}, line {number}", "a file name and one of the wnids in train/", repr(line[:60])
            )
        elif file not in present:
            findings.add(tree.where(f"val/images/{file}"), "the image of an annotation", "no such file")
        else:
            paths.append(f"val/images/{file}")
            labels.append(label_of[wnid])
    if not len(paths) == len(set(paths)) == count:
        found = f"{len(paths):,} that can be used, of {len(set(paths)):,} images"
        findings.add(path, f"annotations of {count:,} images", found)
    return paths, labels


read_cinic_10 = class_folders("cinic-10", class_names=CIFAR_10_CLASSES, shape=SMALL_SHAPE, spare=("valid",))
read_cifar_10_folders = class_folders("cifar-10-imagefolder", class_names=CIFAR_10_CLASSES, shape=SMALL_SHAPE)
