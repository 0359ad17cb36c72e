"""Models that trials learn from, trained before them: which are ready, which never will be, and where they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdsearch.search.baselines import Baseline
from kdsearch.search.trial_states import LiveTrial


class Teachers:
    """The pre-trained models of one sweep, by name."""

    def __init__(self) -> None:
        self._baselines: dict[int, Baseline] = {}  # by the number of the trial that trains it
        self._weights: dict[str, Path | None] = {}  # None: still training
        self._broken: dict[str, str] = {}  # why there will be no teacher

    def expect(self, baseline: Baseline) -> None:
        """Its training is a trial of this sweep."""
        self._baselines[baseline.number] = baseline
        self._weights[baseline.model] = None

    def found(self, baseline: Baseline) -> None:
        """Its weights are there from an earlier training."""
        self._weights[baseline.model] = baseline.path

    def finished(self, trial: LiveTrial, *, sweep: str, state: str, message: str) -> None:
        """Its training ended; a result is kept for later sweeps."""
        baseline = self._baselines[trial.number]
        if state != "complete":
            told = f"its teacher {baseline.model} (trial {trial.number}) {state}: {message}"
            self._broken[baseline.model] = told
            return
        self._weights[baseline.model] = trial.output
        if baseline.known() is None:  # else it was trained earlier, and the record says where
            baseline.remember(
                sweep=sweep,
                error=trial.last_error,
                best_error=trial.best_error,
                best_epoch=trial.best_epoch,
                last_epoch=trial.last_epoch,
            )

    def obstacle(self, models: Sequence[str]) -> str | None:
        """Why trials that need these models can never run; None if they can, sooner or later."""
        return next((self._broken[model] for model in models if model in self._broken), None)

    def ready(self, models: Sequence[str]) -> bool:
        """Whether all of these are trained."""
        return all(self._weights.get(model) is not None for model in models)

    def inputs(self, models: Sequence[str]) -> dict[str, Path]:
        """The weight files of models that are ready, under the names that packs know them by."""
        return {f"teacher:{model}": path for model in models if (path := self._weights[model])}
