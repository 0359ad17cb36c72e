"""One trial as it trains: a network, the maps of block-by-block matching, Adam, and where a metaparameter stands.

The loss is L = base + weight * direction (`terms`), so that the gradient's derivative by the weight is the direction's
gradient, and equation 3 of the metaparameter paper is exact through the step of Adam:
dL_val(w')/dweight = grad L_val(w') . dw'/dweight.

All randomness is keyed by the trial's seed, a name and the epoch: an epoch is the same whether the trial was
interrupted before it or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm.losses import classification_loss
from kdsearch.trainables.bbm.optimising import Adam
from kdsearch.trainables.bbm.parts import Indices, Records
from kdsearch.trainables.bbm.schedule import rate
from kdsearch.trainables.bbm.settings import BbmSettings, Method
from kdsearch.trainables.bbm.tensors import TensorBatch, tensor_batch
from kdsearch.trainables.bbm.terms import Objective, pieces
from kdsearch.trainables.metaparameters.path import MetaPath, PathState
from kdsearch.trainables.metaparameters.settings import OptimiserSettings
from kdsearch.trainables.protocol import Member
from kdsearch.trainables.records import Part
from kdsearch.trainables.records.prepared_batches import epoch_batches
from kdsearch.trainables.seeds import derive_seed
from kdsearch.trainables.series.build import build_network
from kdsearch.trainables.series.networks import SeriesNetwork
from kdsearch.trainables.signals.rand_augment import RandAugment

_WEIGHTS = {Method.BBM: "lambda", Method.DEIT: "ratio"}


@dataclass(frozen=True, kw_only=True)
class EpochSums:
    """What an epoch's training came to."""

    loss: float  # mean over the iterations
    matching: float | None  # the same of L_BBM
    iterations: int
    judged: int  # iterations with a hypergradient


@dataclass(frozen=True)
class _Step:
    """What one iteration came to."""

    loss: float
    direction: float
    judged: bool


class _Sum:
    """Gradients added up over the pieces of a batch."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    def add(self, gradients: list[Tensor]) -> None:
        """Take in a piece's."""
        pairs = zip(self.tensors, gradients, strict=True)
        self.tensors = [total + gradient for total, gradient in pairs] if self.tensors else gradients


class Learner:
    """A trial between its epochs.

    teacher: in evaluation mode, its weights are left alone; needed by the methods that learn from it.
    """

    def __init__(
        self,
        settings: BbmSettings,
        member: Member,
        records: Records,
        teacher: SeriesNetwork | None,
        device: torch.device,
    ) -> None:
        self.member, self.settings = member, settings
        self.trial = settings.trial(member.configuration)
        self._records, self._device = records, device
        self.epoch = 0  # epochs done
        method, data = self.trial.method, settings.data
        self.network = build_network(
            self.trial.network,
            inputs=data.inputs,
            outputs=data.outputs,
            steps=data.steps,
            per_step=data.per_step,
            distillation=method is Method.DEIT,
            generator=self._generator("network"),
        ).to(device)
        if method.taught and teacher is None:
            raise UsageError(f"trial {member.number}: the method {method} got no teacher")
        self.objective = Objective(self.trial, self.network, teacher, self._generator("maps"))
        self.maps = None if self.objective.maps is None else self.objective.maps.to(device)
        self._parameters = [*self.network.parameters(), *(self.maps.parameters() if self.maps else ())]
        self.adam = Adam(self._parameters, weight_decay=self.trial.training.weight_decay)
        self.path = self._start(member.plan.get("optimiser"))

    @property
    def done(self) -> bool:
        """All epochs are trained."""
        return self.epoch >= self.trial.training.epochs

    @property
    def metaparameters(self) -> Mapping[str, float]:
        """The values that follow their gradient, by name."""
        if self.path is None:
            return {}
        return dict(zip(self.path.names, self.path.values[0].tolist(), strict=True))

    @property
    def skipped(self) -> int:
        """Hypergradients that were not finite so far."""
        return 0 if self.path is None else int(self.path.skipped[0])

    def train_epoch(self) -> EpochSums:
        """Train one epoch."""
        losses = directions = 0.0
        judged = 0
        batches = self._batches(Part.TRAINING, "order")
        judges = self._judges(len(batches))
        self.network.train()
        with self._dropout():
            for iteration, batch in enumerate(self._augmented(batches)):
                done = self.epoch * len(batches) + iteration
                step = self._step(batch, self._rate(done, len(batches)), judges)
                losses, directions, judged = (
                    losses + step.loss,
                    directions + step.direction,
                    judged + step.judged,
                )
        self.epoch += 1
        return EpochSums(
            loss=losses / len(batches),
            matching=directions / len(batches) if self.maps is not None else None,
            iterations=len(batches),
            judged=judged,
        )

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs."""
        return {
            "network": self.network.state_dict(),
            "maps": None if self.maps is None else self.maps.state_dict(),
            "adam": self.adam.state_dict(),
            "path": None if self.path is None else self.path.state(0).to_plain(),
        }

    def restore(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Go back to where `state` was called."""
        self.epoch = epoch
        self.network.load_state_dict(state["network"])
        if self.maps is not None:
            self.maps.load_state_dict(state["maps"])
        self.adam.load_state_dict(state["adam"])
        if self.path is not None and self._optimiser is not None:
            self.path = self._path(self._optimiser, PathState.from_plain(state["path"]))

    # One step

    def _step(self, batch: TensorBatch, rate: float, judges: Iterator[TensorBatch]) -> _Step:
        """Move weights and, where it follows its gradient, the weight of the loss."""
        weight = self._weight()
        wanted = self.path is not None and self.path.wants()[0]
        loss = moved = 0.0
        gradients, direction = _Sum(), _Sum()
        for piece in pieces(batch):
            terms = self.objective.terms(piece)
            total = terms.base
            if terms.direction is not None:
                total = terms.base + weight * terms.direction
                moved += float(terms.direction.detach())
                if wanted:
                    direction.add(self._gradients(terms.direction, retain=True))
            gradients.add(self._gradients(total))
            loss += float(total.detach())
        if not wanted:
            self.adam.step(gradients.tensors, rate)
            if self.path is not None:
                self.path.advance()
            return _Step(loss, moved, judged=False)
        slopes = self.adam.step_with_derivative(gradients.tensors, direction.tensors, rate)
        self._advance(slopes, next(judges))
        return _Step(loss, moved, judged=True)

    def _advance(self, slopes: Sequence[Tensor], judge: TensorBatch) -> None:
        """Equation 3: the validation loss at the new weights, differentiated through the step that led there."""
        if self.path is None:
            raise AssertionError
        self.network.eval()
        validation = _Sum()
        for piece in pieces(judge):
            part = piece.batch
            loss = classification_loss(self.network(part.values, part.real), part.labels, part.real)
            validation.add(self._gradients(piece.hours * loss))
        self.network.train()
        products = [
            (gradient * slope).sum(dtype=torch.float64)
            for gradient, slope in zip(validation.tensors, slopes, strict=True)
        ]
        self.path.advance(torch.stack(products).sum().cpu().reshape(1, 1))

    def _gradients(self, loss: Tensor, *, retain: bool = False) -> list[Tensor]:
        found = torch.autograd.grad(
            loss, self._parameters, retain_graph=retain, allow_unused=True, materialize_grads=True
        )
        return list(found)

    def _weight(self) -> float:
        if self.path is not None:
            return float(self.path.values[0, 0])
        return self.trial.matching if self.trial.method is Method.BBM else self.trial.ratio

    # Batches, rates and randomness

    def _batches(self, part: Part, name: str, turn: int = 0) -> list[Indices]:
        """Return the part's records in the batches of this epoch."""
        chosen = self._records.parts[part]
        lengths = None if self._records.lengths is None else self._records.lengths[chosen]
        rng = np.random.default_rng(derive_seed(self.member.seed, name, self.epoch, turn))
        size = self.trial.training.batch_size
        return [chosen[own] for own in epoch_batches(len(chosen), size, rng, lengths=lengths)]

    def _augmented(self, batches: Sequence[Indices]) -> Iterator[TensorBatch]:
        training = self.trial.training
        if not training.augment_number:
            yield from (tensor_batch(self._records, chosen, self._device) for chosen in batches)
            return
        augment = RandAugment(
            training.augment_number, training.augment_intensity, rate_hz=self.settings.data.rate_hz
        )
        generator = self._generator("augmentation", self.epoch)
        for chosen in batches:
            batch = self._records.batch(chosen)
            leads_first = torch.from_numpy(np.ascontiguousarray(batch.values.transpose(0, 2, 1)))
            changed = augment(leads_first, generator).transpose(1, 2).contiguous()
            yield TensorBatch(changed.to(self._device), torch.from_numpy(batch.labels).to(self._device), None)

    def _judges(self, iterations: int) -> Iterator[TensorBatch]:
        """Return validation batches for an epoch's hypergradients, in passes over the part."""
        size = max(1, len(self._records.parts[Part.VALIDATION]))
        passes = ceil(iterations * self.trial.training.batch_size / size) + 1
        for turn in range(passes):
            for chosen in self._batches(Part.VALIDATION, "judges", turn):
                yield tensor_batch(self._records, chosen, self._device)

    def _rate(self, iteration: int, per_epoch: int) -> float:
        training = self.trial.training
        return rate(
            training.learning_rate,
            iteration,
            per_epoch=per_epoch,
            epochs=training.epochs,
            warm_up=training.warm_up,
        )

    @contextmanager
    def _dropout(self) -> Iterator[None]:
        """Dropout draws from torch's own generators: they are seeded for the epoch, and put back after it."""
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive_seed(self.member.seed, "dropout", self.epoch))
            yield

    def _generator(self, *name: str | int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.member.seed, *name))

    # The path of a metaparameter

    def _start(self, plan: Mapping[str, Any] | None) -> MetaPath | None:
        self._optimiser = None if plan is None else OptimiserSettings.from_mapping(plan)
        if self._optimiser is None:
            return None
        names = list(self._optimiser.start)
        if names != [_WEIGHTS.get(self.trial.method)]:
            raise UsageError(
                f"the method {self.trial.method} cannot optimise {', '.join(names)} by its gradient",
                "BBM has lambda, and DeiT ratio.",
            )
        return self._path(self._optimiser, PathState.start(self._optimiser, names))

    def _path(self, optimiser: OptimiserSettings, state: PathState) -> MetaPath:
        return MetaPath(optimiser, list(optimiser.start), [state], device="cpu", dtype=torch.float64)


def frozen(network: SeriesNetwork) -> SeriesNetwork:
    """Return the network in evaluation mode, its weights closed to every gradient."""
    network.eval()
    network.requires_grad_(requires_grad=False)
    return network


__all__ = ["EpochSums", "Learner", "frozen"]
