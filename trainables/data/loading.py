"""Find a data set, load it once a process, or check every file of it. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

from kdsearch.trainables.data.findings import SHOWN_PROBLEMS, DataError, Findings, Place, Problem, reason
from kdsearch.trainables.data.images import ImageData
from kdsearch.trainables.data.inside import Inside
from kdsearch.trainables.data.marker import read_marker
from kdsearch.trainables.data.registry import DataSet, Layout, data_set
from kdsearch.trainables.data.roots import HOW_TO_SET, resolve_data_root

CACHED_DATA_SETS = 2
LISTED_FILES = 3


def load_images(name: str, root: str | Path | None = None) -> ImageData:
    """Return the data set `name` from below the data root (`root`, else KDSEARCH_DATA; digits needs none).

    A process loads a data set once and shares its read-only arrays. Raises `UnknownNameError`, and
    `DataError` naming each file that is missing or wrong, what was expected, what was found and where to get
    it.
    """
    known = data_set(name)
    if known.bundled:
        return _load(name, None)
    folder = resolve_data_root(root)
    if folder is None:
        raise DataError(
            f"data set {name!r} needs a data root, and none is given", f"{HOW_TO_SET}\n{known.hint}"
        )
    return _load(name, folder.resolve())


def forget_loaded() -> None:
    """Forget the data sets that this process has loaded, so that changed files are read again."""
    _load.cache_clear()


@lru_cache(maxsize=CACHED_DATA_SETS)
def _load(name: str, root: Path | None) -> ImageData:
    known = data_set(name)
    findings = Findings(name, known.hint)
    data = _read(known, root, findings)[1]
    findings.settle()
    if data is None:
        raise AssertionError(f"the reader of {name} found nothing wrong and returned nothing")
    return data


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a look at every file of a data set found. `train` and `test` count images; None where unknown."""

    name: str
    title: str
    folder: Path | None  # None: bundled, or not found
    files: int  # files looked at, members of a zip included
    problems: tuple[Problem, ...]
    hint: str
    is_sample: bool = False
    train: int | None = None
    test: int | None = None
    classes: int | None = None
    shape: tuple[int, int, int] | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is there and whole."""
        return not self.problems

    def error(self) -> DataError | None:
        """Return the problems as the error that loading would raise, or None."""
        return None if self.ok else DataError.of(self.name, self.problems, self.hint)

    def to_dict(self) -> Mapping[str, object]:
        """Return the report as JSON-able values."""
        return {
            "name": self.name,
            "ok": self.ok,
            "folder": None if self.folder is None else str(self.folder),
            "files": self.files,
            "is_sample": self.is_sample,
            "train": self.train,
            "test": self.test,
            "classes": self.classes,
            "shape": None if self.shape is None else list(self.shape),
            "problems": [vars(problem) for problem in self.problems],
            "hint": None if self.ok else self.hint,
        }

    def __str__(self) -> str:
        if self.shape is None or not self.ok:
            lines = [f"{self.title}: {len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"]
            lines += [f"  - {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
            hidden = len(self.problems) - SHOWN_PROBLEMS
            return "\n".join([*lines, *([f"  - and {hidden} more"] if hidden > 0 else []), self.hint])
        channels, rows, columns = self.shape
        made_up = " This is a made-up sample, not the real data." if self.is_sample else ""
        return (
            f"{self.title}: {self.train:,} training and {self.test:,} test images of {self.classes} classes, "
            f"{rows}x{columns} {'grey' if channels == 1 else 'RGB'}; all whole "
            f"({'bundled' if self.folder is None else self.folder}).{made_up}"
        )


def check(name: str, root: str | Path | None = None) -> CheckReport:
    """Look at every file of the data set and collect everything that is wrong, rather than stop at the first.

    Raises `UnknownNameError` for an unknown name and `DataError` for a data root that does not exist; what is
    wrong with the files stands in the report.
    """
    known = data_set(name)
    findings = Findings(name, known.hint, collect_all=True)
    folder = None if known.bundled else resolve_data_root(root)
    place, data = None, None
    if folder is None and not known.bundled:
        findings.add("data root", "a folder given by --data-root or KDSEARCH_DATA", "none given")
    else:
        place, data = _read(known, folder, findings)
    report = CheckReport(
        name=name,
        title=known.title,
        folder=place.folder if place is not None and not known.bundled else None,
        files=findings.files,
        problems=tuple(findings.problems),
        hint=known.hint,
        is_sample=place is not None and place.is_sample,
    )
    if data is None or findings.problems:
        return report
    return replace(
        report,
        train=len(data.train_labels),
        test=len(data.test_labels),
        classes=data.classes,
        shape=data.shape,
    )


def _read(known: DataSet, root: Path | None, findings: Findings) -> tuple[Place | None, ImageData | None]:
    if known.bundled or root is None:
        place = Place(Path(), {})
        return place, known.layouts[0].read(place, findings)
    try:
        found = _find(known, root)
        if found is None:
            _note_absence(known, root, findings)
    except OSError as error:
        found = None
        findings.add(error.filename or root, "a folder that can be read", reason(error))
    findings.settle()
    if found is None:
        return None, None
    layout, folder = found
    findings.inside = Inside(folder, root)
    marker = read_marker(folder, known.name, layout.counts, findings)
    findings.settle()
    counts = layout.counts if marker is None else {**layout.counts, **marker.counts}
    place = Place(folder, counts, is_sample=marker is not None)
    return place, layout.read(place, findings)


def _find(known: DataSet, root: Path) -> tuple[Layout, Path] | None:
    """Return the first layout that is there, in the first folder that holds any of its files."""
    for layout in known.layouts:
        for folder in layout.folders:
            if any(next((root / folder).glob(pattern), None) is not None for pattern in layout.files):
                return layout, root / folder
    return None


def _note_absence(known: DataSet, root: Path, findings: Findings) -> None:
    """Say which folder was expected, and what lies there or beside it instead."""
    places = list(dict.fromkeys(chain.from_iterable(layout.folders for layout in known.layouts)))
    home = root / places[0]
    expected = f"a folder with {' or '.join(_few(layout.files) for layout in known.layouts)}"
    if len(places) > 1:
        expected += f" (also looked in {', '.join(places[1:])})"
    packed = next((at for name in known.archives for at in (home / name, root / name) if at.exists()), None)
    if packed is not None:
        findings.add(home, expected, f"the archive {packed}, which is not unpacked yet")
    elif not home.is_dir():
        findings.add(home, expected, "no such folder")
    else:
        inside = [entry.name for entry in islice(sorted(home.iterdir()), LISTED_FILES)]
        findings.add(home, expected, f"a folder with {', '.join(inside)}" if inside else "an empty folder")


def _few(files: tuple[str, ...]) -> str:
    """Return the first and the last of many file names."""
    return " and ".join(files) if len(files) <= LISTED_FILES - 1 else f"{files[0]}, …, {files[-1]}"
