"""What the database knows of a sweep's trials when a driver takes it over: states, attempts, curves, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any, cast

from kdsearch.search.searchers.plans import objective_of
from kdsearch.search.stores import Store, carried_over
from kdsearch.search.trial_states import PastEpoch, PastTrial
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.states import Ending, TrialState
from kdsearch.spaces import TARGET


def past_trials(database: TrialDatabase, name: str, store: Store | None = None) -> dict[int, PastTrial]:
    """What the database knows of the sweep's trials; empty for a new sweep. store: where checkpoints are looked for.

    Trials that still count as running belong to a driver that was killed: they are marked lost first.
    """
    database.mark_running_as_lost(name, "the driver ended without a word")
    trials = database.trials(name)
    unfinished = {TrialState.WAITING, TrialState.PAUSED, TrialState.LOST}
    cut = [t.number for t in trials if t.attempts and t.state in unfinished]
    told = {*cut, *(t.number for t in trials if t.state is TrialState.STOPPED)}
    curves = _epochs(
        database, name, {trial.number: trial.plan or {} for trial in trials if trial.number in told}
    )
    attempts = database.attempts(name, numbers=cut) if cut else []
    saved = {each.number: each for each in attempts if each.checkpoint}
    held = {number: _found_again(str(attempt.checkpoint), store) for number, attempt in saved.items()}
    endings: dict[int, list[Ending | None]] = {}
    for each in attempts:
        endings.setdefault(each.number, []).append(each.ending)
    return {
        trial.number: PastTrial(
            state=str(trial.state),
            key=trial.configuration_hash,
            plan=trial.plan or {},
            error=trial.error,
            attempts=trial.attempts,
            epochs=curves.get(trial.number, ()),
            checkpoint=held.get(trial.number),
            checkpoint_epoch=saved[trial.number].checkpoint_epoch or 0 if trial.number in saved else 0,
            endings=endings.get(trial.number, ()),
        )
        for trial in trials
    }


def _found_again(place: str, store: Store | None) -> Path | None:
    """A checkpoint that the database names; None if it is gone."""
    if store is not None:
        return carried_over(store, place)
    return Path(place) if Path(place).exists() else None


def _epochs(
    database: TrialDatabase, name: str, plans: Mapping[int, Mapping[str, Any]]
) -> dict[int, tuple[PastEpoch, ...]]:
    """Epochs that trials (by number, with their plans) were cut off after: what a checkpoint has behind it."""
    if not plans:
        return {}
    objectives = {number: objective_of(plan) for number, plan in plans.items()}
    metrics = [*sorted(set(objectives.values())), "seconds"]
    curves = database.curves_frame(name, trials=sorted(plans), metrics=metrics)
    found: dict[int, dict[int, dict[str, float]]] = {}
    target = curves[(curves["metric"] == "seconds") | (curves["node"] == TARGET)]
    for row in cast(list[dict[str, Any]], target.to_dict("records")):
        epochs = found.setdefault(int(row["trial"]), {})
        epochs.setdefault(int(row["epoch"]), {})[str(row["metric"])] = float(row["value"])
    return {
        number: tuple(
            PastEpoch(
                epoch=epoch, error=values.get(objectives[number], nan), seconds=values.get("seconds", 0.0)
            )
            for epoch, values in sorted(epochs.items())
        )
        for number, epochs in found.items()
    }
