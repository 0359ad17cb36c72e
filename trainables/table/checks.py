"""From the rows of a file to a table of curves; whatever is wrong is named with its line or column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces import DesignSpace, Space, Value, label_of
from kdsearch.spaces.errors import SpaceError, UnknownNameError, UsageError
from kdsearch.trainables.table.curves import SECONDS, Curve, CurveTable, Key, told
from kdsearch.trainables.table.rows import Rows
from kdsearch.trainables.table.settings import OBJECTIVE, Outside, TableSettings

EPOCH: Final = "epoch"
REPEATS: Final = ("repeat", "seed")  # either tells the trainings of one configuration apart
_METRIC = re.compile(r"\d+/.+")  # of a node
Reader = Callable[[str], Value | None]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a table are."""

    parameters: tuple[str, ...]  # in the space's order
    repeat: str | None
    metrics: tuple[str, ...]  # the error's first
    names: tuple[str, ...]  # of the metrics, as trials report them


def read_curves(rows: Rows, settings: TableSettings) -> CurveTable:
    """Check everything and return the curves.

    Raises:
        UsageError: what is wrong, and where.

    """
    root = settings.root_space()
    columns = columns_of(rows, root, settings)
    epochs, values = _whole_epochs(rows), _numbers(rows, columns)
    configurations, notes = _configurations(rows, columns, root, settings)
    groups = _groups(rows, columns, configurations)
    longest = max((len(group.rows) for group in groups), default=0)
    _check_length(rows, settings, longest)
    length = settings.epochs or longest
    curves: dict[Key, list[Curve]] = {}
    firsts: dict[tuple[Key, str], _Group] = {}
    order: dict[Key, Mapping[str, Value]] = {}
    for group in groups:
        _check_epochs(rows, group, epochs, named=columns.repeat is not None)
        found = Curve(group.repeat, columns.names, values[group.rows][:length], length)
        _check_whole(rows, group, found, longest)
        key = frozenset(group.configuration.items())
        twin = firsts.setdefault((key, group.repeat), group)
        if twin is not group:
            raise UsageError(
                f"{rows.where}: {rows.place(int(group.rows[0]))} and {rows.place(int(twin.rows[0]))} begin curves of "
                f"one configuration ({told(group.configuration)}), equal up to symmetry, with the same repeat",
                f"Give them different values in the column {columns.repeat or REPEATS[0]}, or leave one out.",
            )
        curves.setdefault(key, []).append(found)
        order.setdefault(key, group.configuration)
    if not curves:
        raise UsageError(
            f"{rows.where} has no row of a configuration of the space", "Is it the table of another space?"
        )
    notes = [*notes, *_fractions(rows, settings, curves.values())]
    return CurveTable(rows.where, root, curves, list(order.values()), epochs=length, notes=notes)


def _fractions(rows: Rows, settings: TableSettings, curves: Iterable[Sequence[Curve]]) -> Iterator[str]:
    """A remark where the errors may be fractions."""
    errors = np.concatenate([curve.errors for found in curves for curve in found])
    errors = errors[np.isfinite(errors)]
    if errors.size and errors.min() >= 0 and errors.max() <= 1:
        yield (
            f"{rows.where}: all errors (column {settings.error}) lie in [0, 1] and are taken for per cent. If they are "
            "fractions, multiply that column by 100."
        )


def columns_of(rows: Rows, root: DesignSpace, settings: TableSettings) -> Columns:
    """Say what each column is.

    Raises:
        UsageError: a parameter has no column, or a column is nothing that is known.

    """
    names = [str(name) for name in rows.frame.columns]
    for name in (EPOCH, SECONDS, settings.error):
        if name in root.parameter_names:
            raise UsageError(
                f"the parameter {name} has the name of a column that tables have for something else",
                "Call the parameter something else in the space and in the table.",
            )
    missing = [name for name in root.parameter_names if name not in names]
    if missing:
        raise UsageError(
            f"{rows.where} has no column for the parameter{'s' * (len(missing) > 1)} {', '.join(missing)}",
            f"Its columns: {', '.join(names)}. Is it the table of another space?",
        )
    for needed in (EPOCH, settings.error):
        if needed not in names:
            hint = "Name the column of the validation error with trainable.error." if needed != EPOCH else ""
            raise UsageError(
                f"{rows.where} has no column {needed!r}", f"Its columns: {', '.join(names)}. {hint}".strip()
            )
    for name in settings.ignore:
        if name not in names:
            raise UnknownNameError("column", name, names, f"trainable.ignore ({rows.where})")
    known = {*root.parameter_names, EPOCH, *REPEATS, SECONDS, settings.error, *settings.ignore}
    others = [name for name in names if name not in known]
    unknown = [name for name in others if not _METRIC.fullmatch(name)]
    if unknown:
        raise UsageError(
            f"{rows.where}: the column {unknown[0]!r} is no parameter of the space, and no metric of a node",
            f"Parameters: {', '.join(root.parameter_names)}. A metric is named <node>/<name>, such as {OBJECTIVE}. "
            f"What means nothing here is listed: trainable.ignore: [{unknown[0]}].",
        )
    if settings.error != OBJECTIVE and OBJECTIVE in others:
        raise UsageError(
            f"{rows.where} has the column {OBJECTIVE}, and trainable.error names {settings.error!r}",
            f"Leave one out, for example: trainable.ignore: [{OBJECTIVE}].",
        )
    more = [*others, *([SECONDS] if SECONDS in names else [])]
    apart = [name for name in REPEATS if name not in {*root.parameter_names, *settings.ignore}]
    repeat = next((name for name in apart if name in names), None)
    return Columns(
        parameters=tuple(root.parameter_names),
        repeat=repeat,
        metrics=(settings.error, *more),
        names=(OBJECTIVE, *more),
    )


@dataclass(frozen=True, eq=False)
class _Group:
    """The rows of one training, in the order of the file."""

    configuration: Mapping[str, Value]  # canonical
    repeat: str
    rows: NDArray[np.intp]


def _whole_epochs(rows: Rows) -> NDArray[np.int64]:
    import pandas as pd  # noqa: PLC0415

    text = rows.frame[EPOCH].str.strip()
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (numbers >= 1)))
    if bad.size:
        row = int(bad[0])
        raise UsageError(
            f"{rows.where}, {rows.place(row)}: epoch is {text.iloc[row]!r}",
            "Epochs are whole numbers from 1.",
        )
    return numbers.astype(np.int64)


def _numbers(rows: Rows, columns: Columns) -> NDArray[np.float64]:
    """Return the metrics, [rows, metrics]; an empty cell is NaN, and is refused where it is the error's."""
    import pandas as pd  # noqa: PLC0415

    found = []
    for name in columns.metrics:
        text = rows.frame[name].str.strip()
        numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
        words = text.str.lower().isin(["nan", "inf", "-inf", "+inf", "infinity", "-infinity"]).to_numpy()
        empty = (text == "").to_numpy()
        must = name == columns.metrics[0]
        bad = np.flatnonzero(np.isnan(numbers) & ~words & ~(empty & (not must)))
        if bad.size:
            row = int(bad[0])
            shown = "empty" if empty[row] else repr(text.iloc[row])
            more = " After an epoch in which it diverged: nan." if must else " Not reported: leave it empty."
            raise UsageError(
                f"{rows.where}, {rows.place(row)}: {name} is {shown}, no number", f"Write a number.{more}"
            )
        impossible = (numbers < 0) | np.isinf(numbers)
        if name == SECONDS and impossible.any():
            row = int(np.flatnonzero(impossible)[0])
            raise UsageError(
                f"{rows.where}, {rows.place(row)}: seconds is {text.iloc[row]}",
                "It must be 0 or more, and finite.",
            )
        found.append(numbers)
    return np.stack(found, axis=1)


def _configurations(
    rows: Rows, columns: Columns, root: DesignSpace, settings: TableSettings
) -> tuple[_Read, list[str]]:
    """Read each different combination of parameters once; rows outside the space are refused or left out."""
    grouped = rows.frame.groupby(list(columns.parameters), sort=False, dropna=False)
    codes = np.asarray(grouped.ngroup(), dtype=np.intp)
    first = np.full(int(codes.max()) + 1, -1, dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    readers = _readers(root)
    found: list[Mapping[str, Value] | None] = []
    for row in first.tolist():
        try:
            found.append(_configuration(rows, row, readers, root))
        except UsageError:
            if settings.outside is Outside.REFUSE:
                raise
            found.append(None)
    left_out = sum(each is None for each in found)
    notes = (
        [f"{left_out:,} configurations of {rows.where} lie outside the space and were left out."]
        if left_out
        else []
    )
    return _Read(codes, found), notes


@dataclass(frozen=True, eq=False)
class _Read:
    """Which configuration each row has: codes [rows], and configurations by code (None: outside the space)."""

    codes: NDArray[np.intp]
    found: Sequence[Mapping[str, Value] | None]


def _readers(root: DesignSpace) -> Mapping[str, Reader]:
    """Return, for each parameter, what turns a cell into a value, None where it is none of its values."""
    if isinstance(root, Space):
        return {parameter.name: parameter.domain.read for parameter in root.parameters}
    levels = {name: spec["values"] for name, spec in root.parameters_spec().items()}
    return {name: {label_of(value): value for value in values}.get for name, values in levels.items()}


def _configuration(
    rows: Rows, row: int, readers: Mapping[str, Reader], root: DesignSpace
) -> Mapping[str, Value]:
    found: dict[str, Value] = {}
    for name, read in readers.items():
        cell = str(rows.frame[name].iloc[row]).strip()
        value = read(cell)
        if value is None and cell in {"", "nan"} and isinstance(root, Space):
            continue  # not active; Parquet has NaN for it
        if value is None:
            spec = root.parameters_spec()[name]
            raise UsageError(
                f"{rows.where}, {rows.place(row)}: {name} is {cell!r}, which the space does not have",
                f"{name}: {spec}. Add it to the space, or leave such rows out: trainable.outside: ignore.",
            )
        found[name] = value
    try:
        canonical = root.canonical(found)
    except SpaceError as error:
        raise UsageError(f"{rows.where}, {rows.place(row)}: {error.message}", error.hint) from None
    if isinstance(root, Space) and canonical not in root:
        raise UsageError(
            f"{rows.where}, {rows.place(row)}: {told(canonical)} is no valid configuration of the space",
            "A parameter whose condition does not hold stays empty. Leave such rows out: trainable.outside: ignore.",
        )
    return canonical


def _groups(rows: Rows, columns: Columns, read: _Read) -> list[_Group]:
    """Gather the rows of each training, trainings in the order in which they begin."""
    import pandas as pd  # noqa: PLC0415

    labels = rows.frame[columns.repeat].str.strip() if columns.repeat else pd.Series([""] * len(rows.frame))
    codes, names = pd.factorize(labels)
    keys = read.codes * len(names) + codes
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    found = []
    for members in np.split(order, cuts):
        configuration = read.found[int(read.codes[members[0]])]
        if configuration is not None:
            found.append(_Group(configuration, str(names[codes[members[0]]]), members))
    return sorted(found, key=lambda group: int(group.rows[0]))


def _check_epochs(rows: Rows, group: _Group, epochs: NDArray[np.int64], *, named: bool) -> None:
    """Refuse a training whose epochs are not 1, 2, 3, ... in the order of the file."""
    own = epochs[group.rows]
    wrong = np.flatnonzero(own != np.arange(1, len(own) + 1))
    if not wrong.size:
        return
    at = int(wrong[0])
    row, epoch, wanted = int(group.rows[at]), int(own[at]), at + 1
    whose = f"{told(group.configuration)}{f', repeat {group.repeat}' if named else ''}"
    before = np.flatnonzero(own[:at] == epoch)
    if before.size:
        twin = rows.place(int(group.rows[int(before[0])]))
        hint = "Leave one out." if named else f"Leave one out; several trainings need a column {REPEATS[0]}."
        raise UsageError(
            f"{rows.where}, {rows.place(row)}: epoch {epoch} of {whose} stands in {twin} already", hint
        )
    if wanted in own[at:]:
        raise UsageError(
            f"{rows.where}, {rows.place(row)}: epoch {epoch} of {whose} stands before epoch {wanted}",
            "Sort the rows of each training by epoch.",
        )
    raise UsageError(
        f"{rows.where}, {rows.place(row)}: epoch {wanted} of {whose} is missing; the row has epoch {epoch}",
        "Every epoch from 1 on needs a row.",
    )


def _check_whole(rows: Rows, group: _Group, curve: Curve, longest: int) -> None:
    """Refuse a training that ends before the others without having diverged."""
    if len(group.rows) == longest or len(group.rows) >= curve.length or curve.final_error is None:
        return
    raise UsageError(
        f"{rows.where}, {rows.place(int(group.rows[-1]))}: the curve of {told(group.configuration)} ends after epoch "
        f"{len(group.rows)}, and others have {longest}",
        "A training that was cut short has no result: leave it out, or set trainable.epochs to what all have.",
    )


def _check_length(rows: Rows, settings: TableSettings, longest: int) -> None:
    if settings.epochs is not None and settings.epochs > longest:
        raise UsageError(
            f"trainable.epochs is {settings.epochs}, and the curves of {rows.where} have {longest}",
            "Lower it.",
        )
