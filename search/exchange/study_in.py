"""Trials from Optuna's databases. The database is never touched: what is read is a copy of its files.

SQLite would write beside a database that it only reads (its shared-memory file, a journal that it rolls back), and
Optuna writes into a storage that it opens. So the file and its write-ahead log are copied first, while nobody writes.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from kdsearch.search.exchange.distributions import parameter_spec
from kdsearch.search.exchange.incoming import (
    Batch,
    Incoming,
    Missing,
    Scale,
    settle_state,
    some,
    without_error,
)
from kdsearch.search.exchange.study_out import DRAWS, VERSION, VERSION_KEY
from kdsearch.search.searchers.plans import objective_metric
from kdsearch.search.trialdb import TrialState, optuna_storage
from kdsearch.search.trialdb.places import masked_text, with_driver
from kdsearch.spaces.errors import SpaceError, UnknownNameError, UsageError

MAGIC: Final = b"SQLite format 3\x00"
VALUE: Final = "value"  # what a study's objective is called, as in `study.trials_dataframe()`
_BESIDE: Final = ("-wal", "-journal")
_TRIES: Final = 5
_PAUSE_S: Final = 0.5
_STATES: Final[Mapping[OptunaState, TrialState]] = {
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.STOPPED,
    OptunaState.FAIL: TrialState.FAILED,
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.WAITING: TrialState.WAITING,
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says of a study."""

    study: str | None = None  # None: the only one
    accuracy: bool = False  # its value is one
    factor: float = 1.0
    missing: Missing = Missing.REFUSE


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_study(path: Path, asked: Asked, *, sleep: Callable[[float], None] = time.sleep) -> tuple[str, Batch]:
    """Read a study of an SQLite file; returns its name and what it holds.

    Raises:
        UsageError: it is no storage of Optuna's, of another schema, or being written; the study is not there, has
            several objectives, or is maximised without being an accuracy.

    """
    with _copied(path, sleep) as url:
        return _read(url, str(path), asked)


def read_study_of_server(url: str, asked: Asked) -> tuple[str, Batch]:
    """Read a study of a storage on a server, as it is now; errors as those of `read_study`."""
    return _read(with_driver(url), masked_text(url), asked)


def _read(url: str, place: str, asked: Asked) -> tuple[str, Batch]:
    found = optuna_storage.look(url, place)
    if not found.optunas:
        tables = f" (tables: {', '.join(sorted(found.tables)[:5])})" if found.tables else ", but an empty one"
        raise UsageError(
            f"{place} is no database of Optuna's{tables}",
            "Known: CSV, Parquet, and databases of Optuna (SQLite files, and servers by their URL).",
        )
    optuna_storage.check_schema(url, place, found)
    storage = optuna_storage.open_storage(url, place, create=False)
    try:
        name, key = _chosen(storage, place, asked.study)
        _check_direction(storage, key, name, asked)
        attributes = storage.get_study_user_attrs(key)
        trials = storage.get_all_trials(key, deepcopy=False)
    finally:
        optuna_storage.close(storage)
    return name, _batch(place, name, trials, attributes, asked)


@contextmanager
def _copied(path: Path, sleep: Callable[[float], None]) -> Iterator[str]:
    """Give the URL of a copy of a database, made while no file of it changed."""
    with tempfile.TemporaryDirectory(prefix="kdsearch-import-") as folder:
        copy = Path(folder) / "study.db"
        for _ in range(_TRIES):
            before = _state(path)
            for suffix in ("", *_BESIDE):
                beside, target = Path(f"{path}{suffix}"), Path(f"{copy}{suffix}")
                target.unlink(missing_ok=True)
                if beside.exists():
                    shutil.copyfile(beside, target)
            if _state(path) == before:
                yield f"sqlite:///{copy}"
                return
            sleep(_PAUSE_S)
    raise UsageError(
        f"{path} is being written all the time", "Import it when its study rests, or import a backup of it."
    )


def _state(path: Path) -> list[tuple[int, int] | None]:
    """Size and time of a database's files."""
    found: list[tuple[int, int] | None] = []
    for suffix in ("", *_BESIDE):
        try:
            status = Path(f"{path}{suffix}").stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((status.st_size, status.st_mtime_ns))
    return found


def _chosen(storage: RDBStorage, place: str, wanted: str | None) -> tuple[str, int]:
    names = {study.study_name: study._study_id for study in storage.get_all_studies()}  # noqa: SLF001 no other key
    if not names:
        raise UsageError(f"{place} holds no study")
    if wanted is None:
        if len(names) > 1:
            raise UsageError(
                f"{place} holds {len(names)} studies", f"Choose one with --study: {', '.join(sorted(names))}."
            )
        wanted = next(iter(names))
    if wanted not in names:
        raise UnknownNameError("study", wanted, sorted(names), place)
    return wanted, names[wanted]


def _check_direction(storage: RDBStorage, key: int, name: str, asked: Asked) -> None:
    directions = storage.get_study_directions(key)
    if len(directions) > 1:
        raise UsageError(
            f"study {name!r} has {len(directions)} objectives, and a trial has one error here",
            "Write the values out with `study.trials_dataframe()` as CSV, and import that: --error names the column.",
        )
    if directions[0] == StudyDirection.MAXIMIZE and not asked.accuracy:
        raise UsageError(
            f"study {name!r} maximises its value, so it is no error",
            "If it is an accuracy say so: --accuracy value, with --scale 100 if it is a fraction.",
        )
    if directions[0] != StudyDirection.MAXIMIZE and asked.accuracy:
        raise UsageError(f"study {name!r} minimises its value, so it is no accuracy", "Leave --accuracy out.")


def _batch(
    place: str, name: str, trials: Sequence[FrozenTrial], attributes: Mapping[str, Any], asked: Asked
) -> Batch:
    ours = attributes.get(VERSION_KEY) == VERSION
    scale = Scale(factor=asked.factor, accuracy=asked.accuracy)
    every = {name for trial in trials for name in trial.params}
    usable = [trial for trial in trials if ours or _has_parameters(trial, every)]
    whole = {OptunaState.COMPLETE, OptunaState.PRUNED}
    shift = int(any(0 in trial.intermediate_values for trial in usable))
    spaces = attributes.get("spaces") if ours else None
    first = str(spaces[0]["name"]) if spaces else ""
    found, without = [], []
    for trial in usable:
        read = _Read(trial, dict(trial.user_attrs) if ours else {}, scale, shift, first)
        incoming = _incoming(read, asked.missing)
        if incoming is None:
            without.append(f"trial {trial.number}")
        else:
            found.append(incoming)
    if without:
        raise without_error(place, without, VALUE)
    return Batch(
        where=place,
        form="optuna",
        trials=found,
        space=spaces[0]["specification"] if spaces else None,
        parameters=_parameters(usable),
        source={
            "study": name,
            "objective": VALUE,
            "accuracy": asked.accuracy,
            "scale": asked.factor,
            "sweep": attributes.get("sweep") if ours else None,
        },
        notes=tuple(_notes(len(trials) - len(usable), shift)),
        partial=frozenset() if ours else frozenset(t.number for t in usable if t.state not in whole),
    )


def _has_parameters(trial: FrozenTrial, every: set[str]) -> bool:
    """Whether a trial is one of a configuration: it may have begun and failed before it drew its parameters."""
    if trial.state in {OptunaState.COMPLETE, OptunaState.PRUNED}:
        return True
    return bool(trial.params) or not every


def _notes(left_out: int, shift: int) -> Iterator[str]:
    if left_out:
        yield (
            f"{some(left_out, 'trial', 'trials')} of the study had no parameters yet when they failed, or had not "
            "begun, and were left out: they are results of no configuration."
        )
    if shift:
        yield "Steps of the study count from 0; here epochs count from 1."


@dataclass(frozen=True)
class _Read:
    """A trial of a study, and what kdsearch wrote beside it."""

    trial: FrozenTrial
    own: Mapping[str, Any]
    scale: Scale
    shift: int
    space: str  # the first of the sweep that was exported


def _incoming(read: _Read, missing: Missing) -> Incoming | None:
    """One trial; None if it has no value and should have one."""
    trial, own = read.trial, read.own
    state = TrialState(own["state"]) if "state" in own else _STATES[trial.state]
    value = None if trial.value is None else read.scale.error(trial.value)
    settled, error, message = settle_state(state, value, missing, str(own.get("message", "")))
    if settled is None:
        return None
    begun = bool(own.get("attempts", trial.state is not OptunaState.WAITING))
    seed = own.get("seed")
    metric = objective_metric(own.get("plan") or {})
    plain = read.scale.plain
    return Incoming(
        place=f"trial {trial.number}",
        number=int(own.get("number", trial.number)),
        configuration=dict(trial.params),
        state=settled,
        error=error,
        seed=None if seed is None else int(seed),
        curve={
            step + read.shift: {metric: read.scale.error(each)}
            for step, each in sorted(trial.intermediate_values.items())
        },
        best_error=own.get("best_error") if plain else None,
        best_epoch=own.get("best_epoch") if plain else None,
        last_epoch=own.get("last_epoch"),
        judged=bool(own) and plain,
        attempts=int(own.get("attempts", begun)),
        seconds=own.get("seconds") if own else _seconds(trial),
        device_seconds=own.get("device_seconds"),
        message=message,
        started=_utc(trial.datetime_start) if begun else None,
        ended=_utc(trial.datetime_complete),
        design=own.get("design"),
        probability=own.get("inclusion_probability"),
        draws=int(own.get(f"{DRAWS}{read.space}", 0)) if own else 1,
        plan=own.get("plan"),
    )


def _seconds(trial: FrozenTrial) -> float | None:
    return None if trial.duration is None else trial.duration.total_seconds()


def _utc(local: datetime | None) -> datetime | None:
    return None if local is None else local.astimezone(UTC)


def _parameters(trials: Sequence[FrozenTrial]) -> dict[str, dict[str, Any]]:
    """What each parameter can be, by the distributions of all trials."""
    found: dict[str, dict[BaseDistribution, None]] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            found.setdefault(name, {}).setdefault(distribution)
    return {name: _parameter(name, list(each)) for name, each in found.items()}


def _parameter(name: str, distributions: Sequence[BaseDistribution]) -> dict[str, Any]:
    """One parameter; where its range changed from trial to trial, the widest."""
    first = distributions[0]
    try:
        if len(distributions) == 1 or isinstance(first, CategoricalDistribution):
            return parameter_spec(first)
    except SpaceError as error:
        raise UsageError(f"parameter {name}: {error.message}", error.hint) from None
    low = min(each.low for each in distributions if isinstance(each, FloatDistribution | IntDistribution))
    high = max(each.high for each in distributions if isinstance(each, FloatDistribution | IntDistribution))
    if all(isinstance(each, IntDistribution) for each in distributions):
        return {"type": "integer", "low": int(low), "high": int(high)}
    log = all(isinstance(each, FloatDistribution) and each.log for each in distributions)
    return {"type": "log-uniform" if log else "float", "low": low, "high": high}


optuna.logging.set_verbosity(optuna.logging.ERROR)  # the terminal is the command's
