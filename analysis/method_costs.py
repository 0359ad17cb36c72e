"""Measured cost of each method of a comparison: passes and seconds of an iteration, and of a whole run.

Seconds are those of the training part alone: the median over all epochs of a method of the seconds an iteration took,
because other programs on the machine stall some epochs and speed none up; without each trial's first epoch (memory,
kernels and threads warm up in it) where it has more than one. A trial in a pack is told its equal
share of the pack's time: the ratio of two methods that shared programs with different numbers of trials holds the gain
of packing as well as the method's own cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

METRICS = ("iterations", "train_seconds", "forward_passes", "backward_passes", "tangent_passes", "members")


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """Measured cost of a method (the paper's Table 1), against plain training in the same sweep."""

    method: str
    forward: float  # passes an iteration, mean
    backward: float
    tangent: float  # forward-mode passes
    seconds: float  # of training, an iteration of one trial, the median over epochs; evaluation not included
    ratio: float | None  # to the reference method's seconds
    members: float  # median number of trials that shared a program
    trials_per_run: float
    run_seconds: float  # of one run, all its trials and evaluation included, mean
    run_ratio: float | None


def cost_rows(
    trials: pd.DataFrame, curves: pd.DataFrame, *, methods: Sequence[str], reference: str
) -> tuple[CostRow, ...]:
    """Return the cost of each method that has been measured, in the order given.

    trials: those of the methods, explorations among them, with the columns of `SweepRecord.trials`. An iteration's cost
    is taken from all of a method's epochs; a run's from the runs whose final trial is complete, because a diverged
    one ends early.
    """
    table = _by_epoch(trials, curves)
    runs = {name: _run_seconds(trials[trials["method"] == name]) for name in methods}
    plain = _iteration_seconds(table[table["method"] == reference])
    plain_run = runs[reference].mean() if reference in runs else float("nan")
    rows = []
    for name in methods:
        own = table[table["method"] == name]
        seconds = _iteration_seconds(own)
        if not np.isfinite(seconds) or runs[name].empty:
            continue
        iterations = own["iterations"].sum()
        passes = [
            float(own[f"{kind}_passes"].sum() / iterations) for kind in ("forward", "backward", "tangent")
        ]
        rows.append(
            CostRow(
                method=name,
                forward=passes[0],
                backward=passes[1],
                tangent=passes[2],
                seconds=seconds,
                ratio=_ratio(seconds, plain),
                members=float(own.groupby("trial")["members"].median().median()),
                trials_per_run=trials_per_run(trials[trials["method"] == name]),
                run_seconds=float(runs[name].mean()),
                run_ratio=_ratio(float(runs[name].mean()), plain_run),
            )
        )
    return tuple(rows)


def trials_per_run(trials: pd.DataFrame) -> float:
    """Return how many trainings a run of one method took, the mean over runs whose final trial has ended."""
    ended = trials.loc[trials["final"] & trials["state"].isin(["complete", "diverged", "failed"]), "run"]
    return float(trials["run"].isin(ended).sum() / ended.nunique()) if len(ended) else float("nan")


def packing_notes(rows: Sequence[CostRow], reference: str) -> tuple[str, ...]:
    """Return a sentence for the methods whose packs differed in size from the reference's, if there are any."""
    plain = {row.method: row.members for row in rows}.get(reference)
    others = [f"{row.method} with {row.members:g}" for row in rows if row.members != plain]
    if plain is None or not others:
        return ()
    told = (
        f"Trials share programs in packs, {reference} with {plain:g} in one (the median), {', '.join(others)}. "
        "A trial's seconds are its share of its pack's, so these ratios hold the gain of packing as well."
    )
    return (told,)


def _by_epoch(trials: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Return one row a trial and epoch that reported its iterations and seconds: `METRICS`, trial, epoch, method."""
    wanted = curves[
        (curves["node"] == 0) & curves["metric"].isin(METRICS) & curves["trial"].isin(trials["number"])
    ]
    wanted = wanted.astype({"metric": object})  # a categorical would keep metrics without a value as columns
    table: pd.DataFrame = wanted.pivot_table(
        index=["trial", "epoch"], columns="metric", values="value", aggfunc="last"
    )
    table = table.reindex(columns=list(METRICS)).reset_index()
    table = table[(table["iterations"] > 0) & np.isfinite(table["train_seconds"])]
    return table.assign(method=table["trial"].map(trials.set_index("number")["method"]))


def _iteration_seconds(table: pd.DataFrame) -> float:
    """Return the median of seconds an iteration, without first epochs where a trial has others; NaN if none."""
    epochs = table.groupby("trial")["epoch"]
    kept = table[(table["epoch"] > epochs.transform("min")) | (epochs.transform("size") == 1)]
    return float((kept["train_seconds"] / kept["iterations"]).median()) if len(kept) else float("nan")


def _run_seconds(trials: pd.DataFrame) -> pd.Series:
    """Return the seconds of all trials of each run whose final trial is complete, by run."""
    whole = trials.loc[trials["final"] & (trials["state"] == "complete"), "run"]
    seconds: pd.Series = trials[trials["run"].isin(whole)].groupby("run")["seconds"].sum()
    return seconds


def _ratio(value: float, plain: float) -> float | None:
    return float(value / plain) if np.isfinite(plain) and plain > 0 else None
