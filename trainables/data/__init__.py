"""Image data sets: load, check, make up samples, split, augment.

Nothing here imports torch; `kdsearch.trainables.data.batches` does, and makes batches from a `Split`.
"""

from kdsearch.trainables.data.augmentation import NO_AUGMENTATION, PAPER_AUGMENTATION, Augmentation, PadMode
from kdsearch.trainables.data.findings import DataError, Problem
from kdsearch.trainables.data.images import ImageData
from kdsearch.trainables.data.loading import CheckReport, check, forget_loaded, load_images
from kdsearch.trainables.data.registry import DataSet, augmentation_for, data_set, data_set_names
from kdsearch.trainables.data.roots import DATA_ROOT_VARIABLE, resolve_data_root
from kdsearch.trainables.data.samples import sample
from kdsearch.trainables.data.splits import DataSettings, Split, make_split

__all__ = [
    "DATA_ROOT_VARIABLE",
    "NO_AUGMENTATION",
    "PAPER_AUGMENTATION",
    "Augmentation",
    "CheckReport",
    "DataError",
    "DataSet",
    "DataSettings",
    "ImageData",
    "PadMode",
    "Problem",
    "Split",
    "augmentation_for",
    "check",
    "data_set",
    "data_set_names",
    "forget_loaded",
    "load_images",
    "make_split",
    "resolve_data_root",
    "sample",
]
