"""Models that trials learn from, trained before them: which are ready, which never will be, and where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kdsearch.search.baselines import Baseline
from kdsearch.search.trial_states import LiveTrial

Key = tuple[str | None, str]  # data set of a retraining (None: the sweep's own) and model


class Teachers:
    """The pre-trained models of one sweep, by data set and name."""

    def __init__(self) -> None:
        self._baselines: dict[int, Baseline] = {}  # by the number of the trial that trains it
        self._weights: dict[Key, Path | None] = {}  # None: still training
        self._broken: dict[Key, str] = {}  # why there will be no teacher

    def expect(self, baseline: Baseline) -> None:
        """Its training is a trial of this sweep."""
        self._baselines[baseline.number] = baseline
        self._weights[_key(baseline)] = None

    def found(self, baseline: Baseline) -> None:
        """Its weights are there from an earlier training."""
        self._weights[_key(baseline)] = baseline.path

    def finished(self, trial: LiveTrial, *, sweep: str, state: str, message: str) -> None:
        """Its training ended; a result is kept for later sweeps."""
        baseline = self._baselines[trial.number]
        if state != "complete":
            told = f"its teacher {baseline.model} (trial {trial.number}) {state}: {message}"
            self._broken[_key(baseline)] = told
            return
        self._weights[_key(baseline)] = trial.output
        if baseline.known() is None:  # else it was trained earlier, and the record says where
            baseline.remember(
                sweep=sweep,
                error=trial.last_error,
                best_error=trial.best_error,
                best_epoch=trial.best_epoch,
                last_epoch=trial.last_epoch,
            )

    def obstacle(self, models: Sequence[str], data: str | None) -> str | None:
        """Why trials on a data set that need these models can never run; None if they can, sooner or later."""
        return next((self._broken[key] for key in _keys(models, data) if key in self._broken), None)

    def ready(self, models: Sequence[str], data: str | None) -> bool:
        """Whether all of these are trained."""
        return all(self._weights.get(key) is not None for key in _keys(models, data))

    def inputs(self, models: Sequence[str], data: str | None) -> dict[str, Path]:
        """The weight files of models that are ready, under the names that packs know them by."""
        return {f"teacher:{key[1]}": path for key in _keys(models, data) if (path := self._weights[key])}


def _key(baseline: Baseline) -> Key:
    return baseline.data, baseline.model


def _keys(models: Sequence[str], data: str | None) -> Iterator[Key]:
    return ((data, model) for model in models)
