"""`kdsearch import`: trials from elsewhere as a sweep of the kind `import`, whole or not at all.

Everything is checked before the trial database is opened for writing, and written in one transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Any, Final

from kdsearch.analysis.population import Proposal
from kdsearch.search.code_version import code_version
from kdsearch.search.config import StatisticsSettings
from kdsearch.search.exchange.incoming import Batch, Incoming, check_errors, some
from kdsearch.search.exchange.space_in import inferred_space, read_configuration
from kdsearch.search.imported import KIND
from kdsearch.search.searchers.confirmation import DESIGN as CONFIRMATION
from kdsearch.search.searchers.plans import objective_metric
from kdsearch.search.trialdb import Role, TrialDatabase, note_event
from kdsearch.search.trialdb import operations as op
from kdsearch.spaces import DesignSpace, Value, configuration_key, parse_yaml, space_from_spec, text_of
from kdsearch.spaces.errors import UsageError

SPACE: Final = "A"
ELSEWHERE: Final = "elsewhere"  # host and device of trials from there
_BASELINE: Final = "baseline"
_HIGHEST: Final = 2**31 - 1  # number of a trial, as every database holds it
_NAMED: Final = 5  # trials that a message lists


class Design(StrEnum):
    """How the trials' configurations were chosen, as far as the user knows."""

    UNKNOWN = "unknown"
    RANDOM = "random"  # drawn from the space, each trained to the end: one draw each
    STATED = "stated"  # as the file says, which `kdsearch export` wrote


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be made of a batch."""

    name: str
    title: str
    space: DesignSpace | None  # None: as the file says, else inferred
    design: Design
    statistics: StatisticsSettings
    command: str


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What came of it."""

    name: str
    trials: int
    states: Mapping[str, int]
    draws: int
    epochs: int
    space: Mapping[str, Any]
    design: str
    errors: (
        tuple[float, float] | None
    )  # the least and the greatest of the search's, per cent; None: there are none
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Settled:
    """A trial with its configuration as the space has it."""

    trial: Incoming
    configuration: Mapping[str, Value]
    key: str
    orbit_size: int
    draws: int
    design: str
    probability: float | None


def space_of_file(path: Path) -> DesignSpace:
    """Read a space: a YAML file with the section `space` of a sweep file, or a whole sweep file.

    Raises:
        UsageError: it cannot be read, or describes no space.

    """
    try:
        data = parse_yaml(text_of(path), str(path))
    except OSError as error:
        raise UsageError(
            f"cannot read the space file {path}: {error}", "Give the path of a YAML file."
        ) from None
    if isinstance(data, Mapping) and isinstance(data.get("space"), Mapping):
        return space_from_spec(data["space"], name=SPACE, where=f"{path}: space")
    return space_from_spec(data, name=SPACE, where=str(path))


def import_batch(database: TrialDatabase, batch: Batch, order: Order) -> Imported:
    """Check everything, then write the sweep.

    Raises:
        UsageError: doubled trials, errors that are none in per cent, values outside the space, a design that the file
            contradicts, a name that is taken.

    """
    ready = prepare(batch, order)
    ready.write(database)
    return ready.told


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A batch that was checked and can be written."""

    batch: Batch
    order: Order
    space: DesignSpace
    trials: Sequence[_Settled]
    told: Imported

    def write(self, database: TrialDatabase) -> None:
        """Write the sweep in one transaction; SweepNameTakenError if there is one of this name."""
        database.add_whole_sweep(
            self.order.name,
            list(_operations(self, database.clock())),
            kind=KIND,
            trainable=KIND,
            settings=_settings(self),
            seed=0,
            code_version=code_version(),
            environment={"imported_from": self.batch.where, "command": self.order.command},
        )


def prepare(batch: Batch, order: Order) -> Ready:
    """Check a batch against its space, itself and what is said of it; errors as those of `import_batch`."""
    check_errors(batch.where, batch.trials)
    _check_numbers(batch)
    space, notes = _space(batch, order)
    settled, left_out = _settled(batch, space, order.design)
    _check_keys(batch, settled)
    _check_design(batch, order.design)
    states: dict[str, int] = {}
    for each in settled:
        states[str(each.trial.state)] = states.get(str(each.trial.state), 0) + 1
    told = Imported(
        name=order.name,
        trials=len(settled),
        states=states,
        draws=sum(each.draws for each in settled),
        epochs=sum(len(each.trial.curve) for each in settled),
        space=space.to_spec(),
        design=str(order.design),
        errors=_range(each.trial for each in settled),
        notes=(*batch.notes, *notes, *left_out, *_remarks(batch, order)),
    )
    return Ready(batch=batch, order=order, space=space, trials=settled, told=told)


def _check_numbers(batch: Batch) -> None:
    if not batch.trials:
        raise UsageError(f"{batch.where} holds no trials")
    places: dict[int, str] = {}
    for trial in batch.trials:
        if trial.number > _HIGHEST:
            raise UsageError(
                f"{batch.where}, {trial.place}: the number {trial.number} is above {_HIGHEST}",
                "Leave the column out with --ignore, and trials are numbered by their rows.",
            )
        if trial.number in places:
            raise UsageError(
                f"{batch.where}: trial {trial.number} stands twice, in {places[trial.number]} and {trial.place}",
                "Every trial has a number of its own. Is it a table of curves? Then its epochs stand in a column "
                "`epoch` (--epoch).",
            )
        places[trial.number] = trial.place


def _space(batch: Batch, order: Order) -> tuple[DesignSpace, list[str]]:
    """The space that was given, else the file's own where its trials lie in it, else one that is inferred."""
    if order.space is not None:
        return order.space, []
    searched = [trial for trial in batch.trials if trial.role is Role.SEARCH]
    if not searched:
        raise UsageError(
            f"{batch.where} holds pre-trainings alone", "There is no trial of a search to import."
        )
    whole = [trial for trial in searched if trial.number not in batch.partial]
    searched, notes = whole or searched, []
    if batch.space is not None:
        space = space_from_spec(batch.space, name=SPACE, where=f"{batch.where}: space")
        try:
            for trial in searched:
                read_configuration(space, trial.configuration, f"{batch.where}, {trial.place}")
        except UsageError as error:
            notes = [
                f"The space that the file names does not hold all trials ({error.message}), so it was inferred."
            ]
        else:
            return space, []
    spec, more = inferred_space(searched, batch.parameters, batch.where)
    return space_from_spec(spec, name=SPACE, where=f"{batch.where}: parameters"), notes + more


def _settled(batch: Batch, space: DesignSpace, design: Design) -> tuple[list[_Settled], list[str]]:
    """Every trial with its configuration; those that ended before they had all parameters are left out, and told."""
    found, lost = [], []
    for trial in batch.trials:
        try:
            found.append(_settle(trial, space, design, batch.where))
        except UsageError:
            if trial.number not in batch.partial:
                raise
            lost.append(trial)
    if not lost:
        return found, []
    told = (
        f"Left out, because they had not all of their parameters when they ended: {some(len(lost), 'trial', 'trials')} "
        f"({', '.join(trial.place for trial in lost[:_NAMED])}). An error distribution without them is too good by "
        "their share."
    )
    return found, [told]


def _settle(trial: Incoming, space: DesignSpace, design: Design, where: str) -> _Settled:
    counts = trial.role is Role.SEARCH and trial.design != CONFIRMATION
    if trial.role is Role.SEARCH:
        configuration = read_configuration(space, trial.configuration, f"{where}, {trial.place}")
        orbit_size = space.orbit_size(configuration)
    else:
        configuration, orbit_size = {name: _plain(value) for name, value in trial.configuration.items()}, 1
    stated, probability = trial.design or _BASELINE, trial.probability
    if counts and design is not Design.STATED:
        stated = str(Proposal.RANDOM if design is Design.RANDOM else Proposal.UNKNOWN)
        probability = 1.0 if design is Design.RANDOM else None
    return _Settled(
        trial=trial,
        configuration=configuration,
        key=configuration_key(configuration),
        orbit_size=orbit_size,
        draws=trial.draws if counts else 0,
        design=stated,
        probability=probability,
    )


def _plain(value: object) -> Value:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _check_keys(batch: Batch, settled: Sequence[_Settled]) -> None:
    """Refuse a training that stands twice: the same configuration, seed and plan, or without seeds the same row."""
    seeds = any(each.trial.seed is not None for each in settled)
    if not seeds and batch.source.get("numbered", True):
        return  # numbers tell trials apart, and of seeds nothing is known
    places: dict[object, Incoming] = {}
    for each in settled:
        trial = each.trial
        rest = (trial.seed,) if seeds else (trial.error, str(trial.state), json.dumps(trial.curve))
        key = (each.key, trial.role, json.dumps(trial.plan, sort_keys=True), *rest)
        twin = places.setdefault(key, trial)
        if twin is not trial and (trial.seed is not None or not seeds):
            same = f"the same seed ({trial.seed})" if seeds else "the same error"
            raise UsageError(
                f"{batch.where}: {twin.place} and {trial.place} have the same parameters and {same}: it is one "
                "training, and stands twice",
                "Leave one out. If they are two trainings, tell them apart by a column `number`, and leave a column "
                "`seed` that says nothing out with --ignore seed.",
            )


def _check_design(batch: Batch, design: Design) -> None:
    """Refuse to take trials for something that the file contradicts, or for what it says where it says nothing."""
    searched = [t for t in batch.trials if t.role is Role.SEARCH and t.design != CONFIRMATION]
    if design is Design.RANDOM:
        others = [t for t in searched if t.design not in {None, str(Proposal.RANDOM), str(Proposal.UNKNOWN)}]
        if others:
            kinds = ", ".join(sorted({str(trial.design) for trial in others}))
            raise UsageError(
                f"{batch.where}: {some(len(others), 'trial is', 'trials are')} no random draws by the file's own word "
                f"({kinds}; {', '.join(t.place for t in others[:_NAMED])})",
                "Take its word with --design stated.",
            )
    if design is Design.STATED:
        silent = [trial for trial in searched if trial.design is None]
        if silent:
            raise UsageError(
                f"{batch.where} does not say how {some(len(silent), 'trial was', 'trials were')} chosen "
                f"({', '.join(t.place for t in silent[:_NAMED])})",
                "Say it yourself with --design random, if they are random draws; else leave --design out.",
            )


def _range(trials: Iterable[Incoming]) -> tuple[float, float] | None:
    errors = [trial.error for trial in trials if trial.role is Role.SEARCH and trial.error is not None]
    return (min(errors), max(errors)) if errors else None


def _fractions(batch: Batch, errors: tuple[float, float]) -> str:
    """A remark on values that were taken for per cent and may be fractions; empty: there is nothing to remark."""
    accuracy = bool(batch.source.get("accuracy"))
    low, high = (100 - errors[1], 100 - errors[0]) if accuracy else errors
    if batch.source.get("scale") != 1 or low < 0 or high > 1:
        return ""
    told = "accuracies" if accuracy else "errors"
    return (
        f"All {told} lie in [0, 1] ({low:.4g} to {high:.4g}) and were taken for per cent. If they are fractions, "
        "import them again with --scale 100 and another --name."
    )


def _remarks(batch: Batch, order: Order) -> Iterator[str]:
    searched = [trial for trial in batch.trials if trial.role is Role.SEARCH]
    errors = _range(batch.trials)
    if errors and (remark := _fractions(batch, errors)):
        yield remark
    stated = {trial.design for trial in searched} - {None, str(Proposal.UNKNOWN)}
    if order.design is Design.UNKNOWN and stated:
        kinds = ", ".join(sorted(str(each) for each in stated))
        yield f"The file says how its trials were chosen ({kinds}); --design stated takes its word."
    if len({objective_metric(trial.plan or {}) for trial in searched}) > 1:
        yield "Errors of final trials are test errors, those of the others validation errors: the ranking mixes them."
    if order.design is Design.RANDOM and not errors:
        yield "No trial has an error, so there is no error distribution."


def _settings(ready: Ready) -> dict[str, Any]:
    """What stands in place of a sweep file."""
    order, batch = ready.order, ready.batch
    seeds = [each.trial.seed for each in ready.trials]
    return {
        "name": order.name,
        "title": order.title,
        "space": ready.space.to_spec(),
        "trainable": {"kind": KIND},
        "searcher": {"kind": KIND, "design": str(order.design)},
        "statistics": order.statistics.model_dump(mode="json"),
        "source": {
            "file": batch.where,
            "format": batch.form,
            "sha256": _digest(Path(batch.where)),
            **{key: value for key, value in batch.source.items() if value is not None and key != "numbered"},
            "seeds": all(seed is not None for seed in seeds),
        },
    }


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _operations(ready: Ready, now: datetime) -> Iterator[op.Operation]:
    """Everything that the sweep holds, in the order in which it must be written."""
    name, space = ready.order.name, ready.space
    row = op.SpaceRow(
        name=SPACE,
        specification=space.to_spec(),
        hash=space.hash,
        counts=space.counts().to_dict(),
    )
    yield op.AddSpaces(name, (row,))
    yield op.AddTrials(name, tuple(_trial_row(each, now) for each in ready.trials))
    yield op.AddDraws(name, tuple(_draws(ready.trials)))
    yield op.StartAttempts(name, tuple(_attempts(ready.trials)))
    yield op.RecordMetrics(name, tuple(_epochs(ready.trials)))
    yield op.FinishTrials(name, tuple(_result(each, now) for each in ready.trials))
    notes = [
        f"{some(len(ready.trials), 'trial was', 'trials were')} run elsewhere and imported from {ready.batch.where}."
    ]
    yield op.AddEvents(name, tuple(note_event(text, now) for text in [*notes, *ready.told.notes]))


def _trial_row(each: _Settled, now: datetime) -> op.TrialRow:
    trial = each.trial
    return op.TrialRow(
        number=trial.number,
        configuration=each.configuration,
        configuration_hash=each.key,
        seed=trial.seed or 0,
        created=trial.created or trial.started or now,
        role=trial.role,
        orbit_size=each.orbit_size,
        sampling_design=each.design,
        inclusion_probability=each.probability,
        plan=trial.plan,
    )


def _draws(trials: Sequence[_Settled]) -> Iterator[op.DrawRow]:
    numbers = [each.trial.number for each in trials for _ in range(each.draws)]
    for draw, number in enumerate(numbers):
        yield op.DrawRow(space=SPACE, draw=draw, trial=number, fresh=True)


def _attempts(trials: Sequence[_Settled]) -> Iterator[op.AttemptStart]:
    for each in trials:
        trial = each.trial
        if trial.started is not None and trial.attempts:
            yield op.AttemptStart(
                number=trial.number, n=trial.attempts, host=ELSEWHERE, device=ELSEWHERE, at=trial.started
            )


def _epochs(trials: Sequence[_Settled]) -> Iterator[op.MetricRow]:
    for each in trials:
        for epoch, values in sorted(each.trial.curve.items()):
            yield op.MetricRow(
                number=each.trial.number, attempt=max(each.trial.attempts, 1), step=epoch, values=values
            )


def _result(each: _Settled, now: datetime) -> op.ResultRow:
    trial = _with_best(each.trial)
    return op.ResultRow(
        number=trial.number,
        attempt=trial.attempts,
        state=trial.state,
        at=trial.ended or trial.started or now,
        error=trial.error,
        best_error=trial.best_error,
        best_epoch=trial.best_epoch,
        last_epoch=trial.last_epoch,
        seconds=trial.seconds,
        device_seconds=trial.device_seconds,
        message=trial.message,
    )


def _with_best(trial: Incoming) -> Incoming:
    """The trial with the best epoch of its curve, and its last one, where the file says nothing of them."""
    if trial.judged:
        return trial
    if not trial.curve:
        return replace(trial, best_error=trial.error)
    metric = objective_metric(trial.plan or {})
    errors = {
        epoch: values[metric]
        for epoch, values in trial.curve.items()
        if isfinite(values.get(metric, float("nan")))
    }
    last = max(trial.curve)
    if not errors:
        return replace(trial, last_epoch=last)
    best = min(errors, key=lambda epoch: (errors[epoch], epoch))
    return replace(trial, last_epoch=last, best_error=errors[best], best_epoch=best)
