"""Folders of labels and of predictions: which files belong together, what is refused, and what is remarked upon.

Files are paired by name. What the official scorers repair is repaired in the same way (`files_2019`, `files_2021`),
counted and said in a remark; what would make a score wrong without a word is refused, all such files of a folder
together in one `DataError`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from kdsearch.trainables.data.findings import SHOWN_PROBLEMS, DataError, Problem, reason

T = TypeVar("T")

SHOWN_NAMES: Final = 3


class BadFileError(Exception):
    """A file that cannot be used, met while files are read; `read_pairs` collects them. It holds the problem."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(path, expected, found)
        self.problem = Problem(str(path), expected, found)


@dataclass(frozen=True)
class Pair:
    """The files of one patient or recording."""

    name: str
    labels: Path
    predictions: Path


@dataclass(frozen=True)
class Pairing:
    """Pairs in the order of their names, and the predictions for which there are no labels."""

    pairs: tuple[Pair, ...]
    unlabelled: tuple[Path, ...]


class Remarks:
    """Counts what was found in which files, to be said once each.

    noun: what a file is about, in the singular; its plural has an s.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._names: dict[str, list[str]] = {}

    def add(self, sentence: str, name: str) -> None:
        """Note that `sentence` holds for `name`."""
        self._names.setdefault(sentence, []).append(name)

    def texts(self) -> tuple[str, ...]:
        """Return a line for each sentence, with how many it holds for and the first few of them."""
        return tuple(
            f"{len(names):,} {self._noun}{'s' if len(names) > 1 else ''} ({named(names)}): {sentence}"
            for sentence, names in self._names.items()
        )


def named(names: Sequence[str]) -> str:
    """Return the first few names in words."""
    return ", ".join([*names[:SHOWN_NAMES], *(["..."] if len(names) > SHOWN_NAMES else [])])


def pair_files(labels: Path, predictions: Path, suffixes: tuple[str, str]) -> Pairing:
    """Pair the files of two folders by name; suffixes: of labels and of predictions, in lower case.

    Hidden files and files in folders below are left out, as by the official scorers; the case of a suffix does not
    matter.

    Raises:
        DataError: no labels, labels without predictions, two files of one name, a folder that cannot be listed.

    """
    truth, said = _listed(labels, suffixes[0]), _listed(predictions, suffixes[1])
    if not truth:
        raise DataError(f"no {suffixes[0]} files with labels in {labels}", _nested_hint(labels, suffixes[0]))
    if not said:
        hint = _nested_hint(predictions, suffixes[1])
        raise DataError(f"no {suffixes[1]} files with predictions in {predictions}", hint)
    missing = [
        Problem(
            str(predictions / f"{name}{suffixes[1]}"),
            f"the predictions for {truth[name].name}",
            "no such file",
        )
        for name in sorted(truth.keys() - said.keys())
    ]
    if missing:
        what = f"{len(missing):,} of {len(truth):,} files with labels have no predictions"
        hint = (
            "Predictions bear the name of their labels. Score a part of the labels from a folder of its own."
        )
        raise refusal(what, missing, hint)
    pairs = tuple(Pair(name, truth[name], said[name]) for name in sorted(truth))
    return Pairing(pairs, tuple(said[name] for name in sorted(said.keys() - truth.keys())))


def read_pairs(pairs: Iterable[Pair], read: Callable[[Pair], T], *, hint: str) -> list[T]:
    """Return what `read` makes of each pair.

    Raises:
        DataError: `read` raised `BadFileError`; all of them together.

    """
    results, problems, count = [], [], 0
    for pair in pairs:
        count += 1
        try:
            results.append(read(pair))
        except BadFileError as error:
            problems.append(error.problem)
    if problems:
        raise refusal(f"{len(problems):,} of {count:,} pairs of files cannot be scored", problems, hint)
    return results


def refusal(what: str, problems: Sequence[Problem], hint: str) -> DataError:
    """Return the error that says `what` and tells the first few problems in full."""
    lines = [f"{what}:", *(f"  - {problem}" for problem in problems[:SHOWN_PROBLEMS])]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  - and {len(problems) - SHOWN_PROBLEMS:,} more")
    return DataError("\n".join(lines), hint, problems)


def read_text(path: Path) -> str:
    """Return a file's text; bytes that are no UTF-8 become replacement characters, which no number or code has.

    Raises:
        BadFileError: the file cannot be read.

    """
    try:
        return path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise BadFileError(path, "a file that can be read", reason(error)) from error


def _listed(folder: Path, suffix: str) -> dict[str, Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be listed: {reason(error)}") from error
    found: dict[str, Path] = {}
    for name in names:
        stem, ending = os.path.splitext(name)  # noqa: PTH122 a Path for each of many files would cost more than reading
        if ending.lower() != suffix or name.startswith("."):
            continue
        if stem in found:
            raise DataError(f"{folder} holds both {found[stem].name} and {name}", "Leave one of them.")
        found[stem] = folder / name
    return found


def _nested_hint(folder: Path, suffix: str) -> str:
    below = next((path for path in sorted(folder.glob(f"*/*{suffix}"))), None)
    if below is not None:
        return f"There are some in {below.parent}: name the folder that holds the files themselves."
    return f"Name a folder that holds a {suffix} file for each patient or recording."
