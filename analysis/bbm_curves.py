"""Block-by-block matching: the validation score by epoch, method by method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdsearch.analysis.frames import COMPLETE
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.samples import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreCurve:
    """Validation score by epoch over the runs of a method; arrays [epochs], NaN where no run has a finite one."""

    method: str
    kind: str
    epochs: Floats
    mean: Floats
    low: Floats  # least of the runs
    high: Floats  # greatest
    n: Floats  # runs that have the score
    runs: int


def score_curves(
    records: Sequence[SweepRecord], table: pd.DataFrame, names: Sequence[str]
) -> tuple[ScoreCurve, ...]:
    """Return the curves of the score that trials are judged by, 1 - val_error / 100, of runs that ended.

    table, names: as in `bbm_layers.layer_means`. A method whose runs report no such error has no curve.
    """
    errors = pd.concat([_errors(record) for record in records])
    curves = []
    for name in names:
        rows = table[(table["name"] == name) & (table["state"] == COMPLETE)]
        own = errors[errors.index.isin(list(zip(rows["sweep"], rows["number"], strict=True)))]
        if own.empty or not np.isfinite(own["score"]).any():
            continue
        known = own["score"].where(np.isfinite(own["score"])).groupby(own["epoch"].to_numpy())
        spread = known.agg(["mean", "min", "max", "count"]).sort_index()
        curves.append(
            ScoreCurve(
                method=name,
                kind=str(rows["kind"].iloc[0]),
                epochs=spread.index.to_numpy(dtype=np.float64),
                mean=spread["mean"].to_numpy(dtype=np.float64),
                low=spread["min"].to_numpy(dtype=np.float64),
                high=spread["max"].to_numpy(dtype=np.float64),
                n=spread["count"].to_numpy(dtype=np.float64),
                runs=len(rows),
            )
        )
    return tuple(curves)


def _errors(record: SweepRecord) -> pd.DataFrame:
    """Score by (sweep, trial), the index, and epoch."""
    curves = record.curves
    own = curves[(curves["metric"] == "val_error") & (curves["node"] <= 1)]
    score = 1.0 - own["value"].to_numpy(dtype=np.float64) / 100.0
    keys = pd.MultiIndex.from_arrays([[record.name] * len(own), own["trial"]], names=["sweep", "trial"])
    return pd.DataFrame({"epoch": own["epoch"].to_numpy(dtype=np.int64), "score": score}, index=keys)
