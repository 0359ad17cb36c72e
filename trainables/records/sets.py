"""The sets of patients' records by name: where their files lie, and which files are records."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdsearch.spaces.errors import UnknownNameError
from kdsearch.trainables.data.findings import DataError, Findings, Problem, reason
from kdsearch.trainables.data.inside import Inside, kind
from kdsearch.trainables.data.marker import MARKER_FILE, read_marker
from kdsearch.trainables.data.roots import HOW_TO_SET, resolve_data_root
from kdsearch.trainables.records.summary import Ledger

PHYSIONET_2019 = "physionet2019"
PHYSIONET_2021 = "physionet2021"
HANGZHOU = "hangzhou"
EICU = "eicu"


@dataclass(frozen=True, kw_only=True)
class RecordSet:
    """What is known of a set before its files are opened.

    A record is a file whose name ends in `suffix` (or fits `pattern`, where there is one), anywhere below the first of
    `folders` (below the data root) that has one. Files that fit `lists` say something about the records, such as their
    labels. Both are regular expressions for the whole name in lower case. `official` counts the records of the whole
    set; fewer are as welcome. `archives` are its downloads.
    """

    name: str
    title: str
    suffix: str
    companion: str | None  # the ending of the file that stands beside each record
    folders: tuple[str, ...]
    source: str
    official: Mapping[str, int]
    archives: tuple[str, ...]
    pattern: str | None = None
    lists: str | None = None
    wanted: str = ""  # the records in words, where `suffix` does not tell

    def is_record(self, path: Path) -> bool:
        """Whether the file is a record by its name."""
        name = path.name.lower()
        if self.pattern is not None:
            return re.fullmatch(self.pattern, name) is not None
        return name.endswith(self.suffix)

    def is_list(self, path: Path) -> bool:
        """Whether the file says something about the records, by its name."""
        return self.lists is not None and re.fullmatch(self.lists, path.name.lower()) is not None

    def is_companion(self, path: Path) -> bool:
        """Whether the file stands beside a record, by its name."""
        return self.companion is not None and path.suffix.lower() == self.companion

    def opens(self, path: Path) -> bool:
        """Whether a reader may open the file."""
        return self.is_record(path) or self.is_list(path) or self.is_companion(path)

    @property
    def hint(self) -> str:
        """Say where the files come from and which commands help."""
        return (
            f"Where to get it: {' or '.join(self.archives)} from {self.source}. `kdsearch data check {self.name}` "
            f"looks at every file; `kdsearch data sample {self.name}` writes a small made-up set in the same format."
        )


# `hf_round1_label.txt`, `hf_round2_train.txt`, `hefei_round1_ansA_20191008.txt` (also spelt heifei), and renamed copies
_HANGZHOU_LISTS = r"((hf|hei?fei)_|.*label|.*arr?h?ythmia).*\.txt"
EICU_PATIENTS = "patient"
EICU_TABLES = (
    *(EICU_PATIENTS, "vitalPeriodic", "vitalAperiodic"),
    *("lab", "nurseCharting", "respiratoryCharting"),
)

_SETS = (
    RecordSet(
        name=PHYSIONET_2019,
        title="PhysioNet/CinC 2019 (sepsis)",
        suffix=".psv",
        companion=None,
        folders=("physionet2019", "challenge-2019-1.0.0"),
        source="https://physionet.org/content/challenge-2019/1.0.0/",
        official={"patients": 40_336},
        archives=("training_setA and training_setB",),
    ),
    RecordSet(
        name=PHYSIONET_2021,
        title="PhysioNet/CinC 2021 (12-lead ECG)",
        suffix=".hea",
        companion=".mat",
        folders=("physionet2021", "challenge-2021-1.0.3"),
        source="https://physionet.org/content/challenge-2021/1.0.3/",
        official={"records": 88_253},
        archives=("the folder `training`",),
    ),
    RecordSet(
        name=HANGZHOU,
        title="Hangzhou (Hefei high-tech cup, 8-lead ECG)",
        suffix=".txt",
        companion=None,
        folders=("hangzhou", "hefei", "tianchi-231754"),
        source="https://tianchi.aliyun.com/competition/entrance/231754/introduction",
        official={"records": 20_036},  # the part that BBM uses; both rounds together have more
        archives=("hf_round2_train.zip (or another of its archives of records)",),
        pattern=rf"(?!{_HANGZHOU_LISTS}|readme|license|.*sha256).+\.txt",
        lists=_HANGZHOU_LISTS,
    ),
    RecordSet(
        name=EICU,
        title="eICU Collaborative Research Database (intensive care)",
        suffix=".csv.gz",
        companion=None,
        folders=(
            "eicu",
            "eicu-crd-2.0",
            "eicu-collaborative-research-database-2.0",
            "eicu-collaborative-research-database-demo-2.0.1",
            "eicu-crd-demo-2.0.1",
        ),
        source="https://physionet.org/content/eicu-crd/2.0/",
        official={"patients": 200_859},
        archives=(
            "the tables patient, vitalPeriodic, vitalAperiodic, lab, nurseCharting and respiratoryCharting",
        ),
        wanted=".csv or .csv.gz files of its tables",
        pattern=rf"({'|'.join(table.lower() for table in EICU_TABLES)})\.csv(\.gz)?",
    ),
)
RECORD_SETS: Mapping[str, RecordSet] = {entry.name: entry for entry in _SETS}


def record_set(name: str) -> RecordSet:
    """Return what is known of the set `name`. Raises `UnknownNameError`."""
    if name not in RECORD_SETS:
        raise UnknownNameError("set of records", name, tuple(RECORD_SETS))
    return RECORD_SETS[name]


@dataclass(frozen=True, kw_only=True)
class RecordFiles:
    """The files of a set: `records` in the order of their names, then of their paths.

    `alone` are companions (.mat) without a record, `lists` the files that say something about the records, `others`
    counts the files that are none of them.
    """

    known: RecordSet
    folder: Path
    records: tuple[Path, ...]
    alone: tuple[Path, ...]
    others: int
    is_sample: bool
    lists: tuple[Path, ...] = ()

    def ledger(self) -> Ledger:
        """Return the counts to keep while these files are read."""
        return Ledger(
            self.known.name, self.known.title, self.known.hint, self.folder, self.others, self.is_sample
        )


def find_records(name: str, root: str | Path | None = None) -> RecordFiles:
    """Return the files of the set `name` below the data root (`root`, else KDSEARCH_DATA).

    Raises `UnknownNameError`, and `DataError` where there is no data root, no such folder or no record in it.
    """
    known = record_set(name)
    base = resolve_data_root(root)
    if base is None:
        raise DataError(
            f"data set {name!r} needs a data root, and none is given", f"{HOW_TO_SET}\n{known.hint}"
        )
    for folder in known.folders:
        files = _files_below(base / folder, Inside(base / folder, base), known)
        if any(known.is_record(path) for path in files):
            return _sorted_out(known, base / folder, files)
    home = base / known.folders[0]
    found = "no such folder" if not home.is_dir() else "none in that folder or below it"
    wanted = known.wanted or f"{known.suffix} files"
    problem = Problem(str(home), f"{wanted} (also looked in {', '.join(known.folders[1:])})", found)
    raise DataError.of(name, [problem], known.hint)


def _sorted_out(known: RecordSet, folder: Path, files: list[Path]) -> RecordFiles:
    findings = Findings(known.name, known.hint)
    marker = read_marker(folder, known.name, known.official, findings)
    findings.settle()
    records = [path for path in files if known.is_record(path)]
    lists = [path for path in files if known.is_list(path)]
    companions = [path for path in files if known.is_companion(path)]
    stems = {path.with_suffix("") for path in records}
    return RecordFiles(
        known=known,
        folder=folder,
        records=tuple(sorted(records, key=lambda path: (path.stem, str(path)))),
        alone=tuple(sorted(path for path in companions if path.with_suffix("") not in stems)),
        others=len(files) - len(records) - len(companions) - len(lists),
        is_sample=marker is not None,
        lists=tuple(sorted(lists)),
    )


def _files_below(folder: Path, inside: Inside, known: RecordSet) -> list[Path]:
    """Return all files below `folder`, linked folders included (each once); hidden ones are left out.

    Raises `DataError` for links that lead out of the data root, and for what is no file.
    """
    files: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above, or to one that was read under another name
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found = [Path(place, name) for name in names if not name.startswith(".") and name != MARKER_FILE]
        opened = [path for path in found if known.opens(path)]
        problems = [*_unsafe([Path(place)], inside), *_unsafe(opened, inside)]
        if problems:
            raise DataError.of(known.name, problems, known.hint)
        files += found
    return files


def _unsafe(paths: Sequence[Path], inside: Inside) -> list[Problem]:
    """Return what is wrong with paths that lead out of the data, by links, and with files that are none."""
    problems = []
    for path in paths:
        try:
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                inside.check(path)
                mode = path.stat().st_mode
        except FileNotFoundError:  # a link to nothing, which its reader names
            continue
        except OSError as error:
            problems.append(Problem(str(path), "a file of the data set", reason(error)))
            continue
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            problems.append(Problem(str(path), "a file", kind(mode)))
    return problems


def _refuse(error: OSError) -> None:
    """Name a folder that may not be read; one that is not there holds no files."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise DataError(f"the folder {error.filename} cannot be read: {reason(error)}") from error
