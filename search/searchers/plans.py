"""Plans: what a searcher tells a trial beside its configuration, as plain data that the database keeps.

method, run, final: whose trial it is in a comparison; `final` ones stand for the method's run in its tables.
optimised: metaparameters are chosen by looking at the validation part.
train_on: "training", or "all": the validation images are trained on too.
evaluate: the test part is measured: after every epoch (kd), or once, after the last (ktg, bbm).
objective: the target's metric that is the trial's error, val_error or test_error.
optimiser: `OptimiserSettings` as plain data, for metaparameters that follow their gradient.
data: which of the data sets of a retraining it is; without it the trainable's own.

No key is needed; without any, a trial trains on the training part and is judged on the validation part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.metaparameters.settings import OptimiserSettings

VALIDATION = "val_error"
TEST = "test_error"
_TARGET = "1"  # the node whose error counts


def final_plan(
    method: str, run: int, *, train_on: str, optimised: bool, optimiser: OptimiserSettings | None = None
) -> dict[str, Any]:
    """The trial that stands for a run of a method: the only kind that sees the test part."""
    plan = {
        "method": method,
        "run": run,
        "final": True,
        "optimised": optimised,
        "train_on": train_on,
        "evaluate": True,
        "objective": TEST,
    }
    return plan if optimiser is None else plan | {"optimiser": optimiser.to_mapping()}


def trial_plan(method: str, run: int) -> dict[str, Any]:
    """A trial that a method learns from, before the final one of the run: it never sees the test part."""
    return {
        "method": method,
        "run": run,
        "final": False,
        "optimised": True,
        "train_on": "training",
        "evaluate": False,
        "objective": VALIDATION,
    }


def descent_plan(optimiser: OptimiserSettings) -> dict[str, Any]:
    """A trial of a gradient search that is no part of a comparison."""
    return {"optimised": True, "optimiser": optimiser.to_mapping()}


def check_plan(number: int, plan: Mapping[str, Any]) -> None:
    """Refuse a trial of a search that would see the test part, whatever searcher asks for it.

    Raises:
        UsageError: the plan is not that of a final trial, and asks to be measured on or judged by the test part.

    """
    if (plan.get("evaluate") or objective_of(plan) == TEST) and not plan.get("final"):
        raise UsageError(
            f"the searcher asked for trial {number} to be measured on the test part, which no search may see",
            "Only final trials are: those whose plan has final: true, and from which nothing is learned.",
        )


def objective_of(plan: Mapping[str, Any]) -> str:
    """The metric that is the trial's error: val_error or test_error."""
    return str(plan.get("objective", VALIDATION))


def objective_metric(plan: Mapping[str, Any]) -> str:
    """The same as trials report it, with its node."""
    return f"{_TARGET}/{objective_of(plan)}"


def shared_part(plan: Mapping[str, Any]) -> str:
    """What trials of one pack have in common: all but the run and the optimiser's start and bounds, as one text."""
    shared = {key: value for key, value in plan.items() if key != "run"}
    if "optimiser" in shared:
        own = ("start", "bounds")  # graphs of a pack have different learned gates
        shared["optimiser"] = {key: value for key, value in shared["optimiser"].items() if key not in own}
    return json.dumps(shared, sort_keys=True)
