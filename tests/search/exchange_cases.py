"""Sweeps to be exported and imported: made without Ray, with everything that a trial can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import nan

import numpy as np

from kdsearch.analysis.record import DecisionRecord
from kdsearch.search.trialdb import (
    AddDraws,
    AddEvents,
    AddSpaces,
    AddTrials,
    AttemptStart,
    DrawRow,
    FinishTrials,
    MetricRow,
    RecordMetrics,
    ResultRow,
    Role,
    SpaceRow,
    StartAttempts,
    TrialDatabase,
    TrialRow,
    TrialState,
    decision_event,
)
from kdsearch.spaces import configuration_key, space_from_spec

START = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)

MIXED = {
    "kind": "parameters",
    "parameters": {
        "rate": {"type": "log-uniform", "low": 0.001, "high": 1},
        "width": {"type": "integer", "low": 2, "high": 8, "step": 2},
        "drop": {"type": "quantised", "low": 0, "high": 0.3, "step": 0.05},
        "optimiser": {"type": "categorical", "values": ["sgd", "adam"]},
        "nesterov": {"type": "categorical", "values": [True, False], "when": {"optimiser": "sgd"}},
        "beta": {"type": "float", "low": 0.5, "high": 1, "when": {"optimiser": "adam"}},
    },
}
GRAPHS = {
    "kind": "ktg",
    "target": "resnet8w4",
    "auxiliary": {"count": 2, "models": ["resnet8w4", "resnet8w8"]},
    "gates": ["through", "cutoff", "linear"],
}


def draws(spec, n, seed=0):
    """So many random configurations of a space."""
    space, generator = space_from_spec(spec), np.random.default_rng(seed)
    return [space.sample(generator) for _ in range(n)]


ENDS = (TrialState.COMPLETE, TrialState.STOPPED, TrialState.DIVERGED, TrialState.FAILED)


def add_sweep(
    database: TrialDatabase,
    name,
    spec,
    configurations,
    *,
    states=None,
    errors=None,
    epochs=3,
    open_states=False,
):
    """A sweep of these configurations, each with a curve; states and errors in turn."""
    space = space_from_spec(spec, name="A")
    states = states or [TrialState.COMPLETE] * len(configurations)
    errors = errors or [10.0 + 7 * n % 60 for n in range(len(configurations))]
    database.create_sweep(
        name,
        kind="sweep",
        trainable="constant",
        settings={"name": name, "space": spec, "searcher": {"kind": "random", "trials": len(configurations)}},
        seed=2**62 + 1,
        code_version="0",
        environment={},
    )
    rows = [
        TrialRow(
            number=n,
            configuration=(canonical := space.canonical(configuration)),
            configuration_hash=configuration_key(canonical),
            seed=2**62 + n,
            created=START + timedelta(seconds=n),
            orbit_size=space.orbit_size(canonical),
            sampling_design="random",
            inclusion_probability=1.0,
            plan={"optimised": True} if n % 4 == 3 else None,
        )
        for n, configuration in enumerate(configurations)
    ]
    decision = DecisionRecord(
        step=1, space="A", policy="best-auc", chooser="kdsearch", group=None, value=None, child=None,
        reason="nothing", at=START, alpha=0.05, draws=2, table=({"group": "x"},),
    )  # fmt: skip
    database.apply(
        [
            AddSpaces(
                name,
                (SpaceRow(name="A", specification=spec, hash=space.hash, counts=space.counts().to_dict()),),
            ),
            AddTrials(name, tuple(rows)),
            AddDraws(
                name,
                tuple(
                    DrawRow(space="A", draw=draw, trial=draw % len(rows), fresh=True)
                    for draw in range(len(rows) + 1)
                ),
            ),
            AddEvents(name, (decision_event(decision),)),
        ]
    )
    for row, state, error in zip(rows, states, errors, strict=True):
        if state is not TrialState.WAITING:
            _run(database, name, row.number, state, error, epochs)
    return space


def _run(database, name, number, state, error, epochs):
    begun = START + timedelta(minutes=number)
    attempt = 1 + number % 2
    curve = [error + epochs - step for step in range(1, epochs + 1)]
    if state is TrialState.DIVERGED:
        curve[-1] = nan
    known = state in {TrialState.COMPLETE, TrialState.STOPPED}
    database.apply(
        [
            StartAttempts(name, (AttemptStart(number=number, n=attempt, host="h", device="cpu", at=begun),)),
            RecordMetrics(
                name,
                tuple(
                    MetricRow(
                        number=number,
                        attempt=attempt,
                        step=step,
                        values={"1/val_error": value, "1/train_loss": value / 7, "seconds": 0.5},
                    )
                    for step, value in enumerate(curve, start=1)
                ),
            ),
        ]
    )
    if state is TrialState.RUNNING:
        return
    result = ResultRow(
        number=number,
        attempt=attempt,
        state=state,
        at=begun + timedelta(seconds=30, microseconds=number),
        error=error if known else None,
        best_error=error if known else None,
        best_epoch=epochs if known else None,
        last_epoch=epochs,
        seconds=0.5 * epochs,
        message="" if known else f"it is {state}",
    )
    database.apply([FinishTrials(name, (result,))])


def add_pretraining(database, name, number):
    """A trial that is no trial of the search."""
    configuration = {"model.1": "resnet8w4", "label->1": "through"}
    row = TrialRow(
        number=number,
        configuration=configuration,
        configuration_hash=configuration_key(configuration),
        seed=9,
        created=START,
        role=Role.PRETRAIN,
        sampling_design="baseline",
    )
    database.apply([AddTrials(name, (row,))])
    _run(database, name, number, TrialState.COMPLETE, 33.0, 2)
