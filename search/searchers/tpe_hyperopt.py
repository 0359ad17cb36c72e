"""TPE by Hyperopt (Bergstra et al. 2013), through its suggest function, without its loop.

A space is an expression of Hyperopt's own: a parameter that others depend on is a choice (`hp.choice`) among branches,
in which they exist or not. Hyperopt estimates each parameter by itself, from the trials that have it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hyperopt import hp, tpe
from hyperopt.base import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK, Domain, Trials
from hyperopt.pyll import scope

from kdsearch.search.searchers.axes import Axis, free, places, walk
from kdsearch.search.searchers.base import Outcome
from kdsearch.spaces import Configuration, Float, LogUniform, Value
from kdsearch.spaces.values import same_value
from kdsearch.trainables.seeds import derive_seed

STARTUP: Final = 20  # `tpe.suggest`'s own number of random draws before the first estimate


class _Documents(Trials):  # type: ignore[misc] # Hyperopt is not typed
    """Trials as `tpe.suggest` reads them. Hyperopt's own list is made anew, from all trials, after each new one."""

    @property
    def trials(self) -> list[dict[str, Any]]:
        """All of them, oldest first."""
        return self._dynamic_trials  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self._dynamic_trials)


class HyperoptTpe:
    """One search."""

    def __init__(self, axes: Sequence[Axis], *, seed: int, startup: int | None) -> None:
        self._axes, self._seed, self._startup = axes, seed, startup or STARTUP
        self._trials = _Documents()
        self._domain = Domain(_never_called, _expression(axes), pass_expr_memo_ctrl=False)
        self._proposed = self._kept = 0

    def propose(self) -> dict[str, Value]:
        """What Hyperopt suggests next; proposals without an outcome count as bad ones, as Hyperopt has it."""
        seed = derive_seed(self._seed, "ask", self._proposed) % 2**32
        self._proposed += 1
        [found] = tpe.suggest(
            [len(self._trials)], self._domain, self._trials, seed, n_startup_jobs=self._startup, verbose=False
        )
        # pending until something is kept, so that it is not proposed over and over
        self._trials.insert_trial_docs([found])
        values = {name: float(drawn[0]) for name, drawn in found["misc"]["vals"].items() if len(drawn)}
        return walk(self._axes, lambda axis: values[axis.name])

    def keep(self, configuration: Configuration) -> None:
        """Let a configuration be the next trial without an outcome."""
        del self._trials.trials[self._kept :]
        number = self._kept
        self._kept += 1
        found = places(self._axes, configuration)
        misc = {
            "tid": number,
            "cmd": self._domain.cmd,
            "workdir": None,
            "idxs": {name: [number] if name in found else [] for name in self._domain.params},
            "vals": {name: [found[name]] if name in found else [] for name in self._domain.params},
        }
        documents = self._trials.new_trial_docs([number], [None], [self._domain.new_result()], [misc])
        self._trials.insert_trial_docs(documents)

    def learn(self, index: int, outcome: Outcome) -> None:
        """Tell a trial's error, or that it failed; Hyperopt knows no curves, so of a stopped one the last error."""
        trial = self._trials.trials[index]
        lost = outcome.state not in {"complete", "stopped"}
        trial["state"] = JOB_STATE_DONE
        trial["result"] = {"status": STATUS_FAIL} if lost else {"status": STATUS_OK, "loss": outcome.error}


def _expression(axes: Sequence[Axis]) -> dict[str, Any]:
    """A space as Hyperopt knows it; finite parameters by place."""
    by_name = {axis.name: axis for axis in axes}
    nodes = {axis.name: _node(axis) for axis in free(axes)}
    branches = {axis.name: _branches(axis, nodes[axis.name], by_name, nodes) for axis in free(axes)}
    found = {name: branch for name, branch in branches.items() if branch is not None}
    return found or {"": hp.uniform("", 0, 1)}  # Hyperopt needs a parameter; nothing reads this one


def _branches(axis: Axis, inner: Any, by_name: Mapping[str, Axis], nodes: Mapping[str, Any]) -> Any:
    """An expression that exists where the conditions of `axis`, and those of its parents, hold.

    `scope.switch` on the parent's own node is what `hp.choice` writes; so a parent is drawn once, however many
    parameters depend on it.
    """
    for name, values in axis.when:
        parent = by_name.get(name)
        if parent is None:  # restrictions let it be inactive only: so is what depends on it
            return None
        if parent.constant is not None:
            holds = any(same_value(parent.constant, value) for value in values)
            inner = inner if holds else None
        else:
            options = [parent.value_of(place) for place in range(_size(parent))]
            holding = [any(same_value(option, value) for value in values) for option in options]
            inner = scope.switch(nodes[name], *(inner if holds else None for holds in holding))
        inner = _branches(parent, inner, by_name, nodes)
    return inner


def _size(parent: Axis) -> int:
    """The number of values of a parameter that others depend on, which is finite."""
    return 0 if isinstance(parent.domain, Float) else parent.domain.size


def _node(axis: Axis) -> Any:
    """A parameter that always exists."""
    match axis.domain:
        case LogUniform(low=low, high=high):
            return hp.loguniform(axis.name, math.log(low), math.log(high))
        case Float(low=low, high=high):
            return hp.uniform(axis.name, low, high)
        case domain if axis.ordered:
            # rounded to whole numbers, of which the outermost ones have their full share too
            return scope.int(hp.quniform(axis.name, -0.5, domain.size - 0.5, 1))
        case domain:
            return hp.randint(axis.name, domain.size)


def _never_called(point: object) -> float:
    """Hyperopt wants an objective; trials are trained elsewhere."""
    raise RuntimeError(f"Hyperopt was to propose and not to train, and asked for the outcome of {point}")


def make(axes: Sequence[Axis], *, seed: int, startup: int | None) -> HyperoptTpe:
    """Begin a search."""
    return HyperoptTpe(axes, seed=seed, startup=startup)
