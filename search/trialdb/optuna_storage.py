"""Optuna's databases: what a database is before anything touches it, and a whole study in one transaction.

Optuna's own way to add trials looks at the whole study for every parameter and attribute: some 20 trials a second
(docs/exchange.md). Here a study goes straight into Optuna's tables, through Optuna's own definitions of them, where
these are the ones that were tested; else in Optuna's way, with the study removed again if that fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import optuna
from optuna.storages import RDBStorage
from optuna.storages._rdb import models  # no other name for Optuna's tables
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Table, create_engine, insert, inspect, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from kdsearch.spaces.errors import UsageError

_ROWS: Final = 20_000  # in one INSERT of many rows
_METRIC_NAMES: Final = "study:metric_names"  # Optuna's system attribute
_VERSION: Final = "alembic_version"
# The tables that a study is written to, with the columns that they must have.
_TESTED: Final[Mapping[Any, frozenset[str]]] = {
    models.StudyModel: frozenset({"study_id", "study_name"}),
    models.StudyDirectionModel: frozenset({"study_direction_id", "direction", "study_id", "objective"}),
    models.StudyUserAttributeModel: frozenset({"study_user_attribute_id", "study_id", "key", "value_json"}),
    models.StudySystemAttributeModel: frozenset(
        {"study_system_attribute_id", "study_id", "key", "value_json"}
    ),
    models.TrialModel: frozenset(
        {"trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"}
    ),
    models.TrialUserAttributeModel: frozenset({"trial_user_attribute_id", "trial_id", "key", "value_json"}),
    models.TrialParamModel: frozenset(
        {"param_id", "trial_id", "param_name", "param_value", "distribution_json"}
    ),
    models.TrialValueModel: frozenset({"trial_value_id", "trial_id", "objective", "value", "value_type"}),
    models.TrialIntermediateValueModel: frozenset(
        {
            "trial_intermediate_value_id",
            "trial_id",
            "step",
            "intermediate_value",
            "intermediate_value_type",
        }
    ),
}
_COMPATIBLE: Final = all(
    {column.name for column in model.__table__.columns} == columns for model, columns in _TESTED.items()
) and hasattr(models.TrialModel, "_datetime_start_utc")  # times are kept in UTC


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study that minimises one value; its trials are numbered in their order."""

    name: str
    trials: tuple[FrozenTrial, ...]
    attributes: Mapping[str, Any]  # user attributes, plain data
    metric: str  # what the value is


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a database is, as Optuna sees it."""

    tables: frozenset[str]
    revision: str | None  # of Optuna's schema; None: it is no storage of Optuna's
    library: str | None  # the version of Optuna that made it

    @property
    def optunas(self) -> bool:
        """Whether it is a storage of Optuna's."""
        return self.revision is not None and {"studies", "trials"} <= self.tables


def look(url: str, place: str) -> Place:
    """Look at a database without changing it; `place` is what messages call it.

    Raises:
        UsageError: it is no database, or it cannot be reached.

    """
    with _told(place):
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                tables = frozenset(inspect(connection).get_table_names())
                return Place(
                    tables=tables,
                    revision=_scalar(connection, tables, _VERSION, "version_num"),
                    library=_scalar(connection, tables, "version_info", "library_version"),
                )
        finally:
            engine.dispose()


def _scalar(connection: Connection, tables: frozenset[str], table: str, column: str) -> str | None:
    if table not in tables or column not in {c["name"] for c in inspect(connection).get_columns(table)}:
        return None
    found = connection.execute(text(f"SELECT {column} FROM {table}")).scalar()  # noqa: S608 - constants
    return None if found is None else str(found)


def open_storage(url: str, place: str, *, create: bool) -> RDBStorage:
    """Open a storage of Optuna's; `create`: make its tables where they are not. `remove_session` closes it.

    Raises:
        UsageError: its schema is another one than that of the installed Optuna, or it is no storage.

    """
    with _told(place):
        try:
            return RDBStorage(
                url.replace("{", "{{").replace("}", "}}"), skip_table_creation=not create
            )  # Optuna fills in braces
        except RuntimeError as error:  # what Optuna says of a schema that is not its own
            raise _other_schema(place, look(url, place), str(error)) from error


def check_schema(url: str, place: str, found: Place) -> None:
    """Refuse a storage whose schema is not that of the installed Optuna; `url` may be a copy of it.

    Raises:
        UsageError: it is older or newer; says by which version of Optuna it was made.

    """
    with _told(place):
        storage = RDBStorage(url, skip_compatibility_check=True, skip_table_creation=True)
        try:
            head = storage.get_head_version()
        finally:
            close(storage)
    if found.revision != head:
        raise _other_schema(place, found, f"it has {found.revision}, the installed Optuna {head}")


def _other_schema(place: str, found: Place, why: str) -> UsageError:
    made = f" (made by Optuna {found.library})" if found.library else ""
    return UsageError(
        f"{place}{made} has another schema than Optuna {optuna.__version__}, which is installed: {why}",
        "An older one: upgrade a copy with `optuna storage upgrade --storage sqlite:///COPY`. A newer one: update "
        "Optuna.",
    )


def close(storage: RDBStorage) -> None:
    """Close a storage's connections."""
    storage.remove_session()
    storage.engine.dispose()


def add_study(storage: RDBStorage, study: Study, place: str) -> None:
    """Add a study with everything in it, or nothing.

    Raises:
        UsageError: the storage has a study of this name, or refuses to be written.

    """
    with _told(place):
        try:
            if _COMPATIBLE:
                with storage.engine.begin() as connection:
                    _insert_study(connection, study)
            else:
                add_slowly(storage, study)
        except (IntegrityError, optuna.exceptions.DuplicatedStudyError) as error:
            raise UsageError(
                f"{place} already has a study {study.name!r}", "Give the new one another name with --study."
            ) from error


def add_slowly(storage: RDBStorage, study: Study) -> None:
    """Add a study by Optuna's own interface, a transaction for each trial; undone if one fails."""
    key = storage.create_new_study([StudyDirection.MINIMIZE], study.name)
    try:
        for name, value in study.attributes.items():
            storage.set_study_user_attr(key, name, value)
        storage.set_study_system_attr(key, _METRIC_NAMES, [study.metric])
        for trial in study.trials:
            storage.create_new_trial(key, trial)
    except BaseException:
        with suppress(Exception):
            storage.delete_study(key)
        raise


def _insert_study(connection: Connection, study: Study) -> None:
    key = connection.execute(
        insert(_table(models.StudyModel)).values(study_name=study.name)
    ).inserted_primary_key[0]  # type: ignore[index]
    direction = {"direction": StudyDirection.MINIMIZE, "study_id": key, "objective": 0}
    _insert(connection, models.StudyDirectionModel, [direction])
    attributes = [
        {"study_id": key, "key": name, "value_json": json.dumps(value)}
        for name, value in study.attributes.items()
    ]
    _insert(connection, models.StudyUserAttributeModel, attributes)
    names = {"study_id": key, "key": _METRIC_NAMES, "value_json": json.dumps([study.metric])}
    _insert(connection, models.StudySystemAttributeModel, [names])
    _insert(
        connection, models.TrialModel, [_trial_row(key, n, trial) for n, trial in enumerate(study.trials)]
    )
    trials = _table(models.TrialModel)
    keys = dict(
        connection.execute(select(trials.c.number, trials.c.trial_id).where(trials.c.study_id == key)).all()
    )
    numbered = [(keys[number], trial) for number, trial in enumerate(study.trials)]
    for start in range(0, len(numbered), _ROWS):
        _insert_trials(connection, numbered[start : start + _ROWS])


def _insert_trials(connection: Connection, trials: Sequence[tuple[int, FrozenTrial]]) -> None:
    """What hangs on trials, in Optuna's order: values, parameters, attributes, intermediate values."""
    for model, rows_of in (
        (models.TrialValueModel, _value_rows),
        (models.TrialParamModel, _parameter_rows),
        (models.TrialUserAttributeModel, _attribute_rows),
        (models.TrialIntermediateValueModel, _intermediate_rows),
    ):
        _insert(connection, model, [row for key, trial in trials for row in rows_of(key, trial)])


def _trial_row(study: int, number: int, trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": number,
        "study_id": study,
        "state": trial.state,
        "datetime_start": _utc(trial.datetime_start),
        "datetime_complete": _utc(trial.datetime_complete),
    }


def _value_rows(key: int, trial: FrozenTrial) -> Iterator[dict[str, Any]]:
    if trial.value is not None:
        value, kind = models.TrialValueModel.value_to_stored_repr(trial.value)
        yield {"trial_id": key, "objective": 0, "value": value, "value_type": kind}


def _parameter_rows(key: int, trial: FrozenTrial) -> Iterator[dict[str, Any]]:
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        yield {
            "trial_id": key,
            "param_name": name,
            "param_value": distribution.to_internal_repr(value),
            "distribution_json": optuna.distributions.distribution_to_json(distribution),
        }


def _attribute_rows(key: int, trial: FrozenTrial) -> Iterator[dict[str, Any]]:
    for name, value in trial.user_attrs.items():
        yield {"trial_id": key, "key": name, "value_json": json.dumps(value)}


def _intermediate_rows(key: int, trial: FrozenTrial) -> Iterator[dict[str, Any]]:
    stored = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
    for step, reported in trial.intermediate_values.items():
        value, kind = stored(reported)
        yield {
            "trial_id": key,
            "step": step,
            "intermediate_value": value,
            "intermediate_value_type": kind,
        }


def _insert(connection: Connection, model: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for start in range(0, len(rows), _ROWS):
        connection.execute(insert(_table(model)), rows[start : start + _ROWS])


def _table(model: Any) -> Table:
    table: Table = model.__table__
    return table


def _utc(time: datetime | None) -> datetime | None:
    """A local time without a zone, as Optuna keeps it."""
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Tell what SQLAlchemy, the driver or Optuna say of a database in words that a person can act on."""
    try:
        yield
    except UsageError:
        raise
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise UsageError(
            f"{place} is no database URL that can be opened: {error}",
            "Known: sqlite:///PATH, and others where their driver is installed.",
        ) from error
    except DBAPIError as error:
        raise UsageError(
            f"{place} cannot be used: {error.orig}", "Is it a database, and is it free?"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        said = str(error).partition("\n")[0]
        raise UsageError(f"{place} cannot be used: {said}", "Is it a database, and is it free?") from error
