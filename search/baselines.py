"""Baselines: models that are trained before a sweep's trials, because these learn from them.

For graphs they are the label-only baselines of the paper's Table I, each architecture of the space trained with the
label alone: a node without incoming edges is a frozen, pre-trained teacher. A baseline is a trial like any other. It is
run once for each (architecture, data, seed, schedule): its weights and its result are kept under a key made of just
these, and found again by every later sweep beside the same database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kdsearch.search.config import RetrainSettings, SweepFile
from kdsearch.search.searchers.plans import TEST
from kdsearch.spaces import Value
from kdsearch.trainables.protocol import Pretraining, TrainableKind
from kdsearch.trainables.registry import trainable_kind
from kdsearch.trainables.seeds import derive_seed
from kdsearch.trainables.storage import SHARED, Storage, StorageError


@dataclass(frozen=True, kw_only=True)
class KnownBaseline:
    """A baseline that was trained before."""

    sweep: str
    trial: int
    error: float | None
    best_error: float | None
    best_epoch: int | None
    last_epoch: int | None


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One model to be trained before the trials, and where its weights go."""

    number: int
    model: str
    configuration: Mapping[str, Value]
    seed: int
    path: Path
    data: str | None = None  # the data set of a retraining that it is trained on; None: the sweep's own
    plan: Mapping[str, Any] = field(default_factory=dict)
    storage: Storage = SHARED

    def known(self) -> KnownBaseline | None:
        """The result of an earlier training, if its weights are still there."""
        try:
            data = json.loads(self.storage.read(self._sidecar))
        except (OSError, StorageError, ValueError):
            return None
        digest = data.pop("sha256", None)
        return KnownBaseline(**data) if digest is not None and digest == self._digest() else None

    def known_after(self, state: str | None, sweep: str) -> KnownBaseline | None:
        """The same for a sweep whose database says that the trial stands so; None: it does not know the trial.

        A training of the sweep itself that the database did not see the end of does not count: its driver was killed
        before the database had all of it.
        """
        known = self.known()
        cut_off = state is not None and state != "complete"
        return None if known is not None and cut_off and known.sweep == sweep else known

    def remember(
        self,
        *,
        sweep: str,
        error: float | None,
        best_error: float | None,
        best_epoch: int | None,
        last_epoch: int | None,
    ) -> None:
        """Keep the result beside the weights, for later sweeps; where it cannot be written, they train anew."""
        known = KnownBaseline(
            sweep=sweep,
            trial=self.number,
            error=error,
            best_error=best_error,
            best_epoch=best_epoch,
            last_epoch=last_epoch,
        )
        data = {**asdict(known), "sha256": self._digest()}
        with suppress(OSError, StorageError):
            self.storage.write(self._sidecar, json.dumps(data).encode())

    @property
    def _sidecar(self) -> Path:
        return self.path.with_suffix(".json")

    def _digest(self) -> str | None:
        """SHA-256 of the weights, so that damaged ones are trained anew; None if they are not there."""
        try:
            return hashlib.sha256(self.storage.read(self.path)).hexdigest()
        except (OSError, StorageError):
            return None


def baselines_for(
    sweep: SweepFile,
    folder: Path,
    data_root: Path | None,
    storage: Storage = SHARED,
    contents: Mapping[str, str] | None = None,
) -> list[Baseline]:
    """The trainings that come before a sweep's trials, as its trainable says; they are numbered from 0.

    contents: digests of the data, by the names of a retraining's data sets; None: they are looked at here.
    """
    kind = trainable_kind(sweep.trainable.kind)
    found: list[Baseline] = []
    for data, settings in sweep.settings_by_data().items():
        before = _wanted(sweep, kind, settings)
        content = (
            ""
            if not before
            else kind.content(settings, data_root)
            if contents is None
            else contents[data or ""]
        )
        plan = _plan(sweep, data)
        for wanted in before:
            model = wanted.model
            seed = derive_seed(sweep.seed, "baseline", model)
            defined_by = {"model": model, "seed": seed, "settings": wanted.defined_by, "data": content}
            told = {key: value for key, value in plan.items() if key != "data"}
            key = _key({**defined_by, "plan": told} if told else defined_by)
            found.append(
                Baseline(
                    number=len(found),
                    model=model,
                    configuration=wanted.configuration,
                    seed=seed,
                    path=folder / "pretrained" / f"{model}-{key}.pt",
                    data=data,
                    plan=plan,
                    storage=storage,
                )
            )
    return found


def pretrainings(sweep: SweepFile) -> int:
    """How many trainings come before a sweep's trials; no data is looked at."""
    kind = trainable_kind(sweep.trainable.kind)
    return sum(len(_wanted(sweep, kind, settings)) for settings in sweep.settings_by_data().values())


def _wanted(sweep: SweepFile, kind: TrainableKind, settings: Mapping[str, Any]) -> list[Pretraining]:
    """All that the trainable asks for; of a retraining, what some version learns from."""
    before = list(kind.pretraining(settings, sweep.models()))
    if not isinstance(sweep.searcher, RetrainSettings):
        return before
    versions = sweep.searcher.versions.values()
    needed = {model for version in versions for model in kind.inputs(settings, version.configuration)}
    return [each for each in before if each.model in needed]


def _plan(sweep: SweepFile, data: str | None) -> dict[str, Any]:
    """What a pre-training is told: those of a retraining train on what its trials train on.

    Where these are the validation images too, only the test part is left to say how good a teacher is.
    """
    plan: dict[str, Any] = {} if data is None else {"data": data}
    if isinstance(sweep.searcher, RetrainSettings) and sweep.searcher.train_on == "all":
        plan |= {"final": True, "train_on": "all", "evaluate": True, "objective": TEST}
    return plan


def _key(defined_by: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(defined_by, sort_keys=True).encode()).hexdigest()[:16]
