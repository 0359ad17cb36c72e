"""The space of trials from elsewhere: inferred from their parameters, and their configurations as its own values.

A parameter of text or of true and false is categorical, and so is one of numbers with few values that come again;
other whole numbers are integers between the least and the greatest, other numbers are log-uniform if they span two
decades, else uniform. A parameter that some trials do not have is conditional on the first other one whose values say
exactly when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import gcd, isfinite
from typing import Any, Final, cast

from kdsearch.search.exchange.incoming import Incoming, number_of
from kdsearch.spaces import (
    Configuration,
    DesignSpace,
    Domain,
    Integer,
    KtgSpace,
    Space,
    Value,
    label_of,
    lineage,
)
from kdsearch.spaces.domains import is_number, read_domain
from kdsearch.spaces.errors import SpaceError, UnknownNameError, UsageError

_FEW: Final = 12  # values that are compared as conditions
_AGAIN: Final = 2  # times that each of few values comes, on average
_DECADES: Final = 100.0  # greatest over least of a log-uniform parameter
_WORDS: Final[Mapping[str, bool]] = {"true": True, "false": False}
_GIVE: Final = "Give the space with --space FILE: the section `space` of a sweep file, or a sweep file."


def inferred_space(
    trials: Sequence[Incoming], known: Mapping[str, Mapping[str, Any]] | None, where: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the specification of the space that trials came from, and what a reader must know of it.

    known: what each parameter can be, where the file says that.

    Raises:
        UsageError: nothing says when a parameter is there, or there are no parameters.

    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.configuration))
    if not names:
        raise UsageError(f"{where} has no parameters", "Name their columns with --parameters.")
    columns = {name: _typed([trial.configuration.get(name) for trial in trials]) for name in names}
    specs = {
        name: dict(known[name])
        if known is not None and name in known
        else _parameter([value for value in column if value is not None])
        for name, column in columns.items()
    }
    for name, condition in _conditions(columns, where).items():
        specs[name]["when"] = condition
    return {"kind": "parameters", "parameters": specs}, list(_notes(specs, guessed=known is None))


def _notes(specs: Mapping[str, Mapping[str, Any]], *, guessed: bool) -> Iterator[str]:
    if guessed:
        yield (
            f"The space was inferred from the values that the trials have ({len(specs)} parameters): its intervals "
            "and laws are no more than a guess."
        )
    if any("->" in name for name in specs) and any(name.startswith("model.") for name in specs):
        yield (
            "The parameters look like those of knowledge transfer graphs: with --space and a space of kind ktg, graphs "
            "that are equal up to symmetry are told, and the best ones drawn."
        )


def _typed(cells: Sequence[object | None]) -> list[Value | None]:
    """Values of one parameter, text read as what all of its cells can be: true and false, whole numbers, numbers."""
    if any(cell is not None and not isinstance(cell, str) for cell in cells):
        return [
            cell if cell is None or isinstance(cell, str | int | float | bool) else str(cell)
            for cell in cells
        ]
    texts = [cell for cell in cells if isinstance(cell, str)]
    if all(text.lower() in _WORDS for text in texts):
        return [_WORDS[cell.lower()] if isinstance(cell, str) else None for cell in cells]
    numbers = [_number(text) for text in texts]
    if any(number is None for number in numbers):
        return [cell if isinstance(cell, str) else None for cell in cells]
    whole = all(isinstance(number, int) for number in numbers)
    read = [_number(cell) if isinstance(cell, str) else None for cell in cells]
    return [number if number is None or whole else float(number) for number in read]


def _number(text: str) -> int | float | None:
    number = number_of(text)
    return number if number is not None and isfinite(number) else None


def _parameter(values: Sequence[Value]) -> dict[str, Any]:
    """What a parameter of which nothing but its values is known can be."""
    numbers = [value for value in values if is_number(value)]
    distinct = sorted({label_of(value): value for value in values}.values(), key=_order)
    few = len(distinct) <= _FEW and len(values) >= _AGAIN * len(distinct)
    if len(numbers) < len(values) or few:
        return {"type": "categorical", "values": distinct}
    low, high = min(numbers), max(numbers)
    if all(isinstance(number, int) for number in numbers):
        step = gcd(*(int(number) - int(low) for number in numbers)) or 1
        return {"type": "integer", "low": low, "high": high, "step": step}
    law = "log-uniform" if low > 0 and high / low >= _DECADES else "float"
    return {"type": law, "low": low, "high": high}


def _order(value: Value) -> tuple[bool, float, str]:
    number = float(value) if is_number(value) else 0.0
    return not is_number(value), number, label_of(value)


def _conditions(
    columns: Mapping[str, Sequence[Value | None]], where: str
) -> dict[str, dict[str, list[Value]]]:
    """When each parameter that some trials lack is there: on which values of which other one."""
    open_ = [name for name, column in columns.items() if any(value is None for value in column)]
    settled = [name for name in columns if name not in open_]
    found: dict[str, dict[str, list[Value]]] = {}
    while open_:
        step = next(
            (
                (name, parent, values)
                for name in open_
                for parent in settled
                if (values := _when(columns, name, parent))
            ),
            None,
        )
        if step is None:
            lacking = sum(value is None for value in columns[open_[0]])
            raise UsageError(
                f"{where}: {open_[0]} has no value in {lacking:,} of {len(columns[open_[0]]):,} trials, and no other "
                "parameter says when it has one",
                _GIVE,
            )
        name, parent, values = step
        found[name] = {parent: values}
        open_.remove(name)
        settled.append(name)
    return found


def _when(columns: Mapping[str, Sequence[Value | None]], name: str, parent: str) -> list[Value]:
    """Values of a parent with which a parameter is always there, and is never there without; none if it is not so."""
    pairs = list(zip(columns[parent], columns[name], strict=True))
    there = {label_of(value): value for value, own in pairs if own is not None and value is not None}
    apart = {None if value is None else label_of(value) for value, own in pairs if own is None}
    lost = any(value is None and own is not None for value, own in pairs)
    if lost or len(there) > _FEW or not apart.isdisjoint(there):
        return []
    continuous = any(isinstance(value, float) for value in there.values())
    return [] if continuous else sorted(there.values(), key=_order)


def read_configuration(space: DesignSpace, raw: Mapping[str, object], where: str) -> dict[str, Value]:
    """Return a configuration as the space has it, canonical under its symmetry.

    Raises:
        UsageError: it is none of the space's; says which value, and where it stands.

    """
    domains = _domains(cast(Any, space))
    found: dict[str, Value] = {}
    for name, cell in raw.items():
        if name not in domains:
            raise UnknownNameError("parameter", name, domains, where)
        value = read_value(domains[name], cell)
        if value is None:
            raise UsageError(f"{where}: {name} is {cell}, and the space has {domains[name]}", _GIVE)
        found[name] = value
    try:
        canonical = space.canonical(found)
    except SpaceError as error:
        raise UsageError(f"{where}: {error.message}", error.hint) from None
    if canonical not in space:
        raise UsageError(f"{where} is outside the space: {_why(space, canonical)}", _GIVE)
    return canonical


@lru_cache(maxsize=4)  # many trials have one space; spaces are values, and hashable
def _domains(space: DesignSpace) -> dict[str, Domain]:
    """What each parameter can be, whatever the restrictions."""
    return {
        name: read_domain({key: each for key, each in spec.items() if key != "when"}, name)
        for name, spec in lineage(space)[0].parameters_spec().items()
    }


def read_value(domain: Domain, cell: object) -> Value | None:
    """Return the value of a domain that a cell or a value from elsewhere stands for, or None."""
    if not isinstance(cell, str):
        value = domain.find(cell)
        if value is None and isinstance(cell, float) and cell.is_integer() and isinstance(domain, Integer):
            value = domain.find(int(cell))
        return (
            domain.read(label_of(cell)) if value is None and isinstance(cell, int | float | bool) else value
        )
    value = domain.read(cell)
    if value is not None:
        return value
    if cell.lower() in _WORDS:
        return domain.find(_WORDS[cell.lower()])
    number = _number(cell)
    if number is None:
        return None
    value = domain.find(number)
    if value is None and isinstance(number, float) and number.is_integer():
        value = domain.find(int(number))  # 3.0, as programs write whole numbers of a column with gaps
    return value


def _why(space: DesignSpace, configuration: Configuration) -> str:
    """Why a configuration of the space's values is none of its configurations."""
    if isinstance(space, Space):
        for parameter in space.parameters:
            active = all(
                parent in configuration and label_of(configuration[parent]) in map(label_of, values)
                for parent, values in parameter.when
            )
            if active and parameter.name not in configuration:
                return f"{parameter.name} has no value"
            if not active and parameter.name in configuration:
                rule = " and ".join(
                    f"{parent} is {' or '.join(map(label_of, values))}" for parent, values in parameter.when
                )
                return f"{parameter.name} has a value, which it has only where {rule}"
        broken = [str(rule) for rule in space.constraints if not rule.holds(configuration)]
        if broken:
            return f"it breaks the constraint {broken[0]}"
    if isinstance(space, KtgSpace) and not space.restrictions:
        return "no edge reaches the target, which learns nothing"
    rules = "; ".join(map(str, space.restrictions))
    return f"the restrictions ({rules}) leave it out" + (
        ", or no edge reaches the target" if isinstance(space, KtgSpace) else ""
    )
