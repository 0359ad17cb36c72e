"""What a KTG trial is trained with, read from a sweep file's `trainable` section. No torch here.

The defaults are the paper's where it gives them (Iwata et al., Section IV: SGD with Nesterov momentum 0.9, learning
rate 0.1, batch 64, cosine decay, 100 epochs in a search); weight decay is the public code's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.spaces.graph import TARGET, Gate, Graph, read_gate
from kdsearch.trainables.data.splits import DataSettings
from kdsearch.trainables.models import Architecture, architecture
from kdsearch.trainables.protocol import Configuration

WHERE = "the trainable's settings"
OWN_MODEL = f"model.{TARGET}"  # in a configuration: a graph of one node, which names its model itself
OWN_LABEL = f"label->{TARGET}"


class Precision(StrEnum):
    """Arithmetic of the networks; the losses are computed in at least float32 whatever it is."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"  # autocast: float32 weights, bfloat16 convolutions
    FLOAT64 = "float64"  # for checks: slow


@dataclass(frozen=True, kw_only=True)
class KtgSettings:
    """How graphs are trained.

    target: the model of node 1, or None where every configuration names it. Each epoch has whole batches only: what
    is left of the training images after the last one sits out, other images every time. momentum and weight_decay are
    in [0, 1) and [0, inf); learning_rate and temperature are finite and above 0; epochs, batch sizes and stem_stride
    (the stride of every network's first convolution) are 1 or more.

    Raises:
        UsageError: a value is outside its range.
        UnknownNameError: the precision is unknown.

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

    def __post_init__(self) -> None:
        if self.precision not in list(Precision):
            raise UnknownNameError(
                "precision", self.precision, [str(precision) for precision in Precision], WHERE
            )
        object.__setattr__(self, "precision", Precision(self.precision))
        for name in ("epochs", "batch_size", "eval_batch_size", "stem_stride"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise _out_of_range(name, value, "a whole number, 1 or more")
        for name in ("learning_rate", "temperature"):
            _check_number(name, getattr(self, name), lambda value: value > 0, "a finite number above 0")
        _check_number("momentum", self.momentum, lambda value: 0 <= value < 1, "in [0, 1)")
        _check_number(
            "weight_decay", self.weight_decay, lambda value: value >= 0, "a finite number, 0 or more"
        )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> KtgSettings:
        """Read a mapping as it stands in a sweep file; `data` is a mapping too, or just the data set's name.

        Raises:
            UnknownNameError: a key, data set or precision is unknown.
            UsageError: `data` is missing, or a value is outside its range.

        """
        values = dict(mapping)
        _refuse_unknown(values, [each.name for each in fields(cls)], WHERE)
        data = values.pop("data", None)
        if data is None:
            raise UsageError(f"{WHERE} name no data set", "Write data: {name: digits} there.")
        return cls(data=_read_data(data), **values)

    def to_mapping(self) -> dict[str, Any]:
        """Return what `from_mapping` reads, with every key."""
        return asdict(self) | {"precision": str(self.precision)}

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch counted from 0: cosine decay, constant inside an epoch."""
        return 0.5 * self.learning_rate * (1.0 + math.cos(math.pi * epoch / self.epochs))

    def graph(self, configuration: Configuration) -> Graph:
        """Return the graph of a configuration.

        A configuration with `model.1` is a graph of one node that learns from the label alone (pre-training); any
        other one holds the auxiliary nodes' models and every edge's gate, and the target's model stands in `target`.

        Raises:
            UsageError: the configuration does not describe a graph that can be trained.

        """
        if OWN_MODEL in configuration:
            _refuse_unknown(configuration, (OWN_MODEL, OWN_LABEL), "a configuration of one node")
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

    def architecture(self, model: str, *, channels: int, classes: int) -> Architecture:
        """Return a model's architecture for a data set's channels and classes."""
        return architecture(model, channels=channels, classes=classes, stem_stride=self.stem_stride)


def _read_data(data: object) -> DataSettings:
    if isinstance(data, str):
        return DataSettings(name=data)
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise UsageError(
            f"data in {WHERE} is {data!r}", "Write data: {name: digits}, or another data set's name."
        )
    _refuse_unknown(data, [each.name for each in fields(DataSettings)], f"data in {WHERE}")
    return DataSettings(**data)


def _refuse_unknown(mapping: Mapping[str, object], known: list[str] | tuple[str, ...], where: str) -> None:
    for key in mapping:
        if key not in known:
            raise UnknownNameError("key", key, known, where)


def _check_number(name: str, value: object, fits: Any, expected: str) -> None:
    number = not isinstance(value, bool) and isinstance(value, int | float)
    if not number or not math.isfinite(value) or not fits(value):  # type: ignore[arg-type]
        raise _out_of_range(name, value, expected)


def _out_of_range(name: str, value: object, expected: str) -> UsageError:
    return UsageError(f"{name} in {WHERE} is {value!r}", f"It must be {expected}.")
