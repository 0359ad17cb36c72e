"""Block-by-block matching: what a search found, and which of its trials a scheduler stopped where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis.bbm_scores import last_values
from kdsearch.analysis.frames import (
    COMPLETE,
    SEARCH,
    STOPPED,
    configuration,
    counted_trials,
    parameter_columns,
)
from kdsearch.analysis.record import SweepRecord

SHOWN = 5  # best trials that the page names
_TWO = 2
_PREFIX = "parameter:"  # of parameters that have the name of one of the frame's own columns
_FIXED = ("number", "state", "last_epoch", "seconds")


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Trials at one rung of a scheduler."""

    epoch: int
    reached: int | None  # trials that were judged there; None where no decisions were kept
    stopped: int
    best: float | None  # lowest error at the rung, per cent
    cutoff: float | None  # the highest error that the last comparison let go on, per cent


@dataclass(frozen=True, kw_only=True)
class Found:
    """One trial of a search that was trained to its end."""

    number: int
    error: float  # of validation, per cent
    epochs: int | None
    seconds: float | None
    parameters: Mapping[str, Any]

    @property
    def score(self) -> float:
        """The validation score that it was judged by."""
        return 1.0 - self.error / 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult:
    """The trials of a sweep that stand for no run."""

    trials: int
    states: Mapping[str, int]
    best: tuple[Found, ...]  # lowest validation error first; the lower number among equals
    rungs: tuple[Rung, ...]  # ascending; those where trials were judged or stopped
    points: pd.DataFrame  # number, state, score (at the last epoch), and the parameters
    parameters: tuple[str, ...]  # those that vary
    logarithmic: frozenset[str]  # those of them that are drawn on a logarithmic scale

    @property
    def ended(self) -> int:
        """Trials that were trained to their end."""
        return self.states.get(COMPLETE, 0)


def search_result(record: SweepRecord) -> SearchResult | None:
    """Return what a search found; None for a sweep without trials that search."""
    trials = counted_trials(record)
    final = trials["final"].isin([True])
    searched = trials[(trials["role"] == SEARCH) & ~final].reset_index(drop=True)
    if searched.empty:
        return None
    errors = last_values(record, ["val_error"]).reindex(columns=["val_error"])["val_error"]
    last = errors.reindex(searched["number"]).to_numpy(dtype=np.float64)
    given = [name for name in parameter_columns(record) if searched[name].notna().any()]
    names = [name.removeprefix(_PREFIX) for name in given]
    searched = searched[[*_FIXED, *given]].set_axis([*_FIXED, *names], axis="columns")
    points = searched[["number", "state", *names]].assign(score=1.0 - last / 100.0)
    states = {str(state): int(n) for state, n in searched["state"].value_counts().sort_index().items()}
    varied = tuple(name for name in names if searched[name].astype(str).nunique() >= _TWO)
    return SearchResult(
        trials=len(searched),
        states=states,
        best=_best(searched, last, names),
        rungs=_rungs(record, searched),
        points=points,
        parameters=varied,
        logarithmic=_logarithmic(record) & frozenset(varied),
    )


def _best(searched: pd.DataFrame, last: np.ndarray, names: list[str]) -> tuple[Found, ...]:
    done = (searched["state"] == COMPLETE).to_numpy() & np.isfinite(last)
    order = np.lexsort((searched["number"].to_numpy()[done], last[done]))[:SHOWN]
    rows = searched[done].iloc[order].to_dict("records")
    return tuple(
        Found(
            number=int(row["number"]),
            error=float(error),
            epochs=None if pd.isna(row["last_epoch"]) else int(row["last_epoch"]),
            seconds=None if pd.isna(row["seconds"]) else float(row["seconds"]),
            parameters=configuration(row, names),
        )
        for row, error in zip(rows, last[done][order], strict=True)
    )


def _rungs(record: SweepRecord, searched: pd.DataFrame) -> tuple[Rung, ...]:
    """Where trials were judged; without the scheduler's decisions, after which epoch stopped trials ended."""
    judged = record.rungs[record.rungs["trial"].isin(searched["number"])]
    if len(judged):
        epochs = sorted({int(epoch) for epoch in judged["rung"]})
        return tuple(_rung(epoch, judged[judged["rung"] == epoch]) for epoch in epochs)
    ends = Counter(int(epoch) for epoch in searched.loc[searched["state"] == STOPPED, "last_epoch"].dropna())
    return tuple(
        Rung(epoch=epoch, reached=None, stopped=n, best=None, cutoff=None)
        for epoch, n in sorted(ends.items())
    )


def _rung(epoch: int, group: pd.DataFrame) -> Rung:
    newest = group.drop_duplicates("trial", keep="last")
    values = newest["value"].astype(np.float64).dropna()
    cutoffs = group["cutoff"].astype(np.float64).dropna()
    return Rung(
        epoch=epoch,
        reached=len(newest),
        stopped=int(newest["stopped"].astype(bool).sum()),
        best=float(values.min()) if len(values) else None,
        cutoff=float(cutoffs.iloc[-1]) if len(cutoffs) else None,
    )


def _logarithmic(record: SweepRecord) -> frozenset[str]:
    found: set[str] = set()
    for space in record.spaces:
        parameters = space.spec.get("parameters")
        if isinstance(parameters, Mapping):
            found |= {
                str(name)
                for name, law in parameters.items()
                if isinstance(law, Mapping) and "log" in str(law.get("type", ""))
            }
    return frozenset(found)
