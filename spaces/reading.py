"""Reading specifications: each check names the place and the thing that is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kdsearch.spaces.errors import SpaceError, UnknownNameError
from kdsearch.spaces.values import Value, label_of


def mapping(data: object, where: str) -> Mapping[str, Any]:
    """Return `data` if it is a mapping with text keys."""
    if not isinstance(data, Mapping):
        raise SpaceError(f"{where} is {_shown(data)}", "Write it as a mapping of keys to values.")
    for key in data:
        if not isinstance(key, str):
            raise SpaceError(f"{where} has the key {key!r}, which is no text", "Put the key in quotes.")
    return data


def fields(
    data: object, where: str, *, required: Collection[str] = (), optional: Collection[str] = ()
) -> Mapping[str, Any]:
    """Return `data` if it is a mapping with all required keys and none but these and the optional ones."""
    spec = mapping(data, where)
    known = (*required, *optional)
    for key in spec:
        if key not in known:
            raise UnknownNameError("key", key, known, where)
    missing = [key for key in required if key not in spec]
    if missing:
        raise SpaceError(f"{where} lacks {', '.join(missing)}", f"It has the keys {', '.join(known)}.")
    return spec


def sequence(data: object, where: str) -> Sequence[Any]:
    """Return `data` if it is a list or tuple."""
    if isinstance(data, str) or not isinstance(data, Sequence):
        raise SpaceError(
            f"{where} is {_shown(data)}", "Write it as a list, also if it has one entry: [entry]."
        )
    return data


def text(data: object, where: str) -> str:
    """Return `data` if it is text that is not empty."""
    if not isinstance(data, str) or not data.strip():
        raise SpaceError(f"{where} is {_shown(data)}", "Write it as text; numbers and yes/no need quotes.")
    return data


def integer(data: object, where: str, *, least: int | None = None) -> int:
    """Return `data` if it is a whole number, `least` or more."""
    if isinstance(data, bool) or not isinstance(data, int):
        raise SpaceError(f"{where} is {_shown(data)}", "Write a whole number.")
    if least is not None and data < least:
        raise SpaceError(f"{where} is {data}", f"Write {least} or more.")
    return data


def number(data: object, where: str) -> int | float:
    """Return `data` if it is a finite number."""
    if isinstance(data, str):
        raise SpaceError(
            f"{where} is the text {data!r}",
            "Write a number without quotes (some YAML readers take 1e-4 for text: write 1.0e-4).",
        )
    if isinstance(data, bool) or not isinstance(data, (int, float)) or not math.isfinite(data):
        raise SpaceError(f"{where} is {_shown(data)}", "Write a finite number.")
    return data


def value(data: object, where: str) -> Value:
    """Return `data` if a parameter can have it: text, a finite number, true or false."""
    if isinstance(data, (bool, str)):
        return data
    return number(data, where)


def labels(data: object, where: str) -> tuple[str, ...]:
    """Return the labels of one value or of a list of values."""
    entries = data if not isinstance(data, str) and isinstance(data, Sequence) else [data]
    if not entries:
        raise SpaceError(f"{where} is an empty list", "Give at least one value.")
    return tuple(label_of(value(entry, where)) for entry in entries)


def distinct(entries: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the entries if there is at least one and none stands twice."""
    if not entries:
        raise SpaceError(f"{where} is empty", "Give at least one.")
    twice = sorted({entry for entry in entries if entries.count(entry) > 1})
    if twice:
        raise SpaceError(f"{where} has {', '.join(twice)} more than once", "Give each once.")
    return tuple(entries)


def _shown(data: object) -> str:
    """Say what was found where something else was expected."""
    kinds: list[tuple[type | tuple[type, ...], str]] = [
        (str, f"the text {data!r}"),
        (bool, f"the boolean {data!r}"),
        ((int, float), f"the number {data!r}"),
        (Mapping, "a mapping"),
        (Sequence, "a list"),
    ]
    return next(
        (shown for kind, shown in kinds if isinstance(data, kind)), "empty" if data is None else repr(data)
    )
