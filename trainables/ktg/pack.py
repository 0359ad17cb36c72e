"""A pack of knowledge transfer graphs: K trials that train side by side as one program per architecture.

All trained nodes of one architecture, whatever trial they belong to, are slots of one `NetworkStack`; frozen teachers
live in stacks of their own, and so do nodes with learned gates, whose weights move after the step (`learning`). Each
iteration runs every stack's forward pass, takes all graphs' losses and their gradients at the logits at once
(`losses`), and steps every stack: nodes move simultaneously. Trials may stand at different epochs. Inside an epoch
nothing waits for the device; the metrics come back once, at its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kdsearch.spaces.errors import UsageError
from kdsearch.spaces.graph import TARGET
from kdsearch.trainables.data.batches import plain_batches
from kdsearch.trainables.ktg.learning import Differentiation, GateWeights, Lesson
from kdsearch.trainables.ktg.losses import correct_gates, gate_weights, graph_losses
from kdsearch.trainables.ktg.pack_data import TEST, Measured, PackData, arithmetic_dtype
from kdsearch.trainables.ktg.running import Running
from kdsearch.trainables.ktg.settings import KtgSettings, Precision
from kdsearch.trainables.ktg.trial import Trial
from kdsearch.trainables.networks.architectures import Architecture
from kdsearch.trainables.networks.files import save_weights
from kdsearch.trainables.networks.stack import NetworkStack, NodeState, Slot
from kdsearch.trainables.networks.stacked import slot_images
from kdsearch.trainables.protocol import EpochReport, Member, MemberState


class KtgPack:
    """Trials of equally many nodes that train side by side; see `protocol.Pack`.

    A report's metrics are, for every node, `<node>/train_loss` (sum over the node's gated edges, mean over the epoch's
    iterations; 0 for a frozen node), `<node>/val_loss` (cross-entropy with the labels) and `<node>/val_error` (per
    cent), both in eval mode on the validation images after the epoch, unless these train too; and after the last epoch
    `<node>/test_loss` and `<node>/test_error` on the test part, where the plan says evaluate. The plan is the members'
    common one.
    `seconds` is the trial's equal share of the time
    that the pack's epoch took, evaluation included, so that the sum over trials is the machine's time; `images_per_s`
    is the training images that the trial saw, divided by it.

    A trial with learned gates also reports each weight after the epoch as `meta.weight.<source>-><target>`, and
    `skipped_hypergradients`, how many were not finite so far and counted as 0; and what that costs: `train_seconds` (a
    share of the training part alone), `iterations`, `members` (the pack's size), and the epoch's `forward_passes`,
    `backward_passes` and `tangent_passes` of all its nodes in training.

    A trial whose target, or any node from which the target can be reached, has a loss that is not finite is DIVERGED.
    """

    def __init__(
        self,
        settings: KtgSettings,
        members: Sequence[Member],
        data: PackData,
        *,
        device: str | torch.device = "cpu",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._settings, self._data, self._clock = settings, data, clock
        self._device = torch.device(device)
        self._dtype = arithmetic_dtype(settings)
        self._trials = [Trial.make(member, settings, data) for member in members]
        self._finished: dict[int, tuple[Architecture, NodeState]] = {}
        if len({len(trial.graph.models) for trial in self._trials}) > 1:
            raise UsageError("the trials of a pack must have equally many nodes")
        self._place(self._build())

    @property
    def active(self) -> tuple[int, ...]:
        """Numbers of the members that still train, in the order they were given."""
        return tuple(trial.number for trial in self._trials)

    def run_epoch(self) -> list[EpochReport]:
        """Train and evaluate every active member for one epoch."""
        if not self._trials:
            return []
        started = self._clock()
        losses = self._train()
        training = self._training_seconds(started)
        parts = self._measured()
        scores = [self._evaluate(part) for part in parts]
        table = torch.cat([losses[None], *scores]).cpu().tolist()  # the only place that waits for the device
        weights = self._weights.metrics()
        seconds = (self._clock() - started) / len(self._trials)
        reports = []
        for index, trial in enumerate(self._trials):
            trial.epoch += 1
            costs = self._costs(trial, training) if trial.optimiser else {}
            values = [values[index] for values in table]
            reports.append(self._report(trial, parts, values, seconds, weights[index] | costs))
        self._keep_outputs(reports)
        self._remove(
            frozenset(report.number for report in reports if report.state is not MemberState.RUNNING)
        )
        return reports

    def drop(self, number: int) -> None:
        """Take a member out, or forget the output of one that is complete."""
        if self._finished.pop(number, None) is None:
            self._remove(frozenset([self._active(number).number]))

    def save(self, number: int, path: Path) -> None:
        """Write the checkpoint of a member that still trains."""
        trial = self._active(number)
        nodes = {node: self._state(Slot(number, node)) for node in trial.graph.nodes}
        trial.save(path, nodes, self._weights.state(self._trials.index(trial)))

    def save_output(self, number: int, path: Path) -> None:
        """Write node 1's weights, of a member that is complete or still trains, for use as a frozen teacher."""
        if number in self._finished:
            architecture, state = self._finished[number]
        else:
            architecture = self._active(number).architectures[TARGET]
            state = self._state(Slot(number, TARGET))
        save_weights(path, architecture, state.tensors)

    # One epoch

    def _train(self) -> Tensor:
        """Run one epoch and return its mean losses [K, M]."""
        batches, trials = self._data.batches, self._trials
        iterations = batches.iterations_per_epoch
        graphs = [trial.graph for trial in trials]
        done = [trial.epoch * iterations for trial in trials]
        weights = gate_weights(graphs, done, iterations, self._settings.epochs * iterations)
        gates = torch.as_tensor(weights, dtype=self._dtype).to(self._device)
        correct = torch.as_tensor(correct_gates(graphs)).to(self._device)
        rates = [self._rates(running.stack) for running in self._stacks]
        total = gates.new_zeros(gates.shape[1:3])
        seen = [(trial.member.seed, trial.epoch) for trial in trials]
        self._validation = self._data.validation_batches(seen) if self._weights else None
        for trial in trials:
            trial.judged = 0
        for iteration, (images, labels) in enumerate(batches.epoch(batches.draw(seen))):
            total += self._step(iteration, images, labels, gates[iteration], correct, rates)
        return total / iterations

    def _step(
        self,
        iteration: int,
        images: Tensor,
        labels: Tensor,
        gates: Tensor,
        correct: Tensor,
        rates: Sequence[Tensor],
    ) -> Tensor:
        """Forward all nodes, then step all trained ones, then move learned gates; returns the losses [K, M]."""
        gates = self._weights.filled(gates)
        outputs = [self._forward(running, images) for running in self._stacks]
        logits = torch.cat([output.detach() for output in outputs])
        nodes = torch.unflatten(logits.index_select(0, self._order), 0, gates.shape[:2])
        losses, gradients = graph_losses(
            nodes, labels, gates, correct, temperature=self._settings.temperature
        )
        by_node = gradients.flatten(0, 1)
        judged = any(self._weights.wants())
        learning = [running for running in self._stacks if running.learns] if judged else []
        before = [running.stack.parameters.clone() for running in learning]
        for running, output, rate in zip(self._stacks, outputs, rates, strict=True):
            if running.stack.trained:
                running.stack.descend(
                    output,
                    by_node.index_select(0, running.places),
                    learning_rates=rate,
                    momentum=self._settings.momentum,
                    weight_decay=self._settings.weight_decay,
                )
        if self._weights:
            lesson = Lesson(images, labels, nodes, before)
            self._weights.advance(self._hypergradients(iteration, lesson, learning) if judged else None)
        return losses

    def _hypergradients(self, iteration: int, lesson: Lesson, learning: Sequence[Running]) -> Tensor:
        """Differentiate the learning nodes' validation losses by their gates: [K, M, M + 1]."""
        if (
            self._validation is None or self._weights.optimiser is None
        ):  # both stand where there are learned gates
            raise AssertionError
        for trial, wants in zip(self._trials, self._weights.wants(), strict=True):
            trial.judged += wants
        differentiation = Differentiation(self._settings.temperature, self._arithmetic)
        # What the new weights move by for a unit of gradient: Nesterov's step is rate * (1 + momentum) * gradient.
        reaches = [
            lesson.logits.new_tensor(self._slot_rates(running.stack)) * (1.0 + self._settings.momentum)
            for running in learning
        ]
        return differentiation.hypergradients(
            self._weights.optimiser,
            lesson,
            self._validation.batch(iteration),
            list(zip(learning, reaches, strict=True)),
        )

    def _forward(self, running: Running, images: Tensor) -> Tensor:
        with self._arithmetic():
            return running.stack.network(training=True).logits(slot_images(images, running.owners))

    @torch.no_grad()
    def _evaluate(self, part: str) -> Tensor:
        """Return cross-entropy and number of wrong answers of every node on a part: [2, K, M]."""
        found = []
        for running in self._stacks:
            scores = running.scores.get(part)
            if scores is None:
                scores = self._score(running.stack, self._data.evaluated[part])
            if not running.stack.trained:
                running.scores[part] = scores
            found.append(scores)
        by_node = torch.cat(found, 1).index_select(1, self._order)
        return torch.unflatten(by_node, 1, (len(self._trials), -1))

    def _score(self, stack: NetworkStack, part: Measured) -> Tensor:
        """Return the mean cross-entropy and the number of wrong answers of each slot: [2, N]."""
        network = stack.network(training=False)
        images, labels = part
        sums = torch.zeros(2, len(stack.slots), dtype=self._dtype, device=self._device)
        for x, y in plain_batches(
            images, labels, batch_size=self._settings.eval_batch_size, dtype=self._dtype
        ):
            with self._arithmetic():
                logits = network.logits(x.contiguous(memory_format=torch.channels_last))
            answers = y.expand(len(stack.slots), -1)
            sums[0] += functional.cross_entropy(logits.transpose(1, 2), answers, reduction="none").sum(1)
            sums[1] += (logits.argmax(-1) != answers).sum(1)
        sums[0] /= len(labels)
        return sums

    def _measured(self) -> list[str]:
        """Return the parts that are measured after this epoch: the test part where it is some trial's last."""
        last = any(trial.epoch + 1 >= self._settings.epochs for trial in self._trials)
        return [part for part in self._data.evaluated if part != TEST or last]

    def _report(
        self,
        trial: Trial,
        parts: Sequence[str],
        table: Sequence[Sequence[float]],
        seconds: float,
        more: Mapping[str, float],
    ) -> EpochReport:
        """Make the report of a trial that has the epoch behind it; table: rows of loss and scores."""
        metrics: dict[str, float] = {}
        for node in trial.graph.nodes:
            loss, *scores = (row[node - 1] for row in table)
            metrics[f"{node}/train_loss"] = loss
            for place, part in enumerate(parts):
                if part == TEST and trial.epoch < self._settings.epochs:
                    continue  # another trial's last epoch
                # Whole numbers until here, exact in any float: equal counts give equal errors.
                mean, wrong = scores[2 * place : 2 * place + 2]
                metrics[f"{node}/{part}_loss"] = mean
                metrics[f"{node}/{part}_error"] = 100.0 * wrong / len(self._data.evaluated[part].labels)
        batches = self._data.batches
        metrics["seconds"] = seconds
        metrics["images_per_s"] = batches.iterations_per_epoch * batches.batch_size / max(seconds, 1e-9)
        metrics.update(more)
        message = trial.divergence(metrics)
        state = MemberState.RUNNING
        if message:
            state = MemberState.DIVERGED
        elif trial.epoch >= self._settings.epochs:
            state = MemberState.COMPLETE
        return EpochReport(
            number=trial.number, epoch=trial.epoch, state=state, metrics=metrics, message=message
        )

    def _training_seconds(self, started: float) -> float:
        """Return each trial's share of the training so far, 0 where no report tells it; waits for the device."""
        if not self._weights:
            return 0.0
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return (self._clock() - started) / len(self._trials)

    def _costs(self, trial: Trial, training_seconds: float) -> dict[str, float]:
        costs = trial.costs(self._data.batches.iterations_per_epoch)
        return {"train_seconds": training_seconds, **costs, "members": float(len(self._trials))}

    def _rates(self, stack: NetworkStack) -> Tensor:
        return stack.spread(self._slot_rates(stack))

    def _slot_rates(self, stack: NetworkStack) -> list[float]:
        epochs = {trial.number: trial.epoch for trial in self._trials}
        return [self._settings.rate(epochs[slot.trial]) for slot in stack.slots]

    def _arithmetic(self) -> AbstractContextManager[object]:
        enabled = self._settings.precision is Precision.BFLOAT16
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=enabled)

    # Members and slots

    def _build(self) -> list[NetworkStack]:
        """Make every node of every trial and stack them by architecture, the trained ones first.

        Nodes with learned gates have stacks of their own, so that hypergradients cost nothing for the others.
        """
        slots: dict[tuple[bool, bool, Architecture], list[tuple[Slot, NodeState]]] = {}
        for trial in self._trials:
            states = trial.start()
            for node in trial.graph.nodes:
                frozen, learns = node in trial.graph.frozen_nodes(), node in trial.learning_nodes
                key = (frozen, learns, trial.architectures[node])
                slots.setdefault(key, []).append((Slot(trial.number, node), states[node]))
        return [
            NetworkStack(
                architecture,
                [slot for slot, _ in filled],
                [state for _, state in filled],
                trained=not frozen,
                device=self._device,
                dtype=self._dtype,
            )
            for (frozen, _, architecture), filled in sorted(slots.items(), key=lambda item: item[0][0])
        ]

    def _state(self, slot: Slot) -> NodeState:
        return next(running.stack.state(slot) for running in self._stacks if slot in running.stack.slots)

    def _active(self, number: int) -> Trial:
        for trial in self._trials:
            if trial.number == number:
                return trial
        raise UsageError(
            f"trial {number} does not train in this pack", f"Those that do: {list(self.active)}."
        )

    def _keep_outputs(self, reports: Sequence[EpochReport]) -> None:
        for trial, report in zip(self._trials, reports, strict=True):
            if report.state is MemberState.COMPLETE:
                state = self._state(Slot(trial.number, TARGET))
                on_cpu = {name: tensor.cpu() for name, tensor in state.tensors.items()}
                self._finished[trial.number] = trial.architectures[TARGET], NodeState(on_cpu)

    def _remove(self, numbers: frozenset[int]) -> None:
        if numbers:
            for index, trial in enumerate(self._trials):
                trial.path = self._weights.state(index)
            self._trials = [trial for trial in self._trials if trial.number not in numbers]
            kept = [running.stack.without(numbers) for running in self._stacks]
            self._place([stack for stack in kept if stack is not None])

    def _place(self, stacks: Sequence[NetworkStack]) -> None:
        """Work out where each stack's slots stand among the pack's nodes, and the other way round."""
        index = {trial.number: position for position, trial in enumerate(self._trials)}
        learners = {Slot(trial.number, node) for trial in self._trials for node in trial.learning_nodes}
        nodes = len(self._trials[0].graph.models) if self._trials else 0
        self._stacks: list[Running] = []
        order: list[int] = []
        for stack in stacks:
            owners = [index[slot.trial] for slot in stack.slots]
            places = [index[slot.trial] * nodes + slot.node - 1 for slot in stack.slots]
            order += places
            learns = stack.slots[0] in learners
            self._stacks.append(Running(stack, self._index(owners), self._index(places), learns))
        self._order = self._index(np.argsort(order).tolist())
        self._weights = GateWeights([trial.learner for trial in self._trials], device=self._device)

    def _index(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
