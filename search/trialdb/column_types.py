"""Column types: aware UTC times, states as words, JSON that every engine takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import DateTime, Dialect, String
from sqlalchemy.types import TypeDecorator

AnyState = TypeVar("AnyState", bound=StrEnum)


def utc_now() -> datetime:
    """Return the present time, aware and in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, kept in UTC to the microsecond; naive times are refused with ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Bring a time to UTC; SQLite keeps it as text without an offset."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a time zone: {value}; use datetime.now(UTC)")
        return value.astimezone(UTC).replace(tzinfo=None if dialect.name == "sqlite" else UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give a time back in UTC, whatever the session's time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class StateWord(TypeDecorator[AnyState]):
    """A member of a StrEnum, kept as its word; a new word needs no migration."""

    impl = String(16)
    cache_ok = True

    def __init__(self, states: type[AnyState]) -> None:
        self.states = states
        super().__init__()

    def process_bind_param(self, value: AnyState | None, dialect: Dialect) -> str | None:
        """Keep the word; ValueError if it is none of the states."""
        del dialect
        return None if value is None else self.states(value).value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> AnyState | None:
        """Give the state back."""
        del dialect
        return None if value is None else self.states(value)


def to_json(value: object) -> str:
    """Return compact JSON of what `plain` makes of a value."""
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False)


def plain(value: object) -> object:  # noqa: PLR0911 - one line for each type
    """Return `value` as dictionaries, lists, strings, finite numbers, booleans and None.

    NaN and infinities, which JSON has not, become None; numpy's scalars become numbers, its arrays lists. TypeError
    for anything else.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON: {value!r:.100}")


def clean_text(text: str) -> str:
    """Return `text` without what PostgreSQL or UTF-8 do not take: NUL and lone surrogates."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
