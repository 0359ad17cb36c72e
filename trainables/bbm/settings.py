"""What a trial of block-by-block matching trains and how, read from a sweep file's `trainable` section. No torch here.

Source: Lee, Jo and Kwon (2022), section 2.1 and Appendix A. A value that stands in a trial's configuration takes the
place of the setting of the same name; for the method teacher these are the settings of the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm.data_settings import RecordData
from kdsearch.trainables.bbm.objectives import Objective
from kdsearch.trainables.bbm.schedule import check_warm_up
from kdsearch.trainables.protocol import Configuration
from kdsearch.trainables.series.specs import (
    NetworkSpec,
    TransformerSpec,
    check_blocks,
    check_network,
    network_spec,
)
from kdsearch.trainables.settings_reading import (
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    UNIT,
    WHERE,
    check_number,
    check_whole,
    read_name,
    refuse_unknown,
)
from kdsearch.trainables.signals.policy import MOST_TRANSFORMS

_TEACHER: Final = f"teacher in {WHERE}"


class Method(StrEnum):
    """What a trial trains."""

    TEACHER = "teacher"  # the network whose inductive bias is to be transferred, from the labels alone
    TRANSFORMER = "transformer"  # the student's network from the labels alone
    DEIT = "deit"  # the student with a distillation token that learns the teacher's hard labels
    BBM = "bbm"  # the student with L = L_CLS + lambda L_BBM

    @property
    def taught(self) -> bool:
        """Whether it learns from the teacher."""
        return self in (Method.DEIT, Method.BBM)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How one network is trained: Adam with weight decay, linear warm-up, then half a cosine.

    epochs, batch_size: 1 or more. warm_up: epochs, 0 or more and less than epochs. learning_rate: the highest, above
    0. weight_decay: 0 or more, added to the gradient (L2). dropout: in [0, 1). augment_number: transforms of each
    record, in 0 (none) to 6; augment_intensity: in [0, 1]; both for ECGs alone.

    Raises:
        UsageError: a value is outside its range.

    """

    epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    dropout: float = 0.1
    warm_up: int = 10
    augment_number: int = 0
    augment_intensity: float = 0.5

    def check(self, where: str) -> None:
        """Refuse values outside their ranges."""
        for name, least in (("epochs", 1), ("batch_size", 1), ("warm_up", 0), ("augment_number", 0)):
            check_whole(name, getattr(self, name), where, least=least)
        for name, interval in (
            ("learning_rate", POSITIVE),
            ("weight_decay", NOT_NEGATIVE),
            ("dropout", BELOW_ONE),
            ("augment_intensity", UNIT),
        ):
            check_number(name, getattr(self, name), interval, where)
        if self.augment_number > MOST_TRANSFORMS:
            raise UsageError(
                f"augment_number in {where} is {self.augment_number!r}",
                f"It must be a whole number from 0 (no augmentation) to {MOST_TRANSFORMS}.",
            )
        check_warm_up(self.warm_up, self.epochs)


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """The teacher's network and training, or the file that it comes from (its training has no meaning then)."""

    network: NetworkSpec
    training: Training
    file: str | None = None

    @classmethod
    def read(cls, mapping: object, default: Training) -> TeacherSettings:
        """Read a mapping as it stands in a sweep file: the network's keys, the training's, and file."""
        if not isinstance(mapping, Mapping):
            raise UsageError(
                f"{_TEACHER} is {mapping!r}", "Write teacher: {network: lstm} or {network: resnet}."
            )
        training = _training(mapping, default, _TEACHER)
        own = {name: value for name, value in mapping.items() if name not in _TRAINING and name != "file"}
        file = mapping.get("file")
        if file is not None and not (isinstance(file, str) and file):
            raise UsageError(f"file in {_TEACHER} is {file!r}", "It must be a path, or be left out.")
        return cls(network=network_spec(own), training=training, file=file)

    def to_mapping(self) -> dict[str, Any]:
        """Return what `read` reads, with every key."""
        return {**self.network.to_mapping(), **_plain(self.training), "file": self.file}


@dataclass(frozen=True, kw_only=True)
class TrialSettings:
    """What one trial comes to, settings and configuration together."""

    method: Method
    network: NetworkSpec  # of what is trained; its dropout is the training's
    training: Training
    blocks: int
    matching: float  # lambda, the weight of L_BBM
    ratio: float  # of the class token's term in DeiT's loss


@dataclass(frozen=True, kw_only=True)
class BbmSettings:
    """The settings of a sweep.

    blocks: N of equations 2 to 4, a divisor of both networks' units. matching (in files `lambda`): the weight of
    L_BBM, 0 or more. ratio: in [0, 1], of the class token's term in DeiT's loss; closer to 0 means more distillation.
    objective: the validation score that a trial's error is made of. similarity: evaluated trials are compared with
    the teacher (outputs, layers, attention).

    Raises:
        UsageError: a value is outside its range, or networks, data and blocks do not fit.
        UnknownNameError: a key, set, network or other name is unknown.

    """

    data: RecordData
    student: NetworkSpec
    training: Training
    teacher: TeacherSettings | None = None
    method: Method = Method.BBM
    blocks: int = 1
    matching: float = 1.0
    ratio: float = 0.5
    objective: Objective = Objective.CHALLENGE
    eval_batch_size: int = 256
    similarity: bool = True

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> BbmSettings:
        """Read a sweep file's section and check it as a whole."""
        known = [*_OWN, *_TRAINING]
        refuse_unknown(mapping, known, WHERE)
        training = _training(mapping, Training(), WHERE)
        student = mapping.get("student", {"network": "transformer"})
        if not isinstance(student, Mapping):
            raise UsageError(f"student in {WHERE} is {student!r}", "Write student: {network: transformer}.")
        if "dropout" in student:
            raise UsageError(
                f"dropout stands in student in {WHERE}", "Write it beside student, with the other training."
            )
        teacher = mapping.get("teacher")
        read = cls(
            data=RecordData.read(mapping.get("data")),
            student=network_spec(student),
            training=training,
            teacher=None if teacher is None else TeacherSettings.read(teacher, training),
            method=read_name("method", mapping.get("method", Method.BBM), Method),
            blocks=mapping.get("blocks", 1),
            matching=mapping.get("lambda", 1.0),
            ratio=mapping.get("ratio", 0.5),
            objective=read_name("objective", mapping.get("objective", Objective.CHALLENGE), Objective),
            eval_batch_size=mapping.get("eval_batch_size", 256),
            similarity=mapping.get("similarity", True),
        )
        check_whole("eval_batch_size", read.eval_batch_size)
        if not isinstance(read.similarity, bool):
            raise UsageError(f"similarity in {WHERE} must be true or false")
        read.trial({})
        if read.teacher is not None:
            read.trial({"method": Method.TEACHER})  # it is trained and compared with, whatever the method
        return read

    def to_mapping(self) -> dict[str, Any]:
        """Return what `from_mapping` reads, with every key."""
        return {
            "data": self.data.to_mapping(),
            "student": {k: v for k, v in self.student.to_mapping().items() if k != "dropout"},
            "teacher": None if self.teacher is None else self.teacher.to_mapping(),
            "method": str(self.method),
            "blocks": self.blocks,
            "lambda": self.matching,
            "ratio": self.ratio,
            "objective": str(self.objective),
            "eval_batch_size": self.eval_batch_size,
            "similarity": self.similarity,
            **_plain(self.training),
        }

    def trial(self, configuration: Configuration) -> TrialSettings:
        """Return what a trial trains.

        Raises:
            UsageError: a value is outside its range, or networks, data and blocks do not fit.

        """
        method = self.method_of(configuration)
        teacher = self.teacher
        if teacher is None and (method is Method.TEACHER or method.taught):
            raise UsageError(
                f"the method {method} needs a teacher", f"Write it into {WHERE}: teacher: {{...}}."
            )
        if method.taught and self.method is Method.TEACHER and teacher is not None and teacher.file is None:
            raise UsageError(
                f"the method {method} needs a teacher, and with method: teacher none is trained before the trials",
                f"Set another method in {WHERE}, or give the teacher's file.",
            )
        base, spec = self.training, self.student
        if method is Method.TEACHER and teacher is not None:
            base, spec = teacher.training, teacher.network
        values = {name: configuration[name] for name in _TRAINING if name in configuration}
        training = replace(base, **values)  # type: ignore[arg-type]  # checked below
        training.check("the configuration" if values else WHERE)
        shape = {name: configuration[name] for name in _NETWORK if name in configuration}
        own = {field.name for field in fields(spec)}
        for name in shape.keys() - own:
            if not any(name in {each.name for each in fields(other)} for other in self._networks):
                raise UsageError(f"{name} is no setting of the networks that this sweep trains")
        changed = {name: value for name, value in shape.items() if name in own}
        spec = replace(spec, **{"dropout": training.dropout, **changed})  # type: ignore[arg-type]  # checked by it
        found = TrialSettings(
            method=method,
            network=spec,
            training=training,
            blocks=configuration.get("blocks", self.blocks),  # type: ignore[arg-type]  # checked below
            matching=configuration.get("lambda", self.matching),  # type: ignore[arg-type]
            ratio=configuration.get("ratio", self.ratio),  # type: ignore[arg-type]
        )
        self._check_trial(found)
        return found

    def effective(self, configuration: Configuration) -> frozenset[str]:
        """Return the parameters of `PARAMETERS` that a trial of this configuration depends on."""
        trial = self.trial(configuration)
        found = {"method", "learning_rate", "weight_decay", "dropout", "batch_size"}
        found |= {name for name in _NETWORK if name in {each.name for each in fields(trial.network)}}
        if not self.data.per_step:
            found.add("augment_number")
            if trial.training.augment_number:
                found.add("augment_intensity")
        return frozenset(found | _BALANCE.get(trial.method, frozenset()))

    def method_of(self, configuration: Configuration) -> Method:
        """Return what a trial of this configuration trains."""
        return read_name("method", configuration.get("method", self.method), Method)

    @property
    def teacher_network(self) -> NetworkSpec:
        """The trained teacher's network, as the trials that learn from it see it."""
        if self.teacher is None:
            raise UsageError("there is no teacher", f"Write it into {WHERE}: teacher: {{...}}.")
        return replace(self.teacher.network, dropout=self.teacher.training.dropout)

    @property
    def _networks(self) -> tuple[NetworkSpec, ...]:
        return (self.student,) if self.teacher is None else (self.student, self.teacher.network)

    def _check_trial(self, trial: TrialSettings) -> None:
        check_whole("blocks", trial.blocks)
        check_number("lambda", trial.matching, NOT_NEGATIVE)
        check_number("ratio", trial.ratio, UNIT)
        self._check_form(trial.network)
        if self.data.per_step and trial.training.augment_number:
            raise UsageError(
                f"augment_number is {trial.training.augment_number} for {self.data.name}",
                "The transforms are for ECGs: leave it out, or set it to 0.",
            )
        if trial.method.taught:
            self._check_form(self.teacher_network)
        if trial.method is Method.DEIT and not isinstance(trial.network, TransformerSpec):
            raise UsageError(
                f"the method deit needs tokens to distil with, and a {trial.network.network} has none",
                "Use student: {network: transformer}.",
            )
        if trial.method is Method.BBM:
            for network in (trial.network, self.teacher_network):
                check_blocks(network, trial.blocks)

    def _check_form(self, network: NetworkSpec) -> None:
        data = self.data
        check_network(network, inputs=data.inputs, steps=data.steps, per_step=data.per_step)


_TRAINING: Final = tuple(each.name for each in fields(Training))
_BALANCE: Final[Mapping[Method, frozenset[str]]] = {
    Method.DEIT: frozenset({"ratio"}),
    Method.BBM: frozenset({"lambda", "blocks"}),
}
_NETWORK: Final = ("hidden", "heads", "width", "feed_forward")
_OWN: Final = (
    "data",
    "student",
    "teacher",
    "method",
    "blocks",
    "lambda",
    "ratio",
    "objective",
    "eval_batch_size",
    "similarity",
)
# What a configuration can hold.
PARAMETERS: Final = (
    "method",
    "learning_rate",
    "weight_decay",
    "dropout",
    "augment_number",
    "augment_intensity",
    "batch_size",
    "ratio",
    "lambda",
    "blocks",
    *_NETWORK,
)


def _training(mapping: Mapping[str, Any], default: Training, where: str) -> Training:
    training = replace(default, **{name: mapping[name] for name in _TRAINING if name in mapping})
    training.check(where)
    return training


def _plain(training: Training) -> dict[str, Any]:
    return {name: getattr(training, name) for name in _TRAINING}


__all__ = ["BbmSettings", "Method", "TeacherSettings", "Training", "TrialSettings"]
