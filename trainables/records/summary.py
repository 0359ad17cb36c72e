"""What was read of a folder of records, what was repaired, and what was left out and why.

A reader returns a record with the repairs that it needed, or raises `UnreadableRecordError`; `Ledger` counts both
over a folder. Every file looked at is either read or left out by name: nothing is dropped in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from kdsearch.trainables.data.findings import SHOWN_PROBLEMS, DataError, Problem

MOST_LEFT_OUT = 0.5  # of a folder's files; with more than that left out, the folder is refused


class UnreadableRecordError(Exception):
    """A record that cannot be used; `expected` and `found` are in the words of a `Problem`."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Repaired:
    """One kind of repair: in how many files, how often in all, and the first file that needed it."""

    what: str
    files: int
    items: int
    example: str

    def __str__(self) -> str:
        times = f", {self.items:,} in all" if self.items != self.files else ""
        return (
            f"{self.what}: {self.files:,} file{'s' if self.files != 1 else ''}{times} (first: {self.example})"
        )


@dataclass(frozen=True, kw_only=True)
class ReadSummary:
    """What came of reading a folder of records.

    `files` = `read` + the number of `left_out`. `facts` are the counts that describe what was read, in the order in
    which they are told; `codes` how many records have each code that is not scored (ECG alone).
    """

    name: str
    title: str
    folder: Path
    files: int
    read: int
    repairs: tuple[Repaired, ...]
    left_out: tuple[Problem, ...]
    facts: Mapping[str, int]
    codes: Mapping[str, int] = field(default_factory=dict)
    others: int = 0  # files that are no records by their names, not looked at
    is_sample: bool = False

    def to_dict(self) -> dict[str, object]:
        """Return the summary as JSON-able values; every file left out is listed."""
        return {
            "folder": str(self.folder),
            "files": self.files,
            "read": self.read,
            "others": self.others,
            "is_sample": self.is_sample,
            "facts": dict(self.facts),
            "repairs": [vars(repair) for repair in self.repairs],
            "left_out": [vars(problem) for problem in self.left_out],
            "unscored_codes": dict(self.codes),
        }

    def __str__(self) -> str:
        made_up = " This is a made-up sample, not the real data." if self.is_sample else ""
        whole = "all read" if not self.left_out else f"{self.read:,} read, {len(self.left_out):,} left out"
        lines = [f"{self.title}: {self.files:,} files in {self.folder}, {whole}.{made_up}"]
        lines.append("  " + ", ".join(f"{count:,} {what}" for what, count in self.facts.items()))
        if self.others:
            lines.append(
                f"  {self.others:,} other file{'s' if self.others > 1 else ''} beside them, not looked at"
            )
        lines += _listed("repaired or noted", [str(repair) for repair in self.repairs], len(self.repairs))
        lines += _listed("left out", [str(problem) for problem in self.left_out], SHOWN_PROBLEMS)
        codes = [f"{code} ({count:,})" for code, count in self.codes.items()]
        if codes:
            more = f" and {len(codes) - SHOWN_PROBLEMS} more" if len(codes) > SHOWN_PROBLEMS else ""
            lines.append(
                f"  codes that are not scored ({len(codes)}): {', '.join(codes[:SHOWN_PROBLEMS])}{more}"
            )
        return "\n".join(lines)


def _listed(heading: str, entries: list[str], shown: int) -> list[str]:
    lines = [f"    - {entry}" for entry in entries[:shown]]
    if len(entries) > shown:
        lines.append(f"    - and {len(entries) - shown:,} more")
    return [f"  {heading}:", *lines] if lines else []


@dataclass
class Ledger:
    """Counts what becomes of the files of one folder while they are read."""

    name: str
    title: str
    hint: str
    folder: Path
    others: int = 0
    is_sample: bool = False
    read: int = 0
    problems: list[Problem] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    _files: Counter[str] = field(default_factory=Counter)
    _items: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, str] = field(default_factory=dict)

    def keep(self, path: Path, repairs: Mapping[StrEnum, int]) -> None:
        """Note a file that was read, with how often each repair was needed in it."""
        self.read += 1
        self.note(path, repairs)

    def note(self, path: Path, repairs: Mapping[StrEnum, int]) -> None:
        """Note what was repaired in a file beside the records, or found about it."""
        for repair, items in repairs.items():
            if items:
                self._files[repair.value] += 1
                self._items[repair.value] += items
                self._examples.setdefault(repair.value, path.name)

    def leave_out(self, path: Path, error: UnreadableRecordError) -> None:
        """Note a file that cannot be used, and why."""
        self.problems.append(Problem(str(path), error.expected, error.found))

    def summary(self, facts: Mapping[str, int]) -> ReadSummary:
        """Return what was noted; repairs in the order of how many files needed them."""
        repairs = tuple(
            Repaired(what, files, self._items[what], self._examples[what])
            for what, files in self._files.most_common()
        )
        return ReadSummary(
            name=self.name,
            title=self.title,
            folder=self.folder,
            files=self.read + len(self.problems),
            read=self.read,
            repairs=repairs,
            left_out=tuple(self.problems),
            facts=facts,
            codes=dict(self.codes.most_common()),
            others=self.others,
            is_sample=self.is_sample,
        )

    def settle(self) -> None:
        """Raise `DataError` where nothing was read, or more was left out than `MOST_LEFT_OUT` of the files."""
        files = self.read + len(self.problems)
        if self.read == 0:
            raise DataError.of(self.name, self.problems, self.hint)
        if len(self.problems) > MOST_LEFT_OUT * files:
            error = DataError.of(self.name, self.problems, self.hint)
            message = (
                f"{len(self.problems):,} of {files:,} files in {self.folder} cannot be used, which is too many to "
                f"go on without them\n{error.message}"
            )
            raise DataError(message, self.hint, self.problems)
