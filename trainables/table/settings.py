"""What a sweep file says about a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

from kdsearch.spaces import DesignSpace, space_from_spec
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.settings_reading import WHERE, check_whole, read_name, refuse_unknown

OBJECTIVE: Final = "1/val_error"  # per cent, of the target


class Missing(StrEnum):
    """What becomes of a configuration of the space that the table does not have."""

    REFUSE = "refuse"  # the sweep, before anything runs, where the space can be listed
    FAIL = "fail"  # the trial that asks for it


class Outside(StrEnum):
    """What becomes of rows with a value that the space's parameters cannot have."""

    REFUSE = "refuse"
    IGNORE = "ignore"


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """Where a table is and how it is read.

    Raises:
        UnknownNameError: a key or a word is unknown.
        UsageError: a value is outside its range, or it is not said where the table is.

    """

    file: str | None = None  # a path, or the name of a table that comes with kdsearch
    sweep: str | None = None  # or: a sweep of a trial database
    db: str | None = None  # its URL; None: the database that this sweep goes to
    exported: str | None = None  # the file that `sweep` was written to, once it was
    error: str = OBJECTIVE  # the column that is the target's validation error, per cent
    epochs: int | None = None  # of each curve, from the first on; None: all
    ignore: tuple[str, ...] = ()  # columns that mean nothing here
    missing: Missing = Missing.REFUSE
    outside: Outside = Outside.REFUSE
    space: Mapping[str, Any] | None = None  # the sweep's; its restrictions do not change what a row means

    def __post_init__(self) -> None:
        if (self.file is None) == (self.sweep is None):
            found = "found neither" if self.file is None else "found both"
            raise UsageError(
                f"{WHERE} need either file or sweep ({found})",
                "file: the path of a table; sweep: the name of a sweep in the database of --db or of the key db.",
            )
        if self.sweep is None and (self.db is not None or self.exported is not None):
            raise UsageError(f"db in {WHERE} goes with sweep", "Leave it out, or name a sweep.")
        if self.epochs is not None:
            check_whole("epochs", self.epochs)

    @classmethod
    def from_mapping(cls, settings: Mapping[str, object]) -> TableSettings:
        """Read a `trainable` section, without its kind."""
        refuse_unknown(settings, [field.name for field in fields(cls)], WHERE)
        given: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
        for name in ("file", "sweep", "db", "exported", "error"):
            if name in given and (not isinstance(given[name], str) or not given[name]):
                raise UsageError(f"{name} in {WHERE} is {given[name]!r}", "It must be text.")
        if "missing" in given:
            given["missing"] = read_name("answer to missing", given["missing"], Missing)
        if "outside" in given:
            given["outside"] = read_name("answer to outside", given["outside"], Outside)
        if "ignore" in given:
            given["ignore"] = _columns(given["ignore"])
        return cls(**given)

    def design_space(self) -> DesignSpace:
        """The sweep's space.

        Raises:
            UsageError: nobody said which it is.

        """
        if self.space is None:
            raise UsageError("a table needs the sweep's space to be read", "Run it from a sweep file.")
        return space_from_spec(self.space)

    def root_space(self) -> DesignSpace:
        """The sweep's space without its restrictions: what a row may be."""
        spec = dict(self.space or {})
        spec.pop("restrictions", None)
        return space_from_spec(spec)

    @property
    def where(self) -> str:
        """How messages call the table."""
        return f"the table of sweep {self.sweep}" if self.sweep is not None else f"the table {self.file}"

    def path(self, data_root: Path | None) -> Path:
        """The table's file: one that comes with kdsearch, or a path: absolute, from here, or from the data root.

        Raises:
            UsageError: the sweep was not exported.

        """
        from kdsearch.trainables.given_files import given_file  # noqa: PLC0415
        from kdsearch.trainables.table.known import known_table  # noqa: PLC0415

        if self.file is None:
            if self.exported is None:
                raise UsageError(
                    f"sweep {self.sweep} was not written to a table", "Run it with kdsearch sweep or compare."
                )
            return Path(self.exported)
        return known_table(self.file) or given_file(self.file, data_root)


def _columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise UsageError(f"ignore in {WHERE} is {value!r}", "It must be a list of the names of columns.")
    return tuple(cast("list[str]", value))
