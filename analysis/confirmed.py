"""The best configuration of a search, trained anew: what it comes to on the test part.

A search chooses by validation errors, so its own best one is the least of many, and too low to be believed. Trials of
the sampling design "confirmation" have the same configuration, other seeds, and are judged on the test part that the
search never sees. They are no part of the search: they stand in no EDF and in no ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from kdsearch.analysis.best import Trainings
from kdsearch.analysis.frames import (
    COMPLETE,
    UNLUCKY,
    Value,
    configuration,
    of_confirmation,
    of_search,
)
from kdsearch.analysis.wording import listed, percent


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """Trainings of the best configuration with seeds of their own; errors in per cent."""

    configuration: Mapping[str, Value]
    planned: int  # trainings, with those that have no outcome yet
    trainings: (
        Trainings | None
    )  # test errors; a diverged or failed one counts with the sweep's diverged_error
    states: Mapping[str, int]  # trainings by state
    trial: int  # of the search, whose configuration it is
    validation_error: float  # of that trial
    among: int  # trials of the search that were trained to their end; this one has the least error of them
    diverged_error: float

    def __str__(self) -> str:
        """Say it in two or three sentences."""
        return " ".join(part for part in (self._reached(), self._unlucky(), self._chosen()) if part)

    def _reached(self) -> str:
        if self.trainings is None:
            return (
                f"The best configuration is to be trained anew {_times(self.planned)} with other seeds; no training "
                "has ended."
            )
        done, spread = self.trainings.n, self.trainings.spread
        open_ = f" (of {self.planned:,})" if done < self.planned else ""
        around = "" if spread is None else f" ± {percent(spread)} % (mean ± standard deviation)"
        unit = " %" if spread is None else ""
        return (
            f"The best configuration, trained anew {_times(done)}{open_} with other seeds, has a test error of "
            f"{percent(self.trainings.mean)}{unit}{around}."
        )

    def _unlucky(self) -> str:
        lost = [f"{self.states[state]:,} {state}" for state in UNLUCKY if self.states.get(state)]
        return f"Of these, {listed(lost)} and counted with {self.diverged_error:g} %." if lost else ""

    def _chosen(self) -> str:
        least = f", the least of {self.among:,} and so too low to be believed" if self.among > 1 else ""
        return f"Its validation error in the search was {percent(self.validation_error)} % (trial {self.trial}){least}."


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n:,} times"


def confirmed(
    trials: pd.DataFrame, parameters: Sequence[str], *, diverged_error: float = 100.0
) -> Confirmed | None:
    """Return how the best configuration did when it was trained anew; None for a sweep that does not do so.

    trials: as from `frames.counted_trials`, with that function's `error`. The trial that was chosen is the complete one
    of the search with the least error, the lowest number among equals (`search.searchers.confirmation`).
    """
    again = trials[of_confirmation(trials)]
    done = trials[of_search(trials) & (trials["state"] == COMPLETE)].sort_values(
        ["error", "number"], kind="stable"
    )
    if again.empty or done.empty:
        return None
    ended = again[again["error"].notna()]
    return Confirmed(
        configuration=configuration(again.iloc[0].to_dict(), parameters),
        planned=len(again),
        trainings=Trainings(
            numbers=tuple(int(number) for number in ended["number"]),
            errors=tuple(float(error) for error in ended["error"]),
        )
        if len(ended)
        else None,
        states={str(state): int(n) for state, n in again["state"].value_counts().sort_index().items()},
        trial=int(done["number"].iloc[0]),
        validation_error=float(done["error"].iloc[0]),
        among=len(done),
        diverged_error=diverged_error,
    )
