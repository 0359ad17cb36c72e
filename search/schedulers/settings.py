"""The `scheduler` section of a sweep file."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator, model_validator

from kdsearch.search.schedulers.rungs import equal_rungs, geometric_rungs
from kdsearch.search.searcher_settings import Section
from kdsearch.spaces.errors import UsageError


class AshaSettings(Section):
    """Asynchronous successive halving (Li et al. 2020)."""

    kind: Literal["asha"]
    mode: Literal["stop", "promote"] = Field(
        "stop",
        description="stop: trials go on until they are stopped; promote: they wait at each rung to be promoted",
    )
    reduction_factor: float = Field(2.0, gt=1, description="eta: the best 1/eta of a rung go on")
    rungs: list[int] | None = Field(None, min_length=1, description="epochs after which trials are compared")
    every: int | None = Field(None, ge=1, description="or: rungs at equal steps of so many epochs")
    grace: int | None = Field(
        None, ge=1, description="or: the first rung; each further one is reduction_factor times as far"
    )
    max: int | None = Field(
        None, ge=2, description="with every and grace: rungs lie before it; default: the trainable's epochs"
    )
    brackets: int = Field(
        1, ge=1, description="bracket s, drawn from the seed for each trial, has all rungs but the first s"
    )
    epsilon: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability to go on where the rule says no, so that an EDF can be estimated (weights 1/p)",
    )

    @field_validator("kind", mode="before")
    @classmethod
    def _known(cls, kind: object) -> object:
        if kind != "asha":
            raise ValueError("unknown scheduler; known: asha, none")
        return kind

    @field_validator("rungs")
    @classmethod
    def _rising(cls, rungs: list[int] | None) -> list[int] | None:
        if rungs and rungs[0] < 1:
            raise ValueError("rungs are epochs, counted from 1")
        if rungs and any(b <= a for a, b in pairwise(rungs)):
            raise ValueError("rungs must rise")
        return rungs

    @model_validator(mode="after")
    def _one_way(self) -> AshaSettings:
        given = [name for name in ("rungs", "every", "grace") if getattr(self, name) is not None]
        if len(given) != 1:
            told = f"found {' and '.join(given)}" if given else "found none of them"
            raise ValueError(f"needs either rungs, or every, or grace ({told})")
        if self.max is not None and self.rungs is not None:
            raise ValueError("max goes with every or grace; a list of rungs has its own end")
        return self

    def epochs_of_rungs(self, epochs: int | None) -> tuple[int, ...]:
        """Return the rungs of trials that last `epochs` epochs (None: the sweep file does not say).

        Raises:
            UsageError: no rung lies before the last epoch, or one lies at or behind it, or nobody says which it is;
                or there are more brackets than rungs.

        """
        found = self._rungs(epochs)
        if self.brackets > len(found):
            told = ", ".join(map(str, found))
            raise UsageError(
                f"scheduler.brackets: {self.brackets} brackets need {self.brackets} rungs, and there are {len(found)} "
                f"(after epochs {told})",
                "Bracket s leaves out the first s rungs, and keeps at least one.",
            )
        return found

    def _rungs(self, epochs: int | None) -> tuple[int, ...]:
        if self.rungs is not None:
            if epochs is not None and self.rungs[-1] >= epochs:
                raise UsageError(
                    f"scheduler.rungs: a trial has {epochs} epochs, so nothing can be stopped at {self.rungs[-1]}",
                    "Every rung lies before trainable.epochs.",
                )
            return tuple(self.rungs)
        last = self._last(epochs)
        if self.every is not None:
            found = equal_rungs(self.every, last)
        else:
            found = geometric_rungs(self.grace or 1, self.reduction_factor, last)
        if not found:
            name = "grace" if self.every is None else "every"
            raise UsageError(
                f"scheduler.{name}: the first rung, {self.every or self.grace}, does not lie before epoch {last}",
                "Lower it, train for longer, or do without: --set scheduler=none.",
            )
        return found

    def _last(self, epochs: int | None) -> int:
        if self.max is not None and epochs is not None and self.max > epochs:
            raise UsageError(
                f"scheduler.max is {self.max}, and a trial has {epochs} epochs", "Leave it out, or lower it."
            )
        last = self.max or epochs
        if last is None:
            raise UsageError(
                "the scheduler must know how long a trial lasts", "Give trainable.epochs, or scheduler.max."
            )
        return last
