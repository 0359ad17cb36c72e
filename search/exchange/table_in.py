"""Trials from CSV and Parquet files of any program: which column is what, and what a row says.

Columns that `kdsearch export` writes are known by their names; what is named on the command line comes first. All
other columns are parameters, unless the parameters are named, by a space or on the command line: then a column that
is nothing is refused.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kdsearch.search.exchange.incoming import (
    Batch,
    Incoming,
    Missing,
    Scale,
    read_state,
    settle_state,
    without_error,
)
from kdsearch.search.exchange.text_tables import TextTable
from kdsearch.search.exchange.trials_out import COLUMNS, DRAWS, EPOCH, PARAMETER
from kdsearch.search.trialdb import Role
from kdsearch.spaces import DesignSpace
from kdsearch.spaces.errors import UnknownNameError, UsageError

_NUMBERS: Final = ("number", "trial")  # columns that number trials
REPEAT: Final = "repeat"  # as tables for replay have it
_ERRORS: Final = ("error", "1/val_error", "val_error")  # columns that are the error, the first that is there


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What the command line says of a file's columns."""

    error: str | None = None
    accuracy: str | None = None
    number: str | None = None
    state: str | None = None
    seed: str | None = None
    epoch: str | None = None
    parameters: tuple[str, ...] = ()  # names, or patterns with one *, which stands for the parameter's name
    ignore: tuple[str, ...] = ()  # names or patterns
    factor: float = 1.0
    missing: Missing = Missing.REFUSE

    @property
    def scale(self) -> Scale:
        """How numbers become errors in per cent."""
        return Scale(factor=self.factor, accuracy=self.accuracy is not None)


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What each column of a file is."""

    objective: str  # error or accuracy
    number: str | None
    state: str | None
    seed: str | None
    epoch: str | None  # the file is one of curves
    repeat: str | None  # of curves: tells trainings of one configuration apart
    parameters: Mapping[str, str]  # name of the parameter -> column
    known: frozenset[str]  # further columns of `kdsearch export` that are there
    draws: str | None  # draws of the first space that each trial answers
    metrics: tuple[str, ...] = field(default=())  # of curves, without the objective


def roles_of(table: TextTable, naming: Naming, space: DesignSpace | None) -> Roles:
    """Say what each column is.

    Raises:
        UsageError: a column that is named is not there, or one that is there is nothing.

    """
    left = dict.fromkeys(table.columns)
    for pattern in naming.ignore:
        for name in _matching(pattern, left, table):
            del left[name]
    objective = _objective(table, naming, left)
    found = {
        "number": _named(table, naming.number, left) or _first(left, _NUMBERS),
        "state": _named(table, naming.state, left),
        "seed": _named(table, naming.seed, left),
        "epoch": _named(table, naming.epoch, left) or _first(left, [EPOCH]),
    }
    for name in {objective, *(name for name in found.values() if name)}:
        left.pop(name, None)
    parameters = _parameters(table, naming, space, left)
    columns = COLUMNS if found["epoch"] is None else ("seed",)  # `seconds` of an epoch are a metric
    known = frozenset(name for name in columns if name in left)
    draws = [name for name in left if name.startswith(DRAWS)]
    for name in {*known, *draws}:
        left.pop(name, None)
    metrics: tuple[str, ...] = ()
    repeat = None
    if found["epoch"] is not None:
        repeat = REPEAT if REPEAT in left else None
        left.pop(REPEAT, None)
        metrics = tuple(name for name in left if parameters is not None or _is_metric(name))
        for name in metrics:
            del left[name]
    if parameters is None:
        parameters = {name.removeprefix(PARAMETER): name for name in left}
    else:
        parameters = {**parameters, **_of_pretrainings(table, left)}
        left = {name: None for name in left if name not in parameters.values()}
        if left:
            raise _unknown(table, list(left), parameters)
    return Roles(
        objective=objective,
        number=found["number"],
        state=found["state"] or ("state" if "state" in known else None),
        seed=found["seed"] or ("seed" if "seed" in known else None),
        epoch=found["epoch"],
        repeat=repeat,
        parameters=parameters,
        known=known,
        draws=draws[0] if draws else None,
        metrics=metrics,
    )


def _of_pretrainings(table: TextTable, left: Iterable[str]) -> dict[str, str]:
    """Return the columns that pre-trainings alone fill: parameters that the space of the search does not have."""
    roles = table.columns.get("role")
    if roles is None:
        return {}
    return {
        name: name
        for name in left
        if all(role == Role.PRETRAIN for role, cell in zip(roles, table.columns[name], strict=True) if cell)
    }


def _is_metric(name: str) -> bool:
    """Whether a column of curves is a metric by its name: `1/val_error`, `seconds`."""
    node, slash, _ = name.partition("/")
    return name == "seconds" or (bool(slash) and node.isdigit())


def _objective(table: TextTable, naming: Naming, left: Iterable[str]) -> str:
    if naming.error is not None and naming.accuracy is not None:
        raise UsageError(
            "--error and --accuracy exclude each other", "Name the one that trials are ranked by."
        )
    named = _named(table, naming.error or naming.accuracy, left)
    found = named or _first(left, _ERRORS)
    if found is None:
        raise UsageError(
            f"{table.where} has no column `error`",
            f"Name the error's with --error, or the accuracy's with --accuracy. Its columns: {_list(table.columns)}.",
        )
    return found


def _parameters(
    table: TextTable, naming: Naming, space: DesignSpace | None, left: dict[str, None]
) -> dict[str, str] | None:
    """Take the parameters' columns out of those that are left; None if nothing says which they are."""
    found: dict[str, str] = {}
    for pattern in naming.parameters:
        for column in _matching(pattern, left, table):
            found[_stripped(column, pattern).removeprefix(PARAMETER)] = column
    if not naming.parameters and space is not None:
        own = {
            name: f"{PARAMETER}{name}" for name in space.parameter_names
        }  # as `kdsearch export` calls some
        columns = {name: column if column in left else name for name, column in own.items()}
        missing = [name for name, column in columns.items() if column not in left]
        if len(missing) == len(columns):
            raise UsageError(
                f"{table.where} has no column for any parameter of the space ({_list(columns)})",
                f"Its columns: {_list(table.columns)}. Name them with --parameters, such as 'config/*'.",
            )
        found = {name: column for name, column in columns.items() if column in left}
    if not naming.parameters and space is None:
        return None
    for column in found.values():
        left.pop(column, None)
    return found


def _matching(pattern: str, names: Iterable[str], table: TextTable) -> list[str]:
    """Return the columns that a name or pattern stands for; one that stands for none is refused."""
    if pattern in table.columns:
        return [pattern] if pattern in set(names) else []
    found = fnmatch.filter(list(names), pattern) if "*" in pattern else []
    if not found:
        raise UnknownNameError("column", pattern, table.columns, table.where)
    return found


def _stripped(column: str, pattern: str) -> str:
    """Return what a pattern's * stands for: `params_*` makes `params_lr` the parameter `lr`."""
    if pattern == column or pattern.count("*") != 1:
        return column
    head, tail = pattern.split("*")
    return column[len(head) : len(column) - len(tail)]


def _named(table: TextTable, name: str | None, left: Iterable[str]) -> str | None:
    if name is not None and name not in set(left):
        raise UnknownNameError("column", name, table.columns, table.where)
    return name


def _first(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    there = set(names)
    return next((name for name in wanted if name in there), None)


def _unknown(table: TextTable, names: Sequence[str], parameters: Mapping[str, str]) -> UsageError:
    return UsageError(
        f"{table.where}: nothing is known of the column{'s' * (len(names) > 1)} {_list(names)}",
        f"Parameters: {_list(parameters)}. Leave out what means nothing here with --ignore, such as "
        f"--ignore {names[0]!r}.",
    )


def _list(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:20]) + (", ..." if len(listed) > 20 else "")  # noqa: PLR2004 what a person reads


def trials_of(table: TextTable, naming: Naming, roles: Roles) -> Batch:
    """Read a file with a row for each trial.

    Raises:
        UsageError: a cell cannot be read, or trials have no error.

    """
    found: list[Incoming] = []
    without: list[str] = []
    for row in range(table.size):
        trial = _trial(table, row, naming, roles)
        if trial is None:
            without.append(table.place(row))
        else:
            found.append(trial)
    if without:
        raise without_error(table.where, without, roles.objective)
    return batch_of(table, naming, roles, found)


def batch_of(table: TextTable, naming: Naming, roles: Roles, trials: Sequence[Incoming]) -> Batch:
    """Put trials together with what the file says of itself."""
    space = table.told.get("space")
    return Batch(
        where=table.where,
        form=table.form,
        trials=trials,
        space=space if isinstance(space, Mapping) else None,
        source={
            "objective": roles.objective,
            "accuracy": naming.accuracy is not None,
            "scale": naming.factor,
            "sweep": table.told.get("sweep"),
            "numbered": roles.number is not None or roles.repeat is not None,
        },
    )


def _trial(table: TextTable, row: int, naming: Naming, roles: Roles) -> Incoming | None:
    """One row; None if it has no error and should have one."""
    told = _Known(table, row, roles.known)
    number = table.number(row, roles.objective)
    message = told.text("message")
    state = None
    if roles.state is not None:
        state = read_state(table.columns[roles.state][row], table.at(row, roles.state))
    error = None if number is None else naming.scale.error(number)
    settled, error, message = settle_state(state, error, naming.missing, message)
    if settled is None:
        return None
    own = naming.scale.plain
    started = told.read("started", table.time)
    draws = None if roles.draws is None else table.whole(row, roles.draws)
    return Incoming(
        place=table.place(row),
        number=_number(table, row, roles),
        configuration=parameters_of(table, row, roles),
        state=settled,
        error=error,
        role=_role(told),
        seed=None if roles.seed is None else table.whole(row, roles.seed),
        best_error=told.read("best_error", table.number) if own else None,
        best_epoch=told.read("best_epoch", table.whole) if own else None,
        last_epoch=told.read("last_epoch", table.whole),
        judged=own and {"best_error", "best_epoch", "last_epoch"} <= roles.known,
        attempts=told.read("attempts", table.whole)
        or int(started is not None and "attempts" not in roles.known),
        seconds=told.read("seconds", table.number),
        device_seconds=told.read("device_seconds", table.number),
        message=message,
        created=told.read("created", table.time),
        started=started,
        ended=told.read("ended", table.time),
        design=told.text("design") or None,
        probability=told.read("inclusion_probability", table.number),
        draws=1 if draws is None else draws,
        plan=told.read("plan", table.data),
    )


@dataclass(frozen=True)
class _Known:
    """The columns of `kdsearch export` in one row."""

    table: TextTable
    row: int
    known: frozenset[str]

    def text(self, column: str) -> str:
        return self.table.columns[column][self.row] if column in self.known else ""

    def read(self, column: str, reader: Callable[[int, str], Any]) -> Any:
        return reader(self.row, column) if column in self.known else None


def _role(told: _Known) -> Role:
    word = told.text("role") or Role.SEARCH
    if word not in set(Role):
        raise UnknownNameError("role", word, [str(role) for role in Role], told.table.at(told.row, "role"))
    return Role(word)


def _number(table: TextTable, row: int, roles: Roles) -> int:
    if roles.number is None:
        return row
    number = table.whole(row, roles.number)
    if number is None:
        raise UsageError(f"{table.at(row, roles.number)} is empty", "Number every trial, or none.")
    return number


def parameters_of(table: TextTable, row: int, roles: Roles) -> dict[str, object]:
    """Return the parameters that a row has; an empty cell, or nan, is a parameter that it has not."""
    cells = {name: table.columns[column][row].strip() for name, column in roles.parameters.items()}
    return {name: cell for name, cell in cells.items() if cell and cell != "nan"}
