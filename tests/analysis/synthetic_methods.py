"""A made-up comparison of methods for tests: errors, curves and costs come from formulas, nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis.record import SpaceRecord, SweepRecord
from kdsearch.spaces import space_from_spec

STARTED = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
SPACE = {
    "kind": "parameters",
    "parameters": {
        "lambda_1": {"type": "float", "low": 0.0, "high": 1.0},
        "temperature": {"type": "log-uniform", "low": 0.1, "high": 10.0},
    },
}
BOUNDS = {"lambda_1": [0.0, 1.0], "temperature": [0.1, 10.0]}
_GRADIENT = {"kind": "gradient", "metaparameters": None, "rate": 0.1, "e1": 1, "e2": 0, "fit": "value"}
_GRADIENT |= {"hypergradient": "exact", "clip": 0.01, "epsilon": 0.01, "train_on": "training"}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "none": {"kind": "fixed", "values": {"lambda_1": 1.0, "temperature": 1.0}, "train_on": "all"},
    "naive": {"kind": "fixed", "values": {"lambda_1": 0.5, "temperature": 1.0}, "train_on": "all"},
    "random": {"kind": "random", "train_on": "all", "parameters": {}},
    "tpe-hyperopt": {"kind": "tpe", "library": "hyperopt", "trials": 5},
    "tpe-optuna": {"kind": "tpe", "library": "optuna", "trials": 5},
    "gradient": _GRADIENT,
    "prediction": _GRADIENT | {"e1": 10, "e2": 10},
}
PERIODS = {"method": "prediction", "equal": [5, 10, 20], "e1": 10, "e2": [5, 10, 40]}
# What a method adds to the accuracy of its run, in percentage points; the run itself adds luck that all share.
GAIN = {"none": -1.0, "naive": 0.0, "random": -0.5, "tpe-hyperopt": 0.6, "tpe-optuna": 0.8}
GAIN |= {"gradient": 2.0, "prediction": 1.7}
# Passes an iteration, forward, backward and tangent, and the seconds that they take.
_PLAIN = ((1.0, 1.0, 0.0), 0.010)
_GREEDY = ((2.0, 2.0, 1.0), 0.034)
_ITERATIONS = {"all": 12, "training": 10}  # an epoch
MEMBERS = 5  # trials that share a program; explorations of TPE are alone


def comparison(
    *,
    seed: int = 0,
    runs: int = 10,
    epochs: int = 12,
    methods: Sequence[str] = tuple(METHODS),
    periods: bool = True,
    diverged: Sequence[tuple[str, int]] = (("random", 3), ("tpe-optuna", 0)),
    failed: Sequence[tuple[str, int]] = (("gradient", 6),),
    missing: Sequence[tuple[str, int]] = (("prediction", 9),),
    tested: bool = True,
) -> SweepRecord:
    """Return a comparison sweep with a pre-trained teacher and every kind of trial.

    diverged, failed, missing name (method, run) whose final trial ended so, or (missing) was still running when the
    record was made. The first exploration of a diverged TPE run diverged, too. tested: final trials report test
    errors, else validation errors.
    """
    maker = _Maker(seed, epochs, runs, tested=tested)
    maker.endings = {
        (name, run): state for state, given in _endings(diverged, failed, missing) for name, run in given
    }
    maker.teacher()
    for name in methods:
        for run in range(runs):
            maker.run(name, run, METHODS[name])
    for e1, e2 in _studied() if periods else ():
        for run in range(runs):
            maker.run(f"prediction e1={e1} e2={e2}", run, METHODS["prediction"] | {"e1": e1, "e2": e2})
    settings = {
        "kind": "comparison",
        "runs": runs,
        "reference": "naive",
        "methods": {name: dict(METHODS[name]) for name in methods},
        "periods": dict(PERIODS) if periods else None,
    }
    return maker.record(settings, unfinished=bool(missing))


def _endings(
    diverged: Sequence[tuple[str, int]], failed: Sequence[tuple[str, int]], missing: Sequence[tuple[str, int]]
) -> tuple[tuple[str, Sequence[tuple[str, int]]], ...]:
    return ("diverged", diverged), ("failed", failed), ("running", missing)


def _studied() -> list[tuple[int, int]]:
    """Return the pairs (e1, e2) that are trained beside the method itself, each once."""
    pairs = [(e, e) for e in PERIODS["equal"]] + [(PERIODS["e1"], e2) for e2 in PERIODS["e2"]]
    own = (METHODS["prediction"]["e1"], METHODS["prediction"]["e2"])
    return [pair for pair in dict.fromkeys(pairs) if pair != own]


class _Maker:
    """Trials and curves as they come."""

    def __init__(self, seed: int, epochs: int, runs: int, *, tested: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.epochs = epochs
        self.tested = tested
        self.luck = self.rng.normal(0, 1.2, runs)  # of a run, whatever the method
        self.space = space_from_spec(SPACE, name="A")
        self.endings: dict[tuple[str, int], str] = {}
        self.trials: list[dict[str, Any]] = []
        self.curves: list[tuple[int, int, str, int, float]] = []

    def teacher(self) -> None:
        self._trial({}, error=22.0, role="pretrain", plan=None, costs=_PLAIN, members=1)

    def run(self, method: str, run: int, settings: Mapping[str, Any]) -> None:
        """Add the trials of one run of a method: explorations first, the one that counts last."""
        kind = settings["kind"]
        plan = {"method": method, "run": run, "optimised": kind in {"tpe", "gradient"}}
        ending = self.endings.get((method, run), "complete")
        configuration = dict(settings["values"] if kind == "fixed" else self.space.sample(self.rng))
        for i in range(settings.get("trials", 1) if kind == "tpe" else 0):
            configuration = dict(self.space.sample(self.rng))
            state = "diverged" if i == 0 and ending == "diverged" else "complete"
            explored = plan | {
                "final": False,
                "train_on": "training",
                "evaluate": False,
                "objective": "val_error",
            }
            error = 31.0 - self.luck[run] + float(self.rng.gamma(2, 0.8))
            self._trial(configuration, error=error, plan=explored, state=state, design="tpe", members=1)
        trained_on = "all" if settings.get("train_on") == "all" else "training"
        plan |= {"final": True, "train_on": trained_on, "evaluate": self.tested}
        plan |= {"objective": "test_error" if self.tested else "val_error"}
        if kind == "gradient":
            names = ("rate", "e1", "e2", "fit", "hypergradient", "clip", "epsilon")
            optimiser = {name: settings[name] for name in names}
            plan["optimiser"] = optimiser | {"start": dict(configuration), "bounds": BOUNDS}
        gain = GAIN[method.split(" ", 1)[0]]
        gain -= 0.02 * (settings["e1"] + settings["e2"]) if " " in method else 0.0
        error = 30.0 - self.luck[run] - gain + float(self.rng.normal(0, 0.5))
        costs = _costs(settings) if kind == "gradient" else _PLAIN
        self._trial(configuration, error=error, plan=plan, state=ending, design=kind, costs=costs)

    def _trial(
        self,
        configuration: Mapping[str, Any],
        *,
        error: float,
        plan: Mapping[str, Any] | None,
        role: str = "search",
        state: str = "complete",
        design: str = "fixed",
        costs: tuple[tuple[float, float, float], float] = _PLAIN,
        members: int = MEMBERS,
    ) -> None:
        number = len(self.trials)
        last = self.epochs if state == "complete" else self.epochs // 2
        done = state == "complete"
        first = len(self.curves)
        self._cost_curves(number, last, plan or {}, costs, members)
        seconds = sum(value for _, _, metric, _, value in self.curves[first:] if metric == "seconds")
        self._error_curves(number, last, plan or {}, error)
        self._metaparameter_curves(number, last, plan or {}, configuration)
        began = STARTED + timedelta(seconds=0.2 * number)
        self.trials.append(
            {
                "number": number,
                "role": role,
                "state": state,
                "error": error if done else float("nan"),
                "best_error": error - 0.1 if done else float("nan"),
                "best_epoch": last if done else None,
                "last_epoch": last,
                "orbit_size": 1,
                "seed": int(self.rng.integers(2**62)) if plan is None else 1000 + int(plan["run"]),
                "seconds": seconds,
                "attempts": 1,
                "message": {"diverged": "the loss is not finite", "failed": "out of <memory>"}.get(state, ""),
                "started": began,
                "ended": pd.NaT if state == "running" else began + timedelta(seconds=seconds),
                "design": design,
                "method": None if plan is None else plan["method"],
                "run": None if plan is None else plan["run"],
                "final": plan is not None and bool(plan["final"]),
                "plan": None if plan is None else dict(plan),
                **configuration,
            }
        )

    def _error_curves(self, number: int, last: int, plan: Mapping[str, Any], error: float) -> None:
        for epoch in range(1, last + 1):
            fall = (85.0 - error) * float(np.exp(-5.0 * (epoch - 1) / max(self.epochs - 1, 1)))
            value = error if epoch == self.epochs else error + fall + float(self.rng.normal(0, 0.3))
            told = {"train_loss": value / 40}
            if plan.get("train_on") != "all" or not plan.get("evaluate"):
                told |= {"val_loss": value / 35, "val_error": value}
            if plan.get("evaluate"):
                told |= {"test_loss": value / 35, "test_error": value}
            self.curves += [(number, 1, metric, epoch, each) for metric, each in told.items()]

    def _cost_curves(
        self,
        number: int,
        last: int,
        plan: Mapping[str, Any],
        costs: tuple[tuple[float, float, float], float],
        members: int,
    ) -> None:
        passes, seconds = costs
        iterations = _ITERATIONS[plan.get("train_on", "training")]
        for epoch in range(1, last + 1):
            train = iterations * seconds * (4.0 if epoch == 1 else 1.0)  # the first epoch is slow
            told = {"train_seconds": train, "seconds": train + 0.05, "images_per_s": iterations * 128 / train}
            names = ("forward_passes", "backward_passes", "tangent_passes")
            told |= {name: each * iterations for name, each in zip(names, passes, strict=True)}
            told |= {
                "iterations": float(iterations),
                "members": float(members),
                "skipped_hypergradients": 0.0,
            }
            self.curves += [(number, 0, metric, epoch, each) for metric, each in told.items()]

    def _metaparameter_curves(
        self, number: int, last: int, plan: Mapping[str, Any], configuration: Mapping[str, Any]
    ) -> None:
        aim = {"lambda_1": 0.2, "temperature": 4.0}
        for name, start in configuration.items():
            for epoch in range(1, last + 1):
                way = 1.0 - float(np.exp(-3.0 * epoch / self.epochs)) if "optimiser" in plan else 0.0
                value = start + way * (aim[name] - start)
                self.curves.append((number, 0, f"meta.{name}", epoch, value))

    def record(self, searcher: Mapping[str, Any], *, unfinished: bool) -> SweepRecord:
        space = SpaceRecord(
            name="A",
            spec=self.space.to_spec(),
            parent=None,
            restriction=None,
            counts=self.space.counts().to_dict(),
            exhaustive=False,
        )
        return SweepRecord(
            name="kd-made-up",
            kind="sweep",
            trainable="kd",
            state="interrupted" if unfinished else "complete",
            seed=self.seed,
            settings={
                "name": "kd-made-up",
                "space": SPACE,
                "searcher": searcher,
                "trainable": {"kind": "kd", "data": {"name": "digits"}, "epochs": self.epochs},
            },
            environment={
                "kdsearch": "0.2.0",
                "python": "3.11.9",
                "cpu": "2 cores",
                "command": "kdsearch sweep kd-made-up",
            },
            created=STARTED,
            ended=None if unfinished else STARTED + timedelta(minutes=3),
            spaces=(space,),
            trials=_frame(self.trials),
            draws=pd.DataFrame({"space": [], "draw": [], "trial": [], "fresh": []}),
            curves=pd.DataFrame(self.curves, columns=["trial", "node", "metric", "epoch", "value"]),
            notes=("The sweep was interrupted.",) if unfinished else (),
        )


def _costs(settings: Mapping[str, Any]) -> tuple[tuple[float, float, float], float]:
    """Return passes and seconds of an iteration, plain and gradient iterations mixed as e1 and e2 say."""
    share = settings["e1"] / (settings["e1"] + settings["e2"])
    passes = [
        share * greedy + (1 - share) * plain for greedy, plain in zip(_GREEDY[0], _PLAIN[0], strict=True)
    ]
    return (passes[0], passes[1], passes[2]), share * _GREEDY[1] + (1 - share) * _PLAIN[1]


def _frame(trials: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(trials))
    text = pd.StringDtype(na_value=np.nan)
    return frame.astype({"method": text, "run": "Int64", "best_epoch": "Int64", "final": bool})


def of_one_method(record: SweepRecord, method: str) -> SweepRecord:
    """Return the record with the final trials of one method alone, as a top-level searcher would leave them."""
    trials = record.trials[(record.trials["method"] == method) & record.trials["final"]].copy()
    trials[["method", "run"]] = None
    trials["final"] = False
    trials["plan"] = [
        {key: value for key, value in plan.items() if key not in {"method", "run", "final"}}
        for plan in trials["plan"]
    ]
    kept = record.curves[record.curves["trial"].isin(trials["number"])]
    settings = dict(record.settings) | {"searcher": dict(METHODS[method]) | {"trials": len(trials)}}
    return replace(
        record, trials=trials.reset_index(drop=True), curves=kept.reset_index(drop=True), settings=settings
    )
