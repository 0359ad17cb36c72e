"""Records made up for tests: a refinement whose errors come from a formula, so that nothing needs to be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis.conditions import condition_table
from kdsearch.analysis.record import DecisionRecord, SpaceRecord, SweepRecord
from kdsearch.spaces import DesignSpace, Graph, configuration_key, space_from_spec

KTG = {
    "kind": "ktg",
    "target": "resnet8",
    "auxiliary": {"count": 2, "models": ["resnet8", "wrn10-2"]},
    "gates": ["through", "cutoff", "linear"],
}
GENERIC = {
    "kind": "parameters",
    "parameters": {
        "temperature": {"type": "float", "low": 1.0, "high": 8.0},
        "width": {"type": "integer", "low": 1, "high": 4},
        "loss": {"type": "categorical", "values": ["kl", "mse", "<b>&x"]},
    },
}
STARTED = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
_BASE = {"resnet8": 3.4, "wrn10-2": 2.1}


def ktg_error(configuration: Mapping[str, Any], rng: np.random.Generator) -> float:
    """A made-up error: wide auxiliary nodes, labels for them, and late transfer to the target help."""
    graph = Graph.from_configuration(configuration, "resnet8")
    error = 5.0 - 0.8 * sum(model == "wrn10-2" for model in graph.models[1:])
    for node in (2, 3):
        error -= {"through": 0.4, "linear": 0.25, "cutoff": 0.0}[graph.gate("label", node)]
        error -= {"through": 0.1, "linear": 0.3, "cutoff": 0.0}[graph.gate(node, 1)]
    error += {"through": 0.0, "linear": 0.05, "cutoff": 0.3}[graph.gate("label", 1)]
    return float(max(0.3, error + rng.gamma(2.0, 0.22)))


class _Ledger:
    """Trials, draws and curves as they come."""

    def __init__(self, seed: int, epochs: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.epochs = epochs
        self.trials: list[dict[str, Any]] = []
        self.draws: list[dict[str, Any]] = []
        self.curves: list[tuple[int, int, str, int, float]] = []
        self.by_key: dict[str, list[int]] = {}

    def train(self, configuration: Mapping[str, Any], *, role: str, orbit: int, error: float) -> int:
        number = len(self.trials)
        lucky = role == "pretrain" or self.rng.random() > 0.006  # a few trials diverge
        began = STARTED + timedelta(seconds=0.3 * number)
        self.trials.append(
            {
                "number": number,
                "role": role,
                "state": "complete" if lucky else "diverged",
                "error": error if lucky else float("nan"),
                "best_error": error - 0.05,
                "best_epoch": self.epochs,
                "last_epoch": self.epochs if lucky else 2,
                "orbit_size": orbit,
                "seed": int(self.rng.integers(2**62)),
                "seconds": float(self.rng.gamma(9, 0.03)),
                "attempts": 1,
                "message": "" if lucky else "node 2: the loss is not finite",
                "started": began,
                "ended": began + timedelta(seconds=0.3),
                **configuration,
            }
        )
        nodes = 1 if role == "pretrain" else 3
        for node in range(1, nodes + 1):
            final = error if node == 1 else _BASE["wrn10-2"] + float(self.rng.normal(0, 0.1))
            for epoch in range(1, self.epochs + 1):
                value = final + (88 - final) * float(
                    np.exp(-3.2 * (epoch - 1) / max(self.epochs - 1, 1) ** 0.7)
                )
                value = final if epoch == self.epochs else value
                self.curves.append((number, node, "val_error", epoch, value))
                self.curves.append((number, node, "train_loss", epoch, value / 30))
        return number

    def draw(self, space: str, trial: int, *, fresh: bool) -> None:
        number = sum(draw["space"] == space for draw in self.draws)
        self.draws.append({"space": space, "draw": number, "trial": trial, "fresh": int(fresh)})


def refinement(
    *,
    seed: int = 0,
    draws: int = 120,
    limit: int = 500,
    repeats: int = 1,
    epochs: int = 8,
    name: str = "ktg-made-up",
) -> SweepRecord:
    """A whole refinement by the best AUC, with reuse of trials, symmetric duplicates and a few divergences."""
    ledger = _Ledger(seed, epochs)
    for model in ("resnet8", "wrn10-2"):
        for _ in range(2):
            error = _BASE[model] + float(ledger.rng.normal(0, 0.15))
            ledger.train({"model.1": model, "label->1": "through"}, role="pretrain", orbit=1, error=error)
    space: DesignSpace = space_from_spec(KTG, name="A")
    spaces: list[SpaceRecord] = []
    decisions: list[DecisionRecord] = []
    inherited: list[int] = []
    while True:
        last = (space.counts().encodings or 0) <= limit
        _draw_space(ledger, space, inherited, draws, repeats, last=last)
        letter = space.name or "A"
        spaces.append(_space_record(space, spaces, exhaustive=last, repeats=repeats))
        if last:
            break
        decision = _decide(ledger, space, len(decisions) + 1, seed)
        decisions.append(decision)
        group = next(group for group in space.groups() if group.name == decision.group)
        child = space.restrict(group.restriction(str(decision.value)), name=decision.child)
        if (child.counts().encodings or 0) <= limit:
            decisions[-1] = replace(decision, child="X")
            child = child.renamed("X")
        inherited = [d["trial"] for d in ledger.draws if d["space"] == letter and _row(ledger, d) in child]
        space = child
    return _record(
        ledger, name=name, seed=seed, spaces=tuple(spaces), decisions=tuple(decisions), draws=draws
    )


def _row(ledger: _Ledger, draw: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for name in ledger.trials[draw["trial"]] if name.startswith("model.") or "->" in name]
    return {name: ledger.trials[draw["trial"]][name] for name in names}


def _draw_space(
    ledger: _Ledger, space: DesignSpace, inherited: list[int], draws: int, repeats: int, *, last: bool
) -> None:
    letter = space.name or "A"
    if last:
        for _ in range(repeats):
            for configuration in space.enumerate(classes=True):
                orbit = space.orbit_size(configuration)
                error = ktg_error(configuration, ledger.rng)
                trial = ledger.train(configuration, role="search", orbit=orbit, error=error)
                for _ in range(orbit):
                    ledger.draw(letter, trial, fresh=True)
        return
    for trial in inherited:
        ledger.draw(letter, trial, fresh=False)
    for _ in range(draws - len(inherited)):
        configuration = space.canonical(space.sample(ledger.rng))
        known = ledger.by_key.setdefault(letter + configuration_key(configuration), [])
        if not known:
            error = ktg_error(configuration, ledger.rng)
            orbit = space.orbit_size(configuration)
            known.append(ledger.train(configuration, role="search", orbit=orbit, error=error))
        ledger.draw(letter, known[0], fresh=True)


def _decide(ledger: _Ledger, space: DesignSpace, step: int, seed: int) -> DecisionRecord:
    mine = [draw for draw in ledger.draws if draw["space"] == space.name]
    numbers = sorted({draw["trial"] for draw in mine})
    weights = [sum(draw["trial"] == number for draw in mine) for number in numbers]
    rows = [ledger.trials[number] for number in numbers]
    errors = [row["error"] if row["state"] == "complete" else 100.0 for row in rows]
    configurations = [_row(ledger, {"trial": number}) for number in numbers]
    groups = space.groups()
    labels = {group.name: [group.value_of(one) for one in configurations] for group in groups}
    levels = {group.name: group.values for group in groups}  # noqa: PD011 - no frame
    table = condition_table(errors, weights, labels, levels, seed=seed + step, alpha=0.05 / 3, resamples=999)
    best = max((row for row in table if row.n >= 5 and row.auc is not None), key=lambda row: row.auc or 0.0)
    return DecisionRecord(
        step=step,
        space=space.name or "A",
        policy="best-auc",
        chooser="kdsearch",
        group=best.group,
        value=best.value,
        child=chr(ord("A") + step),
        reason=f"{best.group} = {best.value} has the highest AUC of all conditions with at least 5 draws.",
        at=STARTED + timedelta(minutes=step),
        alpha=0.05 / 3,
        draws=len(mine),
        table=tuple(asdict(row) for row in table),
    )


def _space_record(
    space: DesignSpace, before: list[SpaceRecord], *, exhaustive: bool, repeats: int
) -> SpaceRecord:
    return SpaceRecord(
        name=space.name or "A",
        spec=space.to_spec(),
        parent=before[-1].name if before else None,
        restriction=None if space.restriction is None else str(space.restriction),
        counts=space.counts().to_dict(),
        exhaustive=exhaustive,
        repeats=repeats if exhaustive else 1,
    )


def _record(
    ledger: _Ledger,
    *,
    name: str,
    seed: int,
    spaces: tuple[SpaceRecord, ...],
    decisions: tuple[DecisionRecord, ...],
    draws: int,
) -> SweepRecord:
    return SweepRecord(
        name=name,
        kind="refine",
        trainable="ktg",
        state="complete",
        seed=seed,
        settings={
            "name": name,
            "space": KTG,
            "searcher": {"kind": "refinement", "draws": draws, "limit": 500},
            "trainable": {
                "kind": "ktg",
                "data": {"name": "digits", "augment": True},
                "epochs": ledger.epochs,
            },
        },
        environment={
            "kdsearch": "0.1.0",
            "python": "3.11.9",
            "cpu": "2 cores",
            "command": "kdsearch refine made-up",
        },
        created=STARTED,
        ended=STARTED + timedelta(minutes=3, seconds=20),
        spaces=spaces,
        decisions=decisions,
        trials=pd.DataFrame(ledger.trials),
        draws=pd.DataFrame(ledger.draws, columns=["space", "draw", "trial", "fresh"]),
        curves=pd.DataFrame(ledger.curves, columns=["trial", "node", "metric", "epoch", "value"]),
    )


def generic(*, seed: int = 0, trials: int = 40) -> SweepRecord:
    """A random sweep over a space that is no graph, with names that need escaping."""
    ledger = _Ledger(seed, 3)
    space = space_from_spec(GENERIC, name="A")
    for _ in range(trials):
        configuration = space.sample(ledger.rng)
        error = 10 + abs(float(configuration["temperature"]) - 4) + float(ledger.rng.gamma(2, 1))
        trial = ledger.train(configuration, role="search", orbit=1, error=error)
        ledger.draw("A", trial, fresh=True)
    record = _record(
        ledger,
        name="generic",
        seed=seed,
        spaces=(_space_record(space, [], exhaustive=False, repeats=1),),
        decisions=(),
        draws=trials,
    )
    settings = {"name": "generic", "space": GENERIC, "searcher": {"kind": "random", "trials": trials}}
    return replace(record, kind="sweep", trainable="kd", settings=settings)


def interrupted(record: SweepRecord, *, done: int) -> SweepRecord:
    """The same sweep, stopped when `done` trials were complete: the next one was running, the others wait."""
    trials = record.trials.copy()
    later = trials["number"] >= done
    trials.loc[later, ["error", "best_error"]] = float("nan")
    trials.loc[later, "state"] = "waiting"
    trials.loc[trials["number"] == done, "state"] = "running"
    trials.loc[later, ["started", "ended"]] = pd.NaT
    first = record.spaces[0].name
    return replace(
        record,
        state="interrupted",
        ended=None,
        spaces=record.spaces[:1],
        decisions=(),
        trials=trials,
        draws=record.draws[record.draws["space"] == first].reset_index(drop=True),
        curves=record.curves[record.curves["trial"] < done].reset_index(drop=True),
        notes=("The sweep was interrupted.",),
    )


def empty(record: SweepRecord) -> SweepRecord:
    """The same sweep before any trial."""
    return replace(
        interrupted(record, done=0), trials=record.trials.iloc[:0], draws=record.draws.iloc[:0], notes=()
    )
