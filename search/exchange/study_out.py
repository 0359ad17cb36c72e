"""A sweep as an Optuna study: trials with parameters, distributions, errors by epoch, states, times and attributes.

The study minimises the error in per cent. What Optuna has no place for stands in user attributes, of the study (the
sweep, its spaces with parent and restriction, its decisions) and of each trial (number, seed, design, ...). Trials
are numbered from 0 as Optuna does; the attribute `number` has the trial's own. Pre-trainings and trainings of a
search's best configuration anew are no trials of the search, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from kdsearch.search.exchange.curves_out import thinned
from kdsearch.search.exchange.distributions import Distributions, distributions_of
from kdsearch.search.searchers.confirmation import DESIGN as CONFIRMATION
from kdsearch.search.searchers.plans import TEST, VALIDATION, objective_of
from kdsearch.search.trialdb import Event, Role, Sweep, Trial, TrialDatabase, TrialState
from kdsearch.search.trialdb.operations import SpaceRow
from kdsearch.search.trialdb.optuna_storage import Study
from kdsearch.search.trialdb.record import DECISION
from kdsearch.spaces import TARGET, space_from_spec
from kdsearch.spaces.errors import UsageError

VERSION: Final = 1  # of the attributes below
VERSION_KEY: Final = "kdsearch_export"  # a study with this attribute was written here
DRAWS: Final = "draws:"  # and a space's name
# A trial that waits or runs may still do so in Optuna; one that was lost will never be told by anyone.
STATES: Final[Mapping[TrialState, OptunaState]] = {
    TrialState.WAITING: OptunaState.WAITING,
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.PAUSED: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
}
_ENDLESS: Final = (OptunaState.WAITING, OptunaState.RUNNING)

optuna.logging.set_verbosity(optuna.logging.ERROR)  # the terminal is the command's


@dataclass(frozen=True, kw_only=True)
class StudyOut:
    """A study that is ready to be written, and what a reader must know of it."""

    study: Study
    values: int  # intermediate values in all
    notes: tuple[str, ...]


def study_of(database: TrialDatabase, name: str, *, study: str, every: int = 1) -> StudyOut:
    """Build the study of a sweep; `every`: epochs that are multiples of it alone, and each trial's last one.

    Raises:
        UsageError: the sweep has no trial that a study could hold.

    """
    sweep, spaces, everything = database.sweep(name), database.spaces(name), database.trials(name)
    trials = [
        trial for trial in everything if trial.role is Role.SEARCH and trial.sampling_design != CONFIRMATION
    ]
    if not trials:
        raise UsageError(
            f"sweep {name} has no trials of its search yet, so there is no study of them",
            "Export it as csv, which has pre-trainings too, or wait for the first trial.",
        )
    distributions = distributions_of(
        space_from_spec(spaces[0].specification), [trial.configuration for trial in trials]
    )
    curves = _curves(
        database, name, {trial.number: objective_of(trial.plan or {}) for trial in trials}, every
    )
    draws = _draws(database, name)
    # a complete sweep has no need of seeds that nobody knows
    seeds = sweep.settings.get("source", {}).get("seeds", True)
    frozen = [
        _frozen(trial, distributions, curves.get(trial.number, {}), draws.get(trial.number, {}), seeds=seeds)
        for trial in trials
    ]
    notes = tuple(_notes(everything, trials, distributions))
    attributes = _attributes(sweep, spaces, database.events(name, kinds=[DECISION]), distributions, notes)
    return StudyOut(
        study=Study(name=study, trials=tuple(frozen), attributes=attributes, metric="error in per cent"),
        values=sum(len(trial.intermediate_values) for trial in frozen),
        notes=notes,
    )


def _frozen(
    trial: Trial,
    distributions: Distributions,
    curve: Mapping[int, float],
    draws: Mapping[str, int],
    *,
    seeds: bool,
) -> FrozenTrial:
    state = STATES.get(trial.state, OptunaState.FAIL)
    told = state in {OptunaState.COMPLETE, OptunaState.PRUNED} and trial.error is not None
    if state is OptunaState.COMPLETE and not told:
        state = OptunaState.FAIL  # its error is not finite
    frozen = create_trial(
        state=state,
        value=trial.error if told else None,
        params=distributions.params(trial.configuration),
        distributions=distributions.of(trial.configuration),
        user_attrs=dict(_trial_attributes(trial, draws, seeds=seeds)),
        intermediate_values=dict(curve),
    )
    begun = trial.started or (None if state is OptunaState.WAITING else trial.created)
    frozen.datetime_start = _local(begun)
    frozen.datetime_complete = None if state in _ENDLESS else _local(trial.ended or begun)
    return frozen


def _trial_attributes(trial: Trial, draws: Mapping[str, int], *, seeds: bool) -> Iterator[tuple[str, Any]]:
    """What Optuna has no place for. Seeds are text: programs that read them may have no integers of 64 bits."""
    yield "number", trial.number
    yield "state", str(trial.state)
    if seeds:
        yield "seed", str(trial.seed)
    yield "design", trial.sampling_design
    yield "orbit_size", trial.orbit_size
    yield "attempts", trial.attempts
    optional = {
        "inclusion_probability": trial.inclusion_probability,
        "message": trial.message or None,
        "best_error": trial.best_error,
        "best_epoch": trial.best_epoch,
        "last_epoch": trial.last_epoch,
        "seconds": trial.seconds,
        "device_seconds": trial.device_seconds,
        "plan": dict(trial.plan) if trial.plan else None,
    }
    yield from ((key, value) for key, value in optional.items() if value is not None)
    yield from ((f"{DRAWS}{space}", n) for space, n in draws.items())


def _attributes(
    sweep: Sweep,
    spaces: Sequence[SpaceRow],
    decisions: Sequence[Event],
    distributions: Distributions,
    notes: Sequence[str],
) -> dict[str, Any]:
    return {
        VERSION_KEY: VERSION,
        "sweep": sweep.name,
        "kind": sweep.kind,
        "trainable": sweep.trainable,
        "state": str(sweep.state),
        "seed": str(sweep.seed),
        "code_version": sweep.code_version,
        "created": sweep.created.isoformat(),
        "settings": dict(sweep.settings),
        "spaces": [_space(space) for space in spaces],
        "decisions": [_decision(event) for event in decisions],
        "values_as_text": list(distributions.as_text),
        "notes": list(notes),
    }


def _space(space: SpaceRow) -> dict[str, Any]:
    """One space of the lineage."""
    return {
        "name": space.name,
        "parent": space.parent,
        "restriction": space.restriction,
        "counts": dict(space.counts),
        "exhaustive": space.exhaustive,
        "repeats": space.repeats,
        "specification": dict(space.specification),
    }


def _decision(event: Event) -> dict[str, Any]:
    """A decision without the table that it was made on."""
    return {"at": event.at.isoformat(), **{k: v for k, v in event.data.items() if k != "table"}}


def _notes(
    everything: Sequence[Trial], trials: Sequence[Trial], distributions: Distributions
) -> Iterator[str]:
    pretrained = sum(trial.role is Role.PRETRAIN for trial in everything)
    anew = len(everything) - len(trials) - pretrained
    if pretrained:
        yield f"Pre-trainings are no trials of the search and were left out: {pretrained}."
    if anew:
        yield f"Trainings of the best configuration anew have test errors and were left out: {anew}."
    objectives = {objective_of(trial.plan or {}) for trial in trials}
    if objectives == {VALIDATION, TEST}:
        yield (
            "Values of trials whose attribute plan says final are test errors, those of the others validation errors: "
            "do not rank them together."
        )
    elif objectives == {TEST}:
        yield "All values are test errors."
    if distributions.as_text:
        yield f"Values of {', '.join(distributions.as_text)} are labels: Optuna takes 1, 1.0 and true for one choice."


def _curves(
    database: TrialDatabase, name: str, objectives: Mapping[int, str], every: int
) -> dict[int, dict[int, float]]:
    """Each trial's objective by epoch."""
    frame = database.curves_frame(name, trials=sorted(objectives), metrics=sorted(set(objectives.values())))
    wanted = frame["trial"].map(objectives) == frame["metric"].astype(str)
    own = thinned(frame[(frame["node"] == TARGET) & wanted], every)
    found: dict[int, dict[int, float]] = {}
    for trial, epoch, value in _rows(own):
        found.setdefault(trial, {})[epoch] = value
    return found


def _rows(frame: pd.DataFrame) -> Iterator[tuple[int, int, float]]:
    return zip(frame["trial"].tolist(), frame["epoch"].tolist(), frame["value"].tolist(), strict=True)


def _draws(database: TrialDatabase, name: str) -> dict[int, dict[str, int]]:
    """Draws that each trial answers, by space."""
    frame = database.draws_frame(name)
    found: dict[int, dict[str, int]] = {}
    for space, trial in zip(frame["space"].tolist(), frame["trial"].tolist(), strict=True):
        own = found.setdefault(trial, {})
        own[space] = own.get(space, 0) + 1
    return found


def _local(time: datetime | None) -> datetime | None:
    """A time as Optuna's trials have it: local, without a zone."""
    return None if time is None else time.astimezone().replace(tzinfo=None)
