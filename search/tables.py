"""A finished sweep as a table of learning curves, for the trainable `table`: one row for each training and epoch.

The columns are the parameters, `repeat` (which training of the configuration, counted from 0 by trial number), `epoch`,
the metrics by their own names and `seconds`. Only trainings that ended are in it: complete ones, and those that
diverged up to where they did; what was stopped or failed has no result and is counted. Final trials (measured on the
test part, often trained on the validation part as well) are not: they have another error, or no validation error.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kdsearch.search.config import SweepFile, parse_sweep
from kdsearch.search.searchers.plans import VALIDATION, objective_of
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.places import parse_url, sqlite_path
from kdsearch.search.trialdb.states import Role, SweepState
from kdsearch.spaces import label_of, space_from_spec
from kdsearch.spaces.cells import guarded_frame
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.table.checks import REPEATS

_PREFIX = "parameter:"  # of a parameter's column that has the name of a fixed one
_ENDED = ("complete", "diverged")


@dataclass(frozen=True, eq=False)
class SweepTable:
    """A sweep's curves in long form."""

    frame: pd.DataFrame
    configurations: int
    curves: int
    left_out: int  # trials of the search without a result


def sweep_table(database: TrialDatabase, name: str, *, metrics: Sequence[str] | None = None) -> SweepTable:
    """Return the curves of a finished sweep; `metrics` keeps these, by name with node (None: all).

    Raises:
        UnknownNameError: there is no such sweep.
        UsageError: the sweep is not finished, none of its trials ended with a result, or none has such a metric.

    """
    sweep = database.sweep(name)
    if sweep.state != SweepState.COMPLETE:
        raise UsageError(
            f"sweep {name} is {sweep.state}, and a table needs all of its trials",
            f"Let it end first: kdsearch resume {name}",
        )
    # the space as stored: a sweep that was imported has no sweep file
    parameters = [
        each
        for space in database.spaces(name)[:1]
        for each in space_from_spec(space.specification).parameter_names
    ]
    trials = database.trials_frame(name, role=Role.SEARCH)
    trials = trials.loc[[objective_of(plan or {}) == VALIDATION for plan in trials["plan"]]]
    ended = trials[trials["state"].isin(_ENDED)]
    if ended.empty:
        raise UsageError(
            f"no trial of sweep {name} ended with a result", "There is nothing to make a table of."
        )
    columns = [f"{_PREFIX}{each}" if f"{_PREFIX}{each}" in ended else each for each in parameters]
    told = ended.reindex(columns=["number", *columns])  # one that no trial has is in no frame
    told = told.set_axis(["number", *parameters], axis="columns")
    for each in parameters:
        told[each] = told[each].map(_cell).astype(str)
    repeat = told.groupby(parameters, sort=False).cumcount()  # by label: 1, 1.0 and true are three values
    apart = next((name for name in REPEATS if name not in parameters), None)
    if apart is None:
        raise UsageError(
            f"sweep {name} has parameters called {' and '.join(REPEATS)}",
            "A table has one of these for itself.",
        )
    told.insert(len(parameters) + 1, apart, repeat)
    values = _values(database.curves_frame(name, trials=ended["number"].tolist()), metrics, name)
    frame = told.merge(values, left_on="number", right_on="trial", how="inner", sort=False)
    frame = frame.sort_values(["number", "epoch"], kind="stable").drop(columns=["number", "trial"])
    return SweepTable(
        frame.reset_index(drop=True),
        configurations=int((repeat == 0).sum()),
        curves=len(told),
        left_out=len(trials) - len(ended),
    )


def _cell(value: Any) -> str:
    """Return a parameter's value as text; one that a configuration does not have is empty."""
    if pd.isna(value):
        return ""
    item = getattr(value, "item", None)
    return label_of(item() if callable(item) else value)


def _values(curves: pd.DataFrame, metrics: Sequence[str] | None, sweep: str) -> pd.DataFrame:
    """Return one row for each trial and epoch, and a column for each metric, seconds last."""
    node, metric = curves["node"].astype(str), curves["metric"].astype(str)
    named = (node + "/").where(curves["node"] > 0, "") + metric
    curves = curves.assign(name=named)[["trial", "epoch", "name", "value"]]
    known = sorted({str(each) for each in named if "/" in str(each)})
    _check_metrics(metrics or (), known, sweep)
    kept = [each for each in known if metrics is None or each in metrics]
    wide = curves.pivot_table(
        index=["trial", "epoch"], columns="name", values="value", dropna=False, aggfunc="last", observed=True
    )
    seconds = ["seconds"] if "seconds" in wide else []
    return wide[[*kept, *seconds]].reset_index()


def _check_metrics(asked: Sequence[str], known: Sequence[str], sweep: str) -> None:
    """Refuse a metric that no trial has; seconds are in the table whether they are asked for or not."""
    for each in asked:
        if each in known or each == "seconds":
            continue
        near = difflib.get_close_matches(each, known, n=1)
        guess = f", did you mean {near[0]!r}?" if near else ""
        raise UsageError(
            f"no trial of sweep {sweep} has a metric {each!r}{guess}",
            f"There are: {', '.join(known) or 'none'}.",
        )


def write_table(table: SweepTable, path: Path) -> None:
    """Write a table as its file's name says: .csv, .csv.gz or .parquet; whole or not at all, and always the same bytes.

    Raises:
        UsageError: the name ends otherwise.

    """
    name = path.name.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")  # two sweeps may write one table
    if name.endswith(".parquet"):
        table.frame.to_parquet(temporary, index=False)
    elif name.endswith((".csv", ".csv.gz")):
        text = (
            guarded_frame(table.frame)
            .to_csv(index=False, na_rep="nan", float_format="%.10g", lineterminator="\n")
            .encode()
        )
        temporary.write_bytes(gzip.compress(text, 9, mtime=0) if name.endswith(".gz") else text)
    else:
        raise UsageError(f"{path.name} is no table's name", "It ends in .csv, .csv.gz or .parquet.")
    temporary.replace(path)


def with_table(sweep: SweepFile, db: str, folder: Path) -> SweepFile:
    """Return the sweep with its table as a file: where `trainable.sweep` names a sweep, that is written to `folder`.

    db: the database that the sweep goes to, where `trainable.db` names no other.

    Raises:
        KdsearchError: there is no such database or sweep, or it is not finished.

    """
    settings = sweep.trainable.settings()
    if sweep.trainable.kind != "table" or settings.get("sweep") is None:
        return sweep
    if settings.get("exported") is not None and Path(str(settings["exported"])).exists():
        return sweep  # by another process of the same comparison
    name, url = str(settings["sweep"]), str(settings.get("db") or db)
    with TrialDatabase.open(url, create=False, read_only=True) as database:
        row = database.sweep(name)
        key = hashlib.sha256(f"{_place(url)}\x1f{name}\x1f{row.created.isoformat()}".encode()).hexdigest()[
            :16
        ]
        path = folder / "tables" / f"{name}-{key}.csv.gz"
        write_table(sweep_table(database, name), path)
    trainable = {"kind": "table", **settings, "exported": str(path)}
    return parse_sweep({**sweep.resolved(), "trainable": trainable}, f"sweep {sweep.name}")


def _place(url: str) -> str:
    path = sqlite_path(parse_url(url))
    return url if path is None else str(path.resolve())
