"""Block-by-block matching: what its trials scored, as one row a trial that stands in the tables.

Source of tables and figures: Lee, Jo and Kwon (2022), "On the inductive bias transfer with knowledge distillation for
real-world data". In the tables stand trials whose plan is `final`, and a teacher that was trained before them. Their
scores are those after the last epoch, and no other epoch's: the test part is looked at once. Scores are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis.frames import PRETRAIN, SEARCH, parameter_columns
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.sweep_kinds import BBM

TRANSFORMER, TEACHER, DEIT = "transformer", "teacher", "deit"
KINDS = (TRANSFORMER, TEACHER, DEIT, BBM)  # the order of the paper's Table 2
CHALLENGE = "challenge"
SCORES = (CHALLENGE, "f1", "auroc", "auprc")
R2, R2_ELSEWHERE = "r2", "r2_external"
DISTANCE, DISTANCE_ELSEWHERE = "attention_distance.", "attention_distance_external."
VALIDATION = "val_objective"  # the validation score that a trial is judged by: 1 - val_error / 100
GIVEN = "teacher, trained beforehand"
_UNNAMED = ("best", "chosen", "")  # methods of plans that only a sweep's own name tells apart
_METHOD = "parameter:method"  # the configuration's, beside the plan's


def trainable_settings(record: SweepRecord) -> Mapping[str, Any]:
    """The `trainable` section of a sweep's settings; empty where there is none."""
    found = record.settings.get("trainable")
    return found if isinstance(found, Mapping) else {}


def data_settings(record: SweepRecord) -> Mapping[str, Any]:
    """The records that a sweep trains on; a mere name becomes a mapping."""
    found = trainable_settings(record).get("data") or {}
    return found if isinstance(found, Mapping) else {"name": str(found)}


def objective(record: SweepRecord) -> str:
    """The validation score that trials are judged by."""
    return str(trainable_settings(record).get("objective") or CHALLENGE)


def kinds(record: SweepRecord) -> list[str]:
    """What each trial trains, in the order of `record.trials`: its configuration's method, else the settings'."""
    default = str(trainable_settings(record).get("method") or BBM)
    trials = record.trials
    own = trials[_METHOD].tolist() if _METHOD in trials else [None] * len(trials)
    return [
        TEACHER if role == PRETRAIN else default if pd.isna(kind) else str(kind)
        for kind, role in zip(own, trials["role"], strict=True)
    ]


def last_values(record: SweepRecord, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """What each trial reported at its last epoch: one row a trial (the index), a column for each metric.

    metrics: only these; those of other nodes than 0 and 1 are passed over. Trials without an epoch have no row.
    """
    curves = record.curves
    if metrics is not None:
        curves = curves[curves["metric"].isin(list(metrics))]
    curves = curves[curves["node"] <= 1]
    ends = record.trials.set_index("number")["last_epoch"]
    known = pd.to_numeric(ends, errors="coerce").astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    newest = record.curves.groupby("trial")["epoch"].max()
    last = pd.Series(known, index=ends.index).fillna(newest)
    at_end = curves[curves["epoch"].to_numpy() == last.reindex(curves["trial"]).to_numpy()]
    names = at_end["metric"].astype(str)
    table: pd.DataFrame = at_end.assign(metric=names).pivot_table(
        index="trial", columns="metric", values="value", aggfunc="first", dropna=False
    )
    return table


def table_trials(record: SweepRecord) -> pd.DataFrame:
    """One row a trial that stands in the tables, the given teacher first, then by method and run.

    Columns: sweep, number, name, kind, run, seed, given (it was trained before the others), state, error (per cent),
    epochs, seconds, blocks (NaN but for bbm), rest (the other parameters, as a tuple), and test_*, val_*,
    val_objective, r2, r2_external as far as they are known after the last epoch. NaN where a trial has none.
    """
    trials = record.trials.assign(kind=kinds(record))
    final = trials["final"].isin([True]) if "final" in trials else pd.Series(data=False, index=trials.index)
    given = trials["role"] == PRETRAIN
    rows = trials[(final & (trials["role"] == SEARCH)) | given]
    values = last_values(record).reindex(rows["number"])
    wanted = [f"{part}_{score}" for part in ("test", "val") for score in SCORES]
    known = values.reindex(columns=[*wanted, R2, R2_ELSEWHERE, "val_error"]).reset_index(drop=True)
    known[VALIDATION] = 1.0 - known.pop("val_error") / 100.0
    table = pd.DataFrame(
        {
            "sweep": record.name,
            "number": rows["number"].to_numpy(),
            "name": _names(rows),
            "kind": rows["kind"].tolist(),
            "run": _runs(rows),
            "seed": rows["seed"].tolist(),
            "given": (rows["role"] == PRETRAIN).tolist(),
            "state": [str(state) for state in rows["state"]],
            "error": pd.to_numeric(rows["error"]).to_numpy(np.float64, na_value=np.nan),
            "epochs": pd.to_numeric(rows["last_epoch"])
            .astype("Float64")
            .to_numpy(np.float64, na_value=np.nan),
            "seconds": pd.to_numeric(rows["seconds"]).to_numpy(np.float64, na_value=np.nan),
            "blocks": _blocks(record, rows),
            "rest": _rest(record, rows),
        }
    )
    table = pd.concat([table, known.astype(np.float64)], axis="columns")
    return table.sort_values(
        ["given", "name", "run", "number"], ascending=[False, True, True, True], kind="stable"
    )


def _names(rows: pd.DataFrame) -> list[str]:
    """What tables call each trial: the method of its plan, or its kind where that says nothing."""
    told = rows["method"].tolist() if "method" in rows else [None] * len(rows)
    return [
        GIVEN if role == PRETRAIN else str(kind) if pd.isna(name) or str(name) in _UNNAMED else str(name)
        for name, kind, role in zip(told, rows["kind"], rows["role"], strict=True)
    ]


def _runs(rows: pd.DataFrame) -> list[int]:
    """The run of each trial; trials without one are counted by method."""
    told = rows["run"].tolist() if "run" in rows else [None] * len(rows)
    places = rows.groupby(["kind", "role"]).cumcount().tolist()
    return [int(place) if pd.isna(run) else int(run) for run, place in zip(told, places, strict=True)]


def _blocks(record: SweepRecord, rows: pd.DataFrame) -> list[float]:
    default = trainable_settings(record).get("blocks", 1)
    own = rows["blocks"].tolist() if "blocks" in rows else [None] * len(rows)
    return [
        float("nan") if kind != BBM else float(default if pd.isna(blocks) else blocks)
        for blocks, kind in zip(own, rows["kind"], strict=True)
    ]


def _rest(record: SweepRecord, rows: pd.DataFrame) -> list[tuple[tuple[str, Any], ...]]:
    names = [name for name in parameter_columns(record) if name not in {"blocks", _METHOD, "kind"}]
    return [
        tuple((name, value) for name, value in zip(names, row, strict=True) if not pd.isna(value))
        for row in rows.reindex(columns=names).itertuples(index=False)
    ]
