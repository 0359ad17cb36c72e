"""A pack of students: K trials of one architecture that learn from the label and a teacher side by side.

One iteration is one step of SGD down L_train and, where a searcher handed the trials an optimiser of metaparameters,
equation 3 of "Metaparameter optimization in knowledge distillation": the validation loss at the new weights is
differentiated through that very step. Values move after the step, lambda' = lambda - rate * dL_val(w')/dlambda, so
the step itself costs what a plain one costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.kd.files import Checkpoint, load_checkpoint, save_checkpoint
from kdsearch.trainables.kd.judging import Judge, Step
from kdsearch.trainables.kd.objective import Objective
from kdsearch.trainables.kd.parts import Batch, Part, Parts, Standing
from kdsearch.trainables.kd.settings import METAPARAMETERS, KdSettings
from kdsearch.trainables.kd.teacher import Teacher
from kdsearch.trainables.metaparameters.path import MetaPath, PathState
from kdsearch.trainables.metaparameters.settings import OptimiserSettings
from kdsearch.trainables.networks.architectures import Architecture
from kdsearch.trainables.networks.files import save_weights
from kdsearch.trainables.networks.stack import NetworkStack, NodeState, RecordedPass, Slot
from kdsearch.trainables.networks.stacked import initial_tensors, slot_images
from kdsearch.trainables.protocol import EpochReport, Member, MemberState
from kdsearch.trainables.seeds import derive_seed

STUDENT = 1
NAMES = tuple(each.name for each in METAPARAMETERS)


@dataclass
class _Trial:
    """A member that still trains."""

    member: Member
    epoch: int = 0  # epochs done

    @property
    def number(self) -> int:
        return self.member.number


class KdPack:
    """Students of one architecture and one plan that train side by side; see `protocol.Pack`.

    A report's metrics are `1/train_loss` (L_train, mean over the epoch's iterations), `1/val_loss` and `1/val_error`
    (per cent) on the validation part unless the student trains on it, `1/test_loss` and `1/test_error` where the plan
    says evaluate; losses there are cross-entropies at the validation temperature. `meta.<name>` are the metaparameters
    after the epoch, `skipped_hypergradients` how many were not finite so far and counted as 0. `seconds` is the
    trial's equal share of the pack's time, `train_seconds` that of the training alone; `forward_passes`,
    `backward_passes` and `tangent_passes` are the student's passes in training, and `members` the pack's size.

    The plan is the members' common one; its optimiser may start each member elsewhere. teacher: None where the loss
    has no use for one.
    """

    def __init__(
        self,
        settings: KdSettings,
        members: Sequence[Member],
        parts: Parts,
        architecture: Architecture,
        teacher: Teacher | None,
        *,
        device: str | torch.device = "cpu",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._settings, self._parts, self._teacher, self._clock = settings, parts, teacher, clock
        self._architecture, self._device = architecture, torch.device(device)
        self._objective = Objective(settings, self._device)
        self._dtype = self._objective.dtype
        self._evaluate_test = bool(members[0].plan.get("evaluate", False))
        self._trials = [_Trial(member) for member in members]
        self._finished: dict[int, NodeState] = {}
        self._optimiser = _optimiser(members[0])
        self._validation = None
        if self._optimiser is not None:
            self._validation = parts.validation_batches(settings, self._dtype)
        self._judged = [0] * len(members)  # hypergradients of each trial in the present epoch
        states, paths = self._states()
        self._place(states, paths)

    @property
    def active(self) -> tuple[int, ...]:
        """Numbers of the members that still train, in the order they were given."""
        return tuple(trial.number for trial in self._trials)

    def run_epoch(self) -> list[EpochReport]:
        """Train and evaluate every active member for one epoch."""
        if not self._trials:
            return []
        started = self._clock()
        self._judged = [0] * len(self._trials)
        rows = {"train_loss": self._train().cpu()}  # waits for the device, so that the clock is right
        trained = self._clock()
        for name, part in (("val", self._parts.validation), ("test", self._tested())):
            if part is not None:
                rows |= {f"{name}_{what}": values for what, values in self._score(part).items()}
        table = {name: values.cpu().tolist() for name, values in rows.items()}
        ended = self._clock()
        reports = []
        for index, trial in enumerate(self._trials):
            trial.epoch += 1
            scores = {f"{STUDENT}/{name}": values[index] for name, values in table.items()}
            reports.append(self._report(trial, index, scores, (trained - started, ended - started)))
        self._keep_outputs(reports)
        self._remove({report.number for report in reports if report.state is not MemberState.RUNNING})
        return reports

    def drop(self, number: int) -> None:
        """Take a member out, or forget the output of one that is complete."""
        if self._finished.pop(number, None) is None:
            self._index(number)
            self._remove({number})

    def save(self, number: int, path: Path) -> None:
        """Write the checkpoint of a member that still trains."""
        index = self._index(number)
        trial = self._trials[index]
        checkpoint = Checkpoint(
            identity=self._identity(trial.member),
            epoch=trial.epoch,
            student=self._stack.state(Slot(number, STUDENT)),
            path=None if self._path is None else self._path.state(index).to_plain(),
        )
        save_checkpoint(path, checkpoint)

    def save_output(self, number: int, path: Path) -> None:
        """Write the weights of a member that is complete or still trains, for use as a teacher."""
        state = self._finished.get(number)
        if state is None:
            self._index(number)
            state = self._stack.state(Slot(number, STUDENT))
        save_weights(path, self._architecture, state.tensors, self._parts.identity)

    # One epoch

    def _train(self) -> Tensor:
        """Run one epoch and return its mean losses [K]."""
        trials = [
            Standing(trial.member.seed, trial.epoch, copy)
            for trial, copy in zip(self._trials, self._copies, strict=True)
        ]
        rates = [self._rate(trial) for trial in self._trials]
        spread = self._stack.spread(rates)
        # What the new weights move by for a unit of gradient: Nesterov's step is rate * (1 + momentum) * g.
        reach = self._values.new_tensor(rates) * (1.0 + self._momentum)
        judges = None if self._validation is None else self._validation.orders(trials)
        total = torch.zeros(len(self._trials), dtype=self._dtype, device=self._device)
        for iteration, batch in enumerate(self._parts.batches.epoch(trials)):
            judge = None if judges is None else judges[iteration]
            total += self._step(batch, judge, spread, reach)
        return total / self._parts.batches.iterations_per_epoch

    def _step(self, batch: Batch, judge: Tensor | None, rates: Tensor, reach: Tensor) -> Tensor:
        """Move every student, and then the metaparameters that are being optimised; returns the losses [K].

        judge: [K, B] the validation objects that would judge the step; they are looked at only if they do.
        """
        answers = None if self._teacher is None else self._teacher.logits(batch)
        values = self._current()
        images = slot_images(batch.inputs, self._owners)
        wanted = self._path is not None and any(self._path.wants())
        logits, recorded = self._forward(images, wanted=wanted)
        losses = self._objective.train(logits.detach(), answers, batch.labels, values)
        gradient = self._stack.gradient(logits, losses.gradients)
        before = self._stack.parameters.clone() if wanted else None
        self._stack.step(
            gradient,
            learning_rates=rates,
            momentum=self._momentum,
            weight_decay=self._weight_decay,
        )
        if self._path is not None:
            found = None
            if before is not None and judge is not None:
                step = Step(images, batch.labels, answers, values, before, recorded)
                found = self._hypergradient(step, judge).mul_(-reach[:, None])
            self._path.advance(found)
        return losses.losses

    def _hypergradient(self, step: Step, judge: Tensor) -> Tensor:
        """Return the derivative [K, P] that equation 3 needs, but for the step's length."""
        if (
            self._judge is None or self._validation is None or self._path is None
        ):  # asked for where there are all
            raise AssertionError
        self._judged = [n + wanted for n, wanted in zip(self._judged, self._path.wants(), strict=True)]
        shown = self._validation.batch(judge)
        return self._judge.hypergradient(
            self._stack, step, slot_images(shown.inputs, self._owners), shown.labels
        )

    def _forward(self, images: Tensor, *, wanted: bool) -> tuple[Tensor, RecordedPass | None]:
        """Return the logits and, if a hypergradient is wanted that has a use for it, the recorded pass."""
        with self._objective.arithmetic():
            if wanted and self._judge is not None and self._judge.records:
                recorded = self._stack.record(images)
                return recorded.logits, recorded
            return self._stack.network(training=True).logits(images), None

    def _score(self, part: Part) -> Mapping[str, Tensor]:
        network = self._stack.network(training=False)
        return self._objective.score(network, part, self._copies, self._owners)

    def _tested(self) -> Part | None:
        return self._parts.test if self._evaluate_test else None

    def _report(
        self, trial: _Trial, index: int, scores: Mapping[str, float], seconds: tuple[float, float]
    ) -> EpochReport:
        members = len(self._trials)
        iterations = self._parts.batches.iterations_per_epoch
        share = seconds[1] / members
        metrics = {
            **scores,
            **self._trajectory(index),
            "seconds": share,
            "train_seconds": seconds[0] / members,
            "images_per_s": iterations * self._parts.batches.batch_size / max(share, 1e-9),
            "iterations": float(iterations),
            **self._cost(iterations, self._judged[index]),
            "members": float(members),
        }
        message = _divergence(trial, scores)
        state = MemberState.RUNNING
        if message:
            state = MemberState.DIVERGED
        elif trial.epoch >= self._settings.epochs:
            state = MemberState.COMPLETE
        return EpochReport(
            number=trial.number, epoch=trial.epoch, state=state, metrics=metrics, message=message
        )

    def _cost(self, iterations: int, judged: int) -> Mapping[str, float]:
        """The student's passes in training."""
        if self._judge is not None:
            return self._judge.passes(iterations, judged)
        plain = float(iterations)
        return {"forward_passes": plain, "backward_passes": plain, "tangent_passes": 0.0}

    def _trajectory(self, index: int) -> dict[str, float]:
        if self._path is None:
            return {}
        values = self._path.values[index].tolist()
        metrics = {f"meta.{name}": value for name, value in zip(self._path.names, values, strict=True)}
        return metrics | {"skipped_hypergradients": float(self._path.skipped[index])}

    def _current(self) -> Tensor:
        """Return every student's (lambda_1, T): [K, 2]."""
        if self._path is None:
            return self._values
        return self._values.index_copy(1, self._columns, self._path.values.to(self._dtype))

    # Members and slots

    @property
    def _momentum(self) -> float:
        return self._settings.own("momentum", self._trials[0].member.configuration)

    @property
    def _weight_decay(self) -> float:
        return self._settings.own("weight_decay", self._trials[0].member.configuration)

    def _rate(self, trial: _Trial) -> float:
        base = self._settings.own("learning_rate", trial.member.configuration)
        return self._settings.schedule.rate(base, trial.epoch, self._settings.epochs)

    def _states(self) -> tuple[list[NodeState], list[PathState] | None]:
        """Return every student's tensors and its optimiser's state: from a checkpoint, or at the start."""
        states: list[NodeState] = []
        paths: list[PathState] = []
        for trial in self._trials:
            member, own = trial.member, _optimiser(trial.member)
            path = None if own is None else PathState.start(own, list(own.start))
            if member.checkpoint is None:
                rng = np.random.default_rng(derive_seed(member.seed, "node", STUDENT))
                states.append(NodeState(initial_tensors(self._architecture, rng)))
            else:
                found = load_checkpoint(member.checkpoint, self._identity(member), self._architecture)
                trial.epoch = found.epoch
                states.append(found.student)
                path = None if found.path is None else PathState.from_plain(found.path)
            if path is not None:
                paths.append(path)
        return states, paths if self._optimiser is not None else None

    def _place(self, states: Sequence[NodeState], paths: Sequence[PathState] | None) -> None:
        """Stack the students, and lay their values side by side."""
        self._stack = NetworkStack(
            self._architecture,
            [Slot(trial.number, STUDENT) for trial in self._trials],
            states,
            trained=True,
            device=self._device,
            dtype=self._dtype,
        )
        self._path: MetaPath | None = None
        self._judge: Judge | None = None
        self._columns = self._index_of(())
        if self._optimiser is not None and paths is not None:
            names = tuple(self._optimiser.start)
            self._columns = self._index_of(names)
            self._judge = Judge(self._optimiser, self._objective, self._columns)
            self._path = MetaPath(self._optimiser, names, paths, device=self._device, dtype=torch.float64)
        self._copies = [self._parts.copy_of(trial.member.plan) for trial in self._trials]
        self._owners = torch.arange(len(self._trials), device=self._device)
        self._values = torch.tensor(
            [self._settings.values_of(trial.member.configuration) for trial in self._trials],
            dtype=self._dtype,
            device=self._device,
        )

    def _index_of(self, names: Sequence[str]) -> Tensor:
        """Return where these metaparameters stand in (lambda_1, T)."""
        return torch.tensor([NAMES.index(name) for name in names], dtype=torch.int64, device=self._device)

    def _identity(self, member: Member) -> Mapping[str, Any]:
        return {
            "settings": self._settings.to_mapping(),
            "configuration": dict(member.configuration),
            "seed": member.seed,
            "plan": dict(member.plan),
        }

    def _index(self, number: int) -> int:
        for index, trial in enumerate(self._trials):
            if trial.number == number:
                return index
        raise UsageError(
            f"trial {number} does not train in this pack", f"Those that do: {list(self.active)}."
        )

    def _keep_outputs(self, reports: Sequence[EpochReport]) -> None:
        for report in reports:
            if report.state is MemberState.COMPLETE:
                state = self._stack.state(Slot(report.number, STUDENT))
                on_cpu = {name: tensor.cpu() for name, tensor in state.tensors.items()}
                self._finished[report.number] = NodeState(on_cpu)

    def _remove(self, numbers: set[int]) -> None:
        kept = [index for index, trial in enumerate(self._trials) if trial.number not in numbers]
        if len(kept) == len(self._trials):
            return
        states = [self._stack.state(Slot(self._trials[index].number, STUDENT)) for index in kept]
        paths = None if self._path is None else [self._path.state(index) for index in kept]
        self._trials = [self._trials[index] for index in kept]
        if self._trials:
            self._place(states, paths)


def _optimiser(member: Member) -> OptimiserSettings | None:
    found = member.plan.get("optimiser")
    return None if found is None else OptimiserSettings.from_mapping(found)


def _divergence(trial: _Trial, scores: Mapping[str, float]) -> str:
    """Say which loss is not finite."""
    for name, what in (("train_loss", "training"), ("val_loss", "validation"), ("test_loss", "test")):
        value = scores.get(f"{STUDENT}/{name}", 0.0)
        if not np.isfinite(value):
            return f"the {what} loss of the student is {value} at epoch {trial.epoch}"
    return ""
