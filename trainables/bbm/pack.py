"""A pack of trials of block-by-block matching and its baselines: they take turns, each in a program of its own.

Their networks have different shapes and gain nothing from sharing one; a pack of one is the common case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm.comparing import compared
from kdsearch.trainables.bbm.evaluation import Answers, answers
from kdsearch.trainables.bbm.files import description, load_checkpoint, save_checkpoint, save_weights
from kdsearch.trainables.bbm.judging import Judgement, objective
from kdsearch.trainables.bbm.learner import EpochSums, Learner
from kdsearch.trainables.bbm.parts import Records
from kdsearch.trainables.bbm.settings import BbmSettings, Method
from kdsearch.trainables.networks.files import FileError
from kdsearch.trainables.protocol import EpochReport, Member, MemberState
from kdsearch.trainables.records import Part
from kdsearch.trainables.series.networks import SeriesNetwork

STUDENT = 1
Arrays = Mapping[str, NDArray[np.float32]]


class BbmPack:
    """Trials that train one after another; see `protocol.Pack`.

    A report's metrics are `1/train_loss` and, of BBM, `1/train_matching` (L_BBM), means over the epoch's iterations;
    `1/val_loss`, `1/val_challenge`, `1/val_f1`, `1/val_auroc`, `1/val_auprc` (fractions) with the thresholds that are
    best on the validation part, `1/threshold_challenge` and `1/threshold_f1`; and `1/val_error`, 100 (1 - score) per
    cent of the settings' objective. Where the plan says evaluate, the last epoch has the same of the test part at
    those thresholds (`1/test_...`), and what `comparing` finds: `1/r2` and `attention_distance.<unit>` (tokens), with
    `_external` on records from elsewhere, and the arrays. `meta.<name>` are metaparameters that follow their
    gradient, `skipped_hypergradients` how many were not finite. `seconds` is the member's own time in the epoch,
    `train_seconds` that of the training alone.
    """

    def __init__(
        self,
        settings: BbmSettings,
        members: Sequence[Member],
        records: Records,
        teacher: SeriesNetwork | None,
        *,
        elsewhere: Records | None = None,
        device: str | torch.device = "cpu",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._settings, self._records, self._teacher = settings, records, teacher
        self._elsewhere, self._device, self._clock = elsewhere, torch.device(device), clock
        self._size = len(members)
        self._finished: dict[int, Learner] = {}
        self._learners: dict[int, Learner] = {}
        for member in members:
            learner = Learner(settings, member, records, teacher, self._device)
            if member.checkpoint is not None:
                self._restore(learner, member.checkpoint)
            self._learners[member.number] = learner

    @property
    def active(self) -> tuple[int, ...]:
        """Numbers of the members that still train, in the order they were given."""
        return tuple(self._learners)

    def run_epoch(self) -> list[EpochReport]:
        """Train and evaluate every active member for one epoch."""
        reports = [self._epoch(learner) for learner in list(self._learners.values())]
        for report in reports:
            if report.state is not MemberState.RUNNING:
                learner = self._learners.pop(report.number)
                if report.state is MemberState.COMPLETE:
                    self._finished[report.number] = learner
        return reports

    def drop(self, number: int) -> None:
        """Take a member out, or forget the output of one that is complete."""
        if self._finished.pop(number, None) is None:
            self._learner(number)
            del self._learners[number]

    def save(self, number: int, path: Path) -> None:
        """Write the checkpoint of a member that still trains."""
        learner = self._learner(number)
        save_checkpoint(path, self._identity(learner.member), learner.epoch, learner.state())

    def save_output(self, number: int, path: Path) -> None:
        """Write the weights of a member that is complete or still trains."""
        learner = self._finished.get(number) or self._learner(number)
        built = description(
            self._settings, learner.trial.network, distillation=learner.trial.method is Method.DEIT
        )
        save_weights(path, built, learner.network.state_dict())

    def _epoch(self, learner: Learner) -> EpochReport:
        started = self._clock()
        sums = learner.train_epoch()
        trained = self._clock()
        metrics = {"train_loss": sums.loss}
        likeness: dict[str, float] = {}
        if sums.matching is not None:
            metrics["train_matching"] = sums.matching
        arrays: Arrays = {}
        message = _not_finite("training", sums.loss, learner)
        if not message:
            validation = self._answers(learner, Part.VALIDATION)
            judgement = validation.judged()
            metrics |= self._scores("val", validation, judgement)
            metrics["threshold_challenge"] = judgement.thresholds.challenge
            metrics["threshold_f1"] = judgement.thresholds.f1
            message = _not_finite("validation", validation.loss, learner)
            if learner.done and not message and learner.member.plan.get("evaluate"):
                tested = self._answers(learner, Part.TEST)
                metrics |= self._scores("test", tested, tested.judged(judgement.thresholds))
                message = _not_finite("test", tested.loss, learner)
                likeness, arrays = self._compared(learner)
        own = {f"{STUDENT}/{name}": value for name, value in metrics.items()} | likeness
        return self._report(learner, own, arrays, message, self._times(sums, started, trained, self._clock()))

    def _answers(self, learner: Learner, part: Part) -> Answers:
        return answers(
            learner.network,
            self._records,
            self._records.parts[part],
            batch_size=self._settings.eval_batch_size,
            device=self._device,
        )

    def _scores(self, part: str, said: Answers, judgement: Judgement) -> dict[str, float]:
        scores = {f"{part}_{name}": value for name, value in judgement.scores().items()}
        error = objective(judgement, self._settings.objective)
        return {f"{part}_loss": said.loss, f"{part}_error": error, **scores}

    def _compared(self, learner: Learner) -> tuple[dict[str, float], Arrays]:
        """Compare with the teacher on the test part and on data from elsewhere."""
        if not self._settings.similarity:
            return {}, {}
        metrics: dict[str, float] = {}
        arrays: dict[str, NDArray[np.float32]] = {}
        teacher = None if learner.trial.method is Method.TEACHER else self._teacher
        for suffix, records in (("", self._records), ("_external", self._elsewhere)):
            if records is None:
                continue
            found = compared(
                learner.network,
                teacher,
                records,
                records.parts[Part.TEST],
                batch_size=self._settings.eval_batch_size,
                device=self._device,
            )
            if found.r2 is not None:
                metrics[f"{STUDENT}/r2{suffix}"] = found.r2
            for unit, distance in enumerate(found.distances, start=1):
                metrics[f"attention_distance{suffix}.{unit}"] = distance
            arrays |= {f"{name}{suffix}": value for name, value in found.arrays.items()}
        return metrics, arrays

    def _times(self, sums: EpochSums, started: float, trained: float, ended: float) -> dict[str, float]:
        passes = float(sums.iterations + sums.judged)
        return {
            "seconds": ended - started,
            "train_seconds": trained - started,
            "iterations": float(sums.iterations),
            "forward_passes": passes,
            "backward_passes": passes + sums.judged,  # base and direction are differentiated apart
            "tangent_passes": 0.0,
            "members": float(self._size),
        }

    def _report(
        self,
        learner: Learner,
        metrics: Mapping[str, float],
        arrays: Arrays,
        message: str,
        times: Mapping[str, float],
    ) -> EpochReport:
        values = {f"meta.{name}": value for name, value in learner.metaparameters.items()}
        skipped = {"skipped_hypergradients": float(learner.skipped)} if values else {}
        state = MemberState.RUNNING
        if message:
            state = MemberState.DIVERGED
        elif learner.done:
            state = MemberState.COMPLETE
        return EpochReport(
            number=learner.member.number,
            epoch=learner.epoch,
            state=state,
            metrics={**metrics, **values, **skipped, **times},
            message=message,
            arrays=arrays,
        )

    def _restore(self, learner: Learner, path: Path) -> None:
        epoch, state = load_checkpoint(path, self._identity(learner.member))
        try:
            learner.restore(epoch, state)
        except (AttributeError, KeyError, RuntimeError, TypeError, UsageError) as error:
            told = str(error).splitlines()[0]
            raise FileError(f"{path} is not a checkpoint of this trial, or is damaged: {told}") from None

    def _identity(self, member: Member) -> dict[str, Any]:
        return {
            "settings": self._settings.to_mapping(),
            "records": self._records.digest,
            "configuration": dict(member.configuration),
            "seed": member.seed,
            "plan": dict(member.plan),
        }

    def _learner(self, number: int) -> Learner:
        if number not in self._learners:
            raise UsageError(
                f"trial {number} does not train in this pack", f"Those that do: {list(self.active)}."
            )
        return self._learners[number]


def _not_finite(what: str, loss: float, learner: Learner) -> str:
    if isfinite(loss):
        return ""
    return f"the {what} loss of the {learner.trial.method} is {loss} at epoch {learner.epoch}"
