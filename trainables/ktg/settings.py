"""What a KTG trial is trained with, read from a sweep file's `trainable` section. No torch here.

The defaults are the paper's where it gives them (Iwata et al., Section IV: SGD with Nesterov momentum 0.9, learning
rate 0.1, batch 64, cosine decay, 100 epochs in a search); weight decay is the public code's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kdsearch.spaces.errors import UsageError
from kdsearch.spaces.graph import TARGET, Gate, Graph, read_gate
from kdsearch.trainables.data.splits import DataSettings
from kdsearch.trainables.networks.architectures import Architecture, architecture
from kdsearch.trainables.protocol import Configuration
from kdsearch.trainables.settings_reading import (
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    WHERE,
    check_number,
    check_whole,
    read_name,
    refuse_unknown,
)
from kdsearch.trainables.training_settings import Precision, Schedule, read_data

__all__ = ["KtgSettings", "Precision"]

OWN_MODEL = f"model.{TARGET}"  # in a configuration: a graph of one node, which names its model itself
OWN_LABEL = f"label->{TARGET}"


@dataclass(frozen=True, kw_only=True)
class KtgSettings:
    """How graphs are trained.

    target: the model of node 1, or None where every configuration names it. Each epoch has whole batches only: what
    is left of the training images after the last one sits out, other images every time. momentum and weight_decay are
    in [0, 1) and [0, inf); learning_rate and temperature are finite and above 0; epochs, batch sizes and stem_stride
    (the stride of every network's first convolution) are 1 or more. schedule: of the learning rate, the paper's cosine.

    Raises:
        UsageError: a value is outside its range.
        UnknownNameError: the precision or the schedule is unknown.

    """

    data: DataSettings
    target: str | None = None
    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    temperature: float = 1.0
    precision: Precision = Precision.FLOAT32
    eval_batch_size: int = 256
    stem_stride: int = 1
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", read_name("precision", self.precision, Precision))
        object.__setattr__(self, "schedule", Schedule.read(self.schedule, WHERE))
        for name in ("epochs", "batch_size", "eval_batch_size", "stem_stride"):
            check_whole(name, getattr(self, name))
        for name in ("learning_rate", "temperature"):
            check_number(name, getattr(self, name), POSITIVE)
        check_number("momentum", self.momentum, BELOW_ONE)
        check_number("weight_decay", self.weight_decay, NOT_NEGATIVE)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> KtgSettings:
        """Read a mapping as it stands in a sweep file; `data` is a mapping too, or just the data set's name.

        Raises:
            UnknownNameError: a key, data set, schedule or precision is unknown.
            UsageError: `data` is missing, or a value is outside its range.

        """
        values = dict(mapping)
        refuse_unknown(values, [each.name for each in fields(cls)], WHERE)
        return cls(data=read_data(values.pop("data", None)), **values)

    def to_mapping(self) -> dict[str, Any]:
        """Return what `from_mapping` reads, with every key; but a cosine schedule, older than the key, has none."""
        mapping = asdict(self) | {"precision": str(self.precision), "schedule": self.schedule.to_plain()}
        if self.schedule == Schedule():
            del mapping["schedule"]
        return mapping

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch counted from 0; it is constant inside an epoch."""
        return self.schedule.rate(self.learning_rate, epoch, self.epochs)

    def graph(self, configuration: Configuration) -> Graph:
        """Return the graph of a configuration.

        A configuration with `model.1` is a graph of one node that learns from the label alone (pre-training); any
        other one holds the auxiliary nodes' models and every edge's gate, and the target's model stands in `target`.

        Raises:
            UsageError: the configuration does not describe a graph that can be trained.

        """
        if OWN_MODEL in configuration:
            refuse_unknown(configuration, (OWN_MODEL, OWN_LABEL), "a configuration of one node")
            gate = read_gate(configuration.get(OWN_LABEL, Gate.THROUGH), OWN_LABEL)
            graph = Graph((str(configuration[OWN_MODEL]),), ((gate, Gate.CUTOFF),))
        elif self.target is None:
            raise UsageError(f"{WHERE} name no target", "Write target: MODEL there: the model of node 1.")
        else:
            graph = Graph.from_configuration(configuration, self.target)
        if graph.is_degenerate:
            raise UsageError(
                f"no edge reaches the target in {graph}", "Its label edge or a node's must not be cutoff."
            )
        return graph

    def architecture(self, model: str, *, shape: tuple[int, int, int], classes: int) -> Architecture:
        """Return a model's architecture for images of that shape (channels, rows, columns) and so many classes."""
        channels, rows, columns = shape
        return architecture(
            model, channels=channels, classes=classes, stem_stride=self.stem_stride, size=(rows, columns)
        )
