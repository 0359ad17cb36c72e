"""What a student and its teacher are trained with, read from a sweep file's `trainable` section. No torch here.

Source: "Metaparameter optimization in knowledge distillation", section 4.2: SGD without momentum, learning rate 1.0
(halved every 10 epochs in the paper, `schedule: {every: 10, factor: 0.5}`), T_val = 1. Batch 128 and no weight decay
are the public code's. The teacher's defaults are those of its networks' own paper (He et al., 2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from kdsearch.spaces import DesignSpace
from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.data.splits import DataSettings
from kdsearch.trainables.data.synthetic import SYNTHETIC, SyntheticSettings
from kdsearch.trainables.kd.parameters import (
    METAPARAMETERS,
    PARAMETERS,
    Distillation,
    check_range,
    refuse_unknown_parameters,
)
from kdsearch.trainables.metaparameters.declaration import Metaparameter
from kdsearch.trainables.networks.architectures import Architecture, architecture
from kdsearch.trainables.protocol import Configuration
from kdsearch.trainables.settings_reading import (
    POSITIVE,
    WHERE,
    Interval,
    check_number,
    check_whole,
    read_name,
    refuse_unknown,
)
from kdsearch.trainables.training_settings import Precision, Schedule, read_data

__all__ = ["METAPARAMETERS", "Distillation", "KdSettings", "Sees", "TeacherSettings"]

_TEACHER: Final = f"teacher in {WHERE}"
_SPACE: Final = "the space of a kd trainable"
_CONFIGURATION: Final = "the configuration of a kd trial"


class Sees(StrEnum):
    """Which images train the teacher."""

    TRAINING = "training"  # the students' training part alone
    ALL = "all"  # their validation part too, as in the paper's public code: the students' validation is then no test


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """How the teacher is trained, from the label alone, or the file that it comes from.

    Ranges are those of `KdSettings`. file: weights that a sweep wrote; the other values have no meaning then, but for
    the model. sees has a meaning for images; the synthetic teacher has objects of its own.

    Raises:
        UsageError: a value is outside its range.
        UnknownNameError: the model or `sees` is unknown.

    """

    model: str
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = field(default_factory=Schedule)
    iterations_per_epoch: int | None = None
    sees: Sees = Sees.TRAINING
    file: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sees", read_name("sees", self.sees, Sees, _TEACHER))
        object.__setattr__(self, "schedule", Schedule.read(self.schedule, _TEACHER))
        _check_model("model", self.model, _TEACHER)
        _check_training(self, _TEACHER)
        if self.file is not None and not (isinstance(self.file, str) and self.file):
            raise UsageError(f"file in {_TEACHER} is {self.file!r}", "It must be a path, or be left out.")

    @classmethod
    def from_mapping(cls, mapping: object) -> TeacherSettings:
        """Read a mapping as it stands in a sweep file; errors are those of the class."""
        if isinstance(mapping, Mapping) and "model" not in mapping:
            raise UsageError(f"{_TEACHER} has no model", "Name it, beside a file too: {model: resnet18}.")
        if not isinstance(mapping, Mapping):
            raise UsageError(f"{_TEACHER} is {mapping!r}", "Write teacher: {model: resnet18} there.")
        refuse_unknown(mapping, [each.name for each in fields(cls)], _TEACHER)
        return cls(**mapping)

    def to_mapping(self) -> dict[str, Any]:
        """Return what `from_mapping` reads, with every key."""
        return asdict(self) | {"schedule": self.schedule.to_plain(), "sees": str(self.sees)}


@dataclass(frozen=True, kw_only=True)
class KdSettings:
    """How students are trained.

    student: its model. teacher: required by distillation soft, hard and deit. Under mutual its model is the second
    student's (None: as the first), and the factor T^2 is always there, as in a graph. lambda_1, temperature,
    learning_rate, momentum and weight_decay are used where a configuration has none.

    lambda_1 is in [0, 1], momentum in [0, 1), weight_decay in [0, inf); learning_rate, temperature and
    validation_temperature (T_val) are finite and above 0; epochs, batch sizes and stem_stride are 1 or more.
    val_batch_size: of the batches that metaparameters are judged by; None: as batch_size. iterations_per_epoch: only of
    the synthetic set, whose epochs are stretches of that many iterations; None: one pass over the objects. There a
    batch_size beyond the number of objects means all of them.

    Raises:
        UsageError: a value is outside its range, or a teacher is missing.
        UnknownNameError: a model, distillation, schedule or precision is unknown.

    """

    data: DataSettings | SyntheticSettings
    student: str
    teacher: TeacherSettings | None = None
    distillation: Distillation = Distillation.SOFT
    temperature_squared: bool = False
    validation_temperature: float = 1.0
    lambda_1: float = 0.5
    temperature: float = 1.0
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Schedule = field(default_factory=Schedule)
    iterations_per_epoch: int | None = None
    val_batch_size: int | None = None
    precision: Precision = Precision.FLOAT32
    eval_batch_size: int = 256
    stem_stride: int = 1

    def __post_init__(self) -> None:
        for name, names in (("distillation", Distillation), ("precision", Precision)):
            object.__setattr__(self, name, read_name(name, getattr(self, name), names))
        object.__setattr__(self, "schedule", Schedule.read(self.schedule, WHERE))
        _check_model("student", self.student, WHERE)
        _check_training(self, WHERE)
        for name in ("eval_batch_size", "stem_stride"):
            check_whole(name, getattr(self, name))
        if self.val_batch_size is not None:
            check_whole("val_batch_size", self.val_batch_size)
        for name in ("lambda_1", "temperature"):
            _check_float(self, name, PARAMETERS[name], WHERE)
        _check_float(self, "validation_temperature", POSITIVE, WHERE)
        if not isinstance(self.temperature_squared, bool):
            raise UsageError(
                f"temperature_squared in {WHERE} is {self.temperature_squared!r}", "It must be true or false."
            )
        self._check_teacher()
        self._check_iterations()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> KdSettings:
        """Read a mapping as it stands in a sweep file; `data` is a mapping too, or just the data set's name.

        Raises:
            UnknownNameError: a key, data set, model or another name is unknown.
            UsageError: `data` or `student` is missing, or a value is outside its range.

        """
        values = dict(mapping)
        refuse_unknown(values, [each.name for each in fields(cls)], WHERE)
        if values.get("student") is None:
            raise UsageError(f"{WHERE} name no student", "Write student: MODEL there.")
        teacher = values.pop("teacher", None)
        return cls(
            data=_read_data(values.pop("data", None)),
            teacher=None if teacher is None else TeacherSettings.from_mapping(teacher),
            **values,
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return what `from_mapping` reads, with every key."""
        return asdict(self) | {
            "data": self.data.to_mapping() if isinstance(self.data, SyntheticSettings) else asdict(self.data),
            "teacher": None if self.teacher is None else self.teacher.to_mapping(),
            "distillation": str(self.distillation),
            "precision": str(self.precision),
            "schedule": self.schedule.to_plain(),
        }

    def for_teacher(self) -> KdSettings:
        """Return the settings by which the teacher is trained: it is the student of the label alone.

        The teacher's own values stand in `teacher` still. Metaparameters and validation have no meaning there and are
        the defaults, so that all students' settings with one teacher give one and the same value.

        Raises:
            UsageError: there is no teacher.

        """
        teacher = self.teacher
        if teacher is None:
            raise UsageError(f"{WHERE} name no teacher", "Write teacher: {model: MODEL} there.")
        return KdSettings(
            data=self.data,
            student=teacher.model,
            teacher=teacher,
            distillation=Distillation.NONE,
            epochs=teacher.epochs,
            batch_size=teacher.batch_size,
            learning_rate=teacher.learning_rate,
            momentum=teacher.momentum,
            weight_decay=teacher.weight_decay,
            schedule=teacher.schedule,
            iterations_per_epoch=teacher.iterations_per_epoch,
            precision=self.precision,
            eval_batch_size=self.eval_batch_size,
            stem_stride=self.stem_stride,
        )

    @property
    def metaparameters(self) -> tuple[Metaparameter, ...]:
        """What the loss can be differentiated by; nothing under mutual, which the KTG engine trains."""
        if self.distillation is Distillation.MUTUAL:
            return ()
        return tuple(each for each in METAPARAMETERS if each.name in self.distillation.parameters)

    @property
    def peer(self) -> str:
        """The model of the second student of mutual learning."""
        return self.student if self.teacher is None else self.teacher.model

    def outputs(self, classes: int) -> int:
        """Return the number of a student's logits: a head for the label, and under deit one for the teacher."""
        return 2 * classes if self.distillation is Distillation.DEIT else classes

    def own(self, name: str, configuration: Configuration) -> float:
        """Return a trial's own value of one of `PARAMETERS`; the settings' where its configuration has none.

        Raises:
            UsageError: the value is outside its range.

        """
        value = configuration.get(name, getattr(self, name))
        check_number(name, value, PARAMETERS[name], _CONFIGURATION)
        return float(value)

    def values_of(self, configuration: Configuration) -> tuple[float, float]:
        """Return a trial's lambda_1 and T.

        Raises:
            UnknownNameError: the configuration has a parameter that is none of `PARAMETERS`.
            UsageError: a value is outside its range.

        """
        refuse_unknown_parameters(configuration, _CONFIGURATION)
        return self.own("lambda_1", configuration), self.own("temperature", configuration)

    def check_space(self, space: DesignSpace) -> None:
        """Refuse a space with parameters or values that no trial could be trained with, or to no effect.

        Raises:
            UnknownNameError: a parameter is none of `PARAMETERS`.
            UsageError: a range or value is impossible, or the loss does not depend on the parameter.

        """
        specs = space.parameters_spec()
        refuse_unknown_parameters(specs, _SPACE)
        used = self.distillation.parameters
        for name, spec in specs.items():
            if name not in used:
                raise UsageError(
                    f"{name} has no effect under distillation: {self.distillation}",
                    f"Leave it out of the space. What has one: {', '.join(used)}.",
                )
            check_range(name, spec, _SPACE)

    def architecture(self, model: str, *, channels: int, classes: int, size: tuple[int, int]) -> Architecture:
        """Return a model's architecture for inputs of `channels` and `size` (rows, columns); classes: its logits."""
        return architecture(
            model, channels=channels, classes=classes, stem_stride=self.stem_stride, size=size
        )

    def _check_teacher(self) -> None:
        if self.teacher is None and self.distillation.taught:
            raise UsageError(
                f"{WHERE} name no teacher, and distillation: {self.distillation} needs one",
                "Write teacher: {model: MODEL} there, or distillation: none.",
            )
        if self.distillation is Distillation.MUTUAL and self.teacher is not None and self.teacher.file:
            raise UsageError(
                f"file in {_TEACHER} is {self.teacher.file!r}, but distillation: mutual trains both networks",
                "Leave file out.",
            )

    def _check_iterations(self) -> None:
        if isinstance(self.data, SyntheticSettings):
            return
        for where, value in (
            (WHERE, self.iterations_per_epoch),
            (_TEACHER, self.teacher and self.teacher.iterations_per_epoch),
        ):
            if value is not None:
                raise UsageError(
                    f"iterations_per_epoch in {where} is {value}, and the data are images",
                    "Leave it out: an epoch passes over all training images. It belongs to the synthetic set.",
                )


def _check_training(settings: KdSettings | TeacherSettings, where: str) -> None:
    """Check the values that students and teachers have in common, and make their rates floats."""
    for name in ("epochs", "batch_size"):
        check_whole(name, getattr(settings, name), where)
    if settings.iterations_per_epoch is not None:
        check_whole("iterations_per_epoch", settings.iterations_per_epoch, where)
    for name in ("learning_rate", "momentum", "weight_decay"):
        _check_float(settings, name, PARAMETERS[name], where)


def _check_float(settings: KdSettings | TeacherSettings, name: str, interval: Interval, where: str) -> None:
    """Check a number and keep it as a float, so that 1 and 1.0 are the same settings in every form."""
    check_number(name, getattr(settings, name), interval, where)
    object.__setattr__(settings, name, float(getattr(settings, name)))


def _check_model(key: str, model: object, where: str) -> None:
    """Refuse a name that no model has; whether a known one fits the data is seen when these are known."""
    if not isinstance(model, str):
        raise UsageError(f"{key} in {where} is {model!r}", "It must be the name of a model.")
    try:
        architecture(model, channels=1, classes=1)
    except UnknownNameError as error:
        raise UnknownNameError(error.kind, error.name, error.known, where) from None
    except UsageError:  # a model that needs to know the images' size, whose name is right
        return


def _read_data(data: object) -> DataSettings | SyntheticSettings:
    name = data.get("name") if isinstance(data, Mapping) else data
    if name == SYNTHETIC:
        return SyntheticSettings.from_mapping(data if isinstance(data, Mapping) else {})
    try:
        return read_data(data)
    except UnknownNameError as error:
        known = (*error.known, SYNTHETIC) if error.kind == "data set" else error.known
        raise UnknownNameError(error.kind, error.name, known, error.where) from None
