"""What can be wrong with the files of a data set, and how it is told.

Readers never raise for a bad file: they add a `Problem` to `Findings` and go on where that makes sense.
Loading raises what was found at the next `settle`; checking collects everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.inside import Inside, UnsafeFileError

SHOWN_PROBLEMS = 10
MAX_FILE_BYTES = 1 << 30  # five times the largest official file


@dataclass(frozen=True)
class Problem:
    """One thing that is not as the official files are."""

    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


class DataError(UsageError):
    """Files of a data set that are missing, damaged or not what they should be (exit code 2).

    `problems` lists what was found, file by file.
    """

    def __init__(self, message: str, hint: str | None = None, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, hint)
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[DataError], tuple[object, ...]]:
        return type(self), (self.message, self.hint, self.problems)

    @classmethod
    def of(cls, name: str, problems: Sequence[Problem], hint: str) -> DataError:
        """Return the error that tells `problems` of the data set `name`, the first few of them in full."""
        if len(problems) == 1:
            return cls(f"data set {name!r}: {problems[0]}", hint, problems)
        lines = [f"data set {name!r} has {len(problems)} problems:"]
        lines += [f"  - {problem}" for problem in problems[:SHOWN_PROBLEMS]]
        if len(problems) > SHOWN_PROBLEMS:
            lines.append(f"  - and {len(problems) - SHOWN_PROBLEMS} more")
        return cls("\n".join(lines), hint, problems)


@dataclass
class Findings:
    """Collects problems while files are read.

    With `collect_all` false, `settle` raises `DataError` as soon as there is a problem; with true it never
    does.
    """

    name: str
    hint: str
    collect_all: bool = False
    problems: list[Problem] = field(default_factory=list)
    files: int = 0  # files looked at
    inside: Inside | None = None  # where files may lie; None: of a file that is opened, its own folder

    def add(self, path: Path | str, expected: str, found: str) -> None:
        """Note a problem with the file or folder `path`."""
        self.problems.append(Problem(str(path), expected, found))

    def settle(self) -> None:
        """Raise `DataError` for what was found so far, unless everything is to be collected."""
        if self.problems and not self.collect_all:
            raise DataError.of(self.name, self.problems, self.hint)

    def read(self, path: Path, expected: str) -> bytes | None:
        """Return the bytes of the file, or note why they cannot be had and return None."""
        self.files += 1
        try:
            with self.open(path) as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            self.add(path, expected, reason(error))
            return None
        if len(content) > MAX_FILE_BYTES:
            self.add(path, expected, f"more than {MAX_FILE_BYTES >> 20} MiB")
            return None
        return content

    def open(self, path: Path) -> BinaryIO:
        """Open a file of the data set; an OSError where it cannot be, or lies outside the data set."""
        return (self.inside or Inside(path.parent)).open(path)


@dataclass(frozen=True)
class Place:
    """Where a data set lies and how much of it is expected there.

    `counts` maps a file or part to its number of images (in folders of images: images per class).
    """

    folder: Path
    counts: Mapping[str, int]
    is_sample: bool = False


def reason(error: OSError) -> str:
    """Return in words why a file could not be read."""
    if isinstance(error, UnsafeFileError):
        return str(error.strerror)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "a file that may not be read (permission denied)"
    if isinstance(error, IsADirectoryError):
        return "a folder"
    return f"a file that cannot be read ({error.strerror or error})"
