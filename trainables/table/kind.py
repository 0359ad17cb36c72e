"""The registry's entry for tables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

from kdsearch.spaces import DesignSpace
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.metaparameters.declaration import Metaparameter
from kdsearch.trainables.protocol import Configuration, Member, Pretraining
from kdsearch.trainables.table.curves import CurveTable, told
from kdsearch.trainables.table.pack import TablePack
from kdsearch.trainables.table.settings import Missing, TableSettings

MOST_COMPARED: Final = 1_000_000  # configurations of a space that are looked up before anything runs
_SHOWN: Final = 3  # missing configurations that are named


class TableKind:
    """Learning curves from a file."""

    name = "table"

    def check(self, settings: Mapping[str, object], models: Sequence[str]) -> None:
        """Refuse settings that no table could be read with.

        Raises:
            UnknownNameError: a key or a word is unknown.
            UsageError: a value is outside its range, or it is not said where the table is.

        """
        del models
        TableSettings.from_mapping(settings)

    def check_plan(self, settings: Mapping[str, object], plan: Mapping[str, Any]) -> None:
        """Refuse what is not in a table: training on other images, and the test part."""
        del settings
        if plan.get("train_on") == "all" or plan.get("evaluate"):
            raise UsageError(
                "a table answers searches alone: it has neither trainings on the validation part nor the test part",
                "Use a searcher without final trials: random, enumeration, tpe or refinement.",
            )

    def content(self, settings: Mapping[str, object], data_root: Path | None) -> str:
        """Return the SHA-256 of the table's file."""
        return _digest(TableSettings.from_mapping(settings).path(data_root))

    def check_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """Refuse a table that cannot be read, or lacks configurations of a space that can be listed.

        Raises:
            UsageError: what is wrong, in which file and line, or how many configurations are missing and which.

        """
        read = TableSettings.from_mapping(settings)
        table = load_table(read, data_root)
        notes = [f"Nothing was trained: trials were answered from {read.where} ({table.described()})."]
        if read.missing is Missing.REFUSE:
            refuse_missing(table, read.design_space())
        return (*notes, *table.notes)

    def find_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """Refuse a table as `check_data` does; a sweep is made a table of when the trials begin, and not looked at."""
        read = TableSettings.from_mapping(settings)
        if read.sweep is not None and read.exported is None:
            return (
                f"Trials are answered from {read.where}; whether it is finished is seen when the sweep begins.",
            )
        return self.check_data(settings, data_root)

    def check_space(self, settings: Mapping[str, object], space: DesignSpace) -> None:
        """Any space will do; that the table fits it is seen when the file is read."""
        del settings, space

    def metaparameters(
        self, settings: Mapping[str, object], configuration: Configuration
    ) -> Sequence[Metaparameter]:
        """None: nothing is differentiated."""
        del settings, configuration
        return ()

    def pretraining(self, settings: Mapping[str, object], models: Sequence[str]) -> Sequence[Pretraining]:
        """Nothing is needed."""
        del settings, models
        return ()

    def inputs(self, settings: Mapping[str, object], configuration: Configuration) -> Sequence[str]:
        """Nothing is needed."""
        del settings, configuration
        return ()

    def shape(self, settings: Mapping[str, object], configuration: Configuration) -> str:
        """All members may share a pack."""
        del settings, configuration
        return self.name

    def make_pack(
        self,
        settings: Mapping[str, object],
        members: Sequence[Member],
        *,
        data_root: Path | None,
        device: str,
    ) -> TablePack:
        """Load the table (once a process) and build the pack.

        Raises:
            UsageError: the table cannot be read, or lacks a member's configuration.

        """
        del device
        return TablePack(load_table(TableSettings.from_mapping(settings), data_root), members)


def load_table(settings: TableSettings, data_root: Path | None) -> CurveTable:
    """Read and check a table; a file that did not change is read once a process."""
    path = settings.path(data_root)
    changed = path.stat().st_mtime_ns if path.exists() else 0
    return _loaded(_Key(settings, path, changed))


class _Key:
    """What a table depends on, by its text."""

    def __init__(self, settings: TableSettings, path: Path, changed: int) -> None:
        self.settings, self.path = settings, path
        self._text = f"{settings!r}\x1f{path}\x1f{changed}"

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._text == other._text


@lru_cache(maxsize=8)
def _loaded(key: _Key) -> CurveTable:
    return CurveTable.load(key.path, key.settings)


def refuse_missing(table: CurveTable, space: DesignSpace) -> None:
    """Refuse a table that does not have every configuration of a space that can be listed.

    Raises:
        UsageError: how many are missing, and the first few.

    """
    size = space.counts().valid_classes
    if size is None or size > MOST_COMPARED:
        return
    missing = (each for each in space.enumerate(classes=True) if not table.has(each))
    first = list(islice(missing, _SHOWN))
    if not first:
        return
    count = len(first) + sum(1 for _ in missing)
    shown = "; ".join(told(each) for each in first)
    raise UsageError(
        f"{table.where} lacks {count:,} of the {size:,} configurations of the space: {shown}"
        + ("; ..." if count > len(first) else ""),
        "Restrict the space to what the table has, or let trials that ask for them fail: trainable.missing: fail.",
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
