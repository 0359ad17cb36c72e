"""`kdsearch export`: a sweep into a file, or as a study into a storage of Optuna's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from kdsearch.search.exchange.curves_out import TRIAL, curves_table
from kdsearch.search.exchange.new_files import check_new, new_file
from kdsearch.search.exchange.study_out import study_of
from kdsearch.search.exchange.table_files import write_csv, write_parquet
from kdsearch.search.exchange.trials_out import trials_table
from kdsearch.search.trialdb import TrialDatabase, optuna_storage
from kdsearch.search.trialdb.places import masked_text, parse_sqlite, with_driver
from kdsearch.spaces.errors import UsageError


class What(StrEnum):
    """What a table holds."""

    TRIALS = "trials"  # one row a trial
    CURVES = "curves"  # one row a trial and epoch


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    out: str  # path, or URL without a password
    trials: int
    rows: int  # of a table; of a study, intermediate values
    columns: tuple[str, ...] = ()
    study: str | None = None
    notes: tuple[str, ...] = ()


def export_table(
    database: TrialDatabase,
    name: str,
    out: Path,
    *,
    parquet: bool,
    what: What,
    parameters: bool = False,
    every: int = 1,
) -> Exported:
    """Write a sweep's trials or curves into a new file.

    parameters, every: of `curves_out.curves_table`, for What.CURVES.

    Raises:
        UnknownNameError: there is no such sweep.
        UsageError: the file is there, or its folder is not.

    """
    check_new(out)
    sweep = database.sweep(name)
    if what is What.TRIALS:
        seeds = bool(sweep.settings.get("source", {}).get("seeds", True))
        table = trials_table(database, name, seeds=seeds)
    else:
        table = curves_table(database, name, parameters=parameters, every=every)
    with new_file(out) as draft:
        if parquet:
            write_parquet(table, draft, _told(database, name, what))
        else:
            write_csv(table, draft)
    return Exported(
        out=str(out),
        trials=table.num_rows if what is What.TRIALS else len(table[TRIAL].unique()),
        rows=table.num_rows,
        columns=tuple(table.column_names),
    )


def export_study(database: TrialDatabase, name: str, out: str, *, study: str, every: int = 1) -> Exported:
    """Write a sweep as a study: into a new SQLite file (a path), or into the storage of a URL.

    Raises:
        UnknownNameError: there is no such sweep.
        UsageError: the file is there, or the storage has a study of this name, or is none of Optuna's.

    """
    path = parse_sqlite(out) if "://" in out else Path(out)
    if "://" not in out or (path is not None and not path.exists()):
        check_new(
            path or Path(out), f"`--out sqlite:///{out}` adds a study to a database that Optuna has made."
        )
    else:
        _check_storage(out)
    found = study_of(database, name, study=study, every=every)
    if path is not None and not path.exists():
        with new_file(path) as draft, tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "study.db"  # a name without anything that a URL could take for its own
            _write(f"sqlite:///{made}", found.study, str(path))
            shutil.copyfile(made, draft)
    else:
        _write(with_driver(out), found.study, masked_text(out))
    return Exported(
        out=masked_text(out),
        trials=len(found.study.trials),
        rows=found.values,
        study=study,
        notes=found.notes,
    )


def _check_storage(url: str) -> None:
    """Refuse a database of another program: Optuna would add its tables to it."""
    found = optuna_storage.look(with_driver(url), masked_text(url))
    if found.tables and not found.optunas and parse_sqlite(url) is not None:
        raise UsageError(
            f"{masked_text(url)} is no storage of Optuna's (tables: {', '.join(sorted(found.tables)[:5])})",
            "Give the URL of one, or the path of a new file.",
        )


def _write(url: str, study: optuna_storage.Study, place: str) -> None:
    storage = optuna_storage.open_storage(url, place, create=True)
    try:
        optuna_storage.add_study(storage, study, place)
    finally:
        optuna_storage.close(storage)


def _told(database: TrialDatabase, name: str, what: What) -> Mapping[str, Any]:
    """What a Parquet file says of itself."""
    spaces = database.spaces(name)
    return {
        "format": 1,
        "sweep": name,
        "what": str(what),
        "space": spaces[0].specification if spaces else None,
    }
