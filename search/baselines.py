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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdsearch.search.config import SweepFile
from kdsearch.spaces import Value
from kdsearch.trainables.registry import trainable_kind
from kdsearch.trainables.seeds import derive_seed


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

    def known(self) -> KnownBaseline | None:
        """The result of an earlier training, if its weights are still there."""
        try:
            data = json.loads(self._sidecar.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        digest = data.pop("sha256", None)
        return KnownBaseline(**data) if digest is not None and digest == _digest(self.path) else None

    def remember(
        self,
        *,
        sweep: str,
        error: float | None,
        best_error: float | None,
        best_epoch: int | None,
        last_epoch: int | None,
    ) -> None:
        """Keep the result beside the weights, for later sweeps."""
        known = KnownBaseline(
            sweep=sweep,
            trial=self.number,
            error=error,
            best_error=best_error,
            best_epoch=best_epoch,
            last_epoch=last_epoch,
        )
        temporary = self._sidecar.with_suffix(".part")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        data = {**asdict(known), "sha256": _digest(self.path)}
        temporary.write_text(json.dumps(data), encoding="utf-8")
        temporary.replace(self._sidecar)

    @property
    def _sidecar(self) -> Path:
        return self.path.with_suffix(".json")


def baselines_for(sweep: SweepFile, folder: Path, data_root: Path | None) -> list[Baseline]:
    """The trainings that come before a sweep's trials, as its trainable says; they are numbered from 0."""
    kind = trainable_kind(sweep.trainable.kind)
    settings = sweep.trainable_settings()
    before = kind.pretraining(settings, sweep.models())
    content = kind.content(settings, data_root) if before else ""
    found = []
    for number, wanted in enumerate(before):
        model = wanted.model
        seed = derive_seed(sweep.seed, "baseline", model)
        key = _key({"model": model, "seed": seed, "settings": wanted.defined_by, "data": content})
        found.append(
            Baseline(
                number=number,
                model=model,
                configuration=wanted.configuration,
                seed=seed,
                path=folder / "pretrained" / f"{model}-{key}.pt",
            )
        )
    return found


def _digest(path: Path) -> str | None:
    """SHA-256 of a file, so that damaged weights are trained anew; None if it is not there."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _key(defined_by: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(defined_by, sort_keys=True).encode()).hexdigest()[:16]
