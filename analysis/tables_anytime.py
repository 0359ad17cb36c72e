"""A comparison of searchers as frames for CSV files and as plain data for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis.anytime import Comparison, EntryResult
from kdsearch.analysis.traces import Axis, Trace


def entries_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a searcher: its incumbents at the end of the budget, the paired difference, and what a good one costs."""
    return pd.DataFrame([_row(entry) for entry in comparison.entries])


def _row(entry: EntryResult) -> dict[str, Any]:
    final, difference, sooner = entry.final, entry.difference, entry.sooner
    row: dict[str, Any] = {
        "entry": entry.name,
        "error": final.mean,
        "error_low": final.low,
        "error_high": final.high,
        "spread": final.spread,
        "observed": final.observed,
        "fresh": final.fresh,
        "rank": final.rank,
        "without": final.without,
        "trials": entry.trials,
        "epochs": entry.epochs,
        "seconds": entry.seconds,
        "done_early": entry.done,
    }
    if difference is not None:
        told = asdict(difference)
        row |= {f"difference_{key}": told[key] for key in ("mean", "low", "high", "p", "p_holm", "decided")}
    if sooner is not None:
        row |= {f"sooner_{key}": value for key, value in asdict(sooner).items()}
    for (axis, held), need in entry.needs.items():
        stem = f"{'held' if held else 'found'}_{axis}"
        row |= {
            f"{stem}_runs": need.found,
            f"{stem}_lower_quartile": need.quartiles[0],
            f"{stem}_median": need.quartiles[1],
            f"{stem}_upper_quartile": need.quartiles[2],
            f"{stem}_median_low": need.median_low,
            f"{stem}_median_high": need.median_high,
        }
    if entry.refined is not None:
        row |= {
            "refined_final": entry.refined.finals[0][0],
            "refined_final_runs": entry.refined.finals[0][1],
            "refined_draws_mean": entry.refined.draws[1],
            "refined_trials_mean": entry.refined.trials[1],
        }
    return row


def curves_frame(comparison: Comparison) -> pd.DataFrame:
    """Every point of every curve: `entry`, `axis`, `value` (mean or error), `cost`, `mean`, `low`, `high`."""
    parts = [
        pd.DataFrame(
            {
                "entry": entry.name,
                "axis": str(axis),
                "value": value,
                "cost": curve.cost,
                "mean": curve.mean,
                "low": curve.low,
                "high": curve.high,
            }
        )
        for entry in comparison.entries
        for (axis, value), curve in entry.curves.items()
        if curve.cost.size
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def runs_frame(comparison: Comparison, traces: Mapping[str, Sequence[Trace]]) -> pd.DataFrame:
    """One row a run: its incumbent at the end of the budget, what a good configuration cost it, its last space."""
    return pd.DataFrame([_run(comparison, trace) for runs in traces.values() for trace in runs])


def _run(comparison: Comparison, trace: Trace) -> dict[str, Any]:
    row: dict[str, Any] = {"entry": trace.entry, "run": trace.run}
    row |= {f"total_{axis}": trace.end(axis) for axis in Axis}
    at = np.array([comparison.budget])
    for name in ("error", "mean", "fresh", "rank"):
        row[name] = float(trace.values(name, comparison.axis, at)[0])
    for held in (False, True):
        within = trace.need(comparison.axis, comparison.budget, best=comparison.best, held=held)
        for axis in Axis:
            need = trace.need(axis, math.inf, best=comparison.best, held=held)
            row[f"{'held' if held else 'found'}_{axis}"] = need if math.isfinite(within) else math.inf
    if trace.lineage is not None:
        line = trace.lineage
        row |= {
            "final_space": line.final,
            "steps": len(line.spaces),
            "draws": line.draws,
            "drawn_trials": line.trials,
            "looks": line.looks,
            "ended": line.ended,
        }
    return row


def plain(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain data, without its curves."""
    return {
        "reference": comparison.reference,
        "budget": {str(comparison.axis): comparison.budget},
        "runs": comparison.runs,
        "best": comparison.best,
        "alpha": comparison.alpha,
        "entries": {
            entry.name: {
                "final": asdict(entry.final),
                "difference": None if entry.difference is None else asdict(entry.difference),
                "sooner": None if entry.sooner is None else asdict(entry.sooner),
                "found": {str(axis): asdict(need) for (axis, held), need in entry.needs.items() if not held},
                "held": {str(axis): asdict(need) for (axis, held), need in entry.needs.items() if held},
                "per_run": {"trials": entry.trials, "epochs": entry.epochs, "seconds": entry.seconds},
                "done_early": entry.done,
                "refined": None if entry.refined is None else asdict(entry.refined),
            }
            for entry in comparison.entries
        },
    }
