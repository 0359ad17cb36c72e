"""A table as a value: the recorded learning curves of each configuration, looked up by its canonical form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces import DesignSpace, Value, label_of
from kdsearch.spaces.errors import SpaceError, UsageError
from kdsearch.trainables.protocol import Configuration, MemberState
from kdsearch.trainables.seeds import derive_seed
from kdsearch.trainables.table.settings import OBJECTIVE, TableSettings

SECONDS = "seconds"
Key = frozenset[tuple[str, Value]]


@dataclass(frozen=True, eq=False)
class Curve:
    """One recorded training: metrics by epoch, the target's error first; it may end early where it diverged."""

    repeat: str  # its label in the table
    names: tuple[str, ...]
    values: NDArray[np.float64]  # [epochs, names]; NaN where a metric was not reported
    length: int  # epochs of a whole training

    @cached_property
    def _epochs(self) -> list[dict[str, float]]:
        """Metrics by epoch; a metric that was not reported after an epoch is not there, but for the error."""
        return [
            {
                name: value
                for place, (name, value) in enumerate(zip(self.names, row, strict=True))
                if place == 0 or value == value  # noqa: PLR0124 only NaN differs from itself
            }
            for row in self.values.tolist()
        ]

    @cached_property
    def errors(self) -> NDArray[np.float64]:
        """The target's validation error by epoch, per cent."""
        return self.values[:, 0]

    @cached_property
    def end(self) -> int:
        """The epoch that it ends with: the last, or the first whose error is not finite."""
        lost = np.flatnonzero(~np.isfinite(self.errors))
        return int(lost[0]) + 1 if lost.size else len(self.errors)

    @property
    def final_error(self) -> float | None:
        """The error after the last epoch, per cent; None: it diverged."""
        error = float(self.errors[self.end - 1])
        return error if isfinite(error) else None

    @property
    def seconds(self) -> float:
        """What the whole training took, 0 where the table does not say."""
        return sum(epoch.get(SECONDS, 0.0) for epoch in self._epochs[: self.end])

    def metrics(self, epoch: int) -> Mapping[str, float]:
        """Return what was reported after an epoch, from 1."""
        return self._epochs[epoch - 1]

    def state(self, epoch: int) -> tuple[MemberState, str]:
        """Return the state of a training after an epoch, and a message where it diverged."""
        if epoch < self.end:
            return MemberState.RUNNING, ""
        if self.final_error is None:
            return (
                MemberState.DIVERGED,
                f"in the table, the error after epoch {epoch} is {self.errors[epoch - 1]}",
            )
        return MemberState.COMPLETE, ""


class CurveTable:
    """All curves, by configuration.

    notes: what a reader must know of how the file was read.
    """

    def __init__(
        self,
        where: str,
        root: DesignSpace,
        curves: Mapping[Key, Sequence[Curve]],
        configurations: Sequence[Configuration],
        *,
        epochs: int,
        notes: Sequence[str] = (),
    ) -> None:
        self.where, self.root, self.epochs, self.notes = where, root, epochs, tuple(notes)
        self.configurations = tuple(configurations)  # canonical, in the order of the file
        self._curves = {key: tuple(found) for key, found in curves.items()}

    @classmethod
    def load(cls, path: Path, settings: TableSettings) -> CurveTable:
        """Read and check a file.

        Raises:
            UsageError: what is wrong, and in which line or column.

        """
        from kdsearch.trainables.table.checks import read_curves  # noqa: PLC0415 pandas
        from kdsearch.trainables.table.rows import read_rows  # noqa: PLC0415

        return read_curves(read_rows(path, settings.where), settings)

    def has(self, configuration: Configuration) -> bool:
        """Tell whether a configuration was recorded, as it stands or as its mirror image."""
        return self._find(configuration) is not None

    def curves(self, configuration: Configuration) -> tuple[Curve, ...]:
        """Return all repeats of a configuration.

        Raises:
            UsageError: the table does not have it.

        """
        found = self._find(configuration)
        if found is None:
            raise UsageError(
                f"{self.where} does not have {told(configuration)}",
                "Restrict the space to what the table has, or add the rows.",
            )
        return found

    def curve(self, configuration: Configuration, seed: int) -> Curve:
        """Return the repeat that answers a trial with this seed; each is equally likely."""
        found = self.curves(configuration)
        return found[0] if len(found) == 1 else found[derive_seed(seed, "repeat") % len(found)]

    def described(self) -> str:
        """What it holds, in a few words."""
        repeats = sorted({len(found) for found in self._curves.values()})
        each = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
        return f"{len(self._curves):,} configurations, {each} curves each, {self.epochs} epochs"

    @cached_property
    def timed(self) -> bool:
        """Whether every curve says how long it took."""
        return all(SECONDS in found.names for curves in self._curves.values() for found in curves)

    def _find(self, configuration: Configuration) -> tuple[Curve, ...] | None:
        found = self._curves.get(frozenset(configuration.items()))
        if found is not None:
            return found
        try:
            return self._curves.get(frozenset(self.root.canonical(configuration).items()))
        except SpaceError:
            return None


def told(configuration: Configuration) -> str:
    """A configuration in one line."""
    return " ".join(f"{name}={label_of(value)}" for name, value in configuration.items())


__all__ = ["OBJECTIVE", "SECONDS", "Curve", "CurveTable", "told"]
