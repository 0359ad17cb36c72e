"""The registry's entry for knowledge distillation. No torch here until a pack is made, or a teacher's file checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from kdsearch.spaces import DesignSpace, Space
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.loading import load_images
from kdsearch.trainables.data.splits import DataSettings, make_split
from kdsearch.trainables.data.synthetic import CLASSES, FEATURES, Variant
from kdsearch.trainables.given_files import given_file
from kdsearch.trainables.kd.settings import Distillation, KdSettings, Sees
from kdsearch.trainables.ktg.gates import check_parts
from kdsearch.trainables.metaparameters.declaration import Metaparameter
from kdsearch.trainables.networks.architectures import Architecture
from kdsearch.trainables.protocol import Configuration, Member, Pack, Pretraining

ALL = "all"  # plan["train_on"]: training and validation part together
TEACHER = "teacher"  # in a configuration: the trial trains this model as a teacher


class KdKind:
    """A student that learns from the label and from a teacher."""

    name = "kd"

    def check(self, settings: Mapping[str, object], models: Sequence[str]) -> None:
        """Refuse settings and model names that no trial could run with.

        Raises:
            UnknownNameError: a key, model, data set or other name is unknown.
            UsageError: a value is outside its range.

        """
        del models
        read = KdSettings.from_mapping(settings)
        if read.distillation is Distillation.MUTUAL and not isinstance(read.data, DataSettings):
            raise UsageError(
                "deep mutual learning is for images", "Use distillation: soft on the synthetic set."
            )
        if isinstance(read.data, DataSettings) and read.data.purpose != "search":
            raise UsageError(
                "data.purpose is search in a sweep of the kind kd",
                "Leave data.purpose out: the last trial of every run is measured on the test part by itself.",
            )

    def check_space(self, settings: Mapping[str, object], space: DesignSpace) -> None:
        """Refuse graphs, parameters that are unknown, and ranges that the loss cannot take."""
        if not isinstance(space, Space):
            raise UsageError(
                "the trainable kd needs a space of kind parameters",
                "Graphs are trained by the trainable ktg.",
            )
        KdSettings.from_mapping(settings).check_space(space)

    def check_plan(self, settings: Mapping[str, object], plan: Mapping[str, Any]) -> None:
        """Refuse training on what the methods are measured by, and a mutual-learning search that sees the test part."""
        read = KdSettings.from_mapping(settings)
        if read.distillation is Distillation.MUTUAL:
            check_parts(plan)  # it is trained as a graph
        if plan.get("train_on") != ALL or isinstance(read.data, DataSettings):
            return
        if read.data.variant is Variant.PAPER:
            raise UsageError(
                "train_on: all would train on the test part: in the paper's variant it is the validation part",
                "Use train_on: training with the synthetic data.",
            )

    def metaparameters(
        self, settings: Mapping[str, object], configuration: Configuration
    ) -> Sequence[Metaparameter]:
        """lambda_1 and the temperature, where the loss has them."""
        del configuration
        return KdSettings.from_mapping(settings).metaparameters

    def pretraining(self, settings: Mapping[str, object], models: Sequence[str]) -> Sequence[Pretraining]:
        """The teacher, unless its weights are given or nothing learns from it."""
        del models
        read = KdSettings.from_mapping(settings)
        model = _trained_here(read)
        if model is None:
            return ()
        return (
            Pretraining(
                model=model,
                configuration={TEACHER: model},
                defined_by={"kind": self.name, **read.for_teacher().to_mapping()},
            ),
        )

    def check_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """Refuse data that is missing, broken or too small, images that a model cannot take, and an unfit teacher.

        Raises:
            KdsearchError: the message says what is wrong and where.

        """
        read = KdSettings.from_mapping(settings)
        notes: list[str] = []
        if not isinstance(read.data, DataSettings):
            notes += read.data.notes
            shape, classes = (FEATURES, 1, 1), CLASSES
        else:
            images = load_images(read.data.name, data_root)
            split = make_split(images, read.data)
            shape, classes = images.shape, images.classes
            trained = [("", read.batch_size)]
            if read.val_batch_size is not None and read.val_batch_size > len(split.eval_labels):
                raise UsageError(
                    f"a val_batch_size of {read.val_batch_size} does not fit {len(split.eval_labels):,} "
                    "validation images"
                )
            if _trained_here(read) is not None:
                trained.append(("teacher's ", read.for_teacher().batch_size))
            for whose, size in trained:
                if size > len(split.train_labels):
                    raise UsageError(
                        f"a {whose}batch_size of {size} does not fit {len(split.train_labels):,} training images"
                    )
            if images.is_sample:
                notes.append(f"The images of {images.name} are a made-up sample: the numbers are no results.")
        student_architecture(read, shape, classes)
        if read.teacher is not None and read.distillation.taught:
            teacher = teacher_architecture(read, shape, classes)
            if read.teacher.file is None and read.teacher.sees is Sees.ALL:
                notes.append("The teacher was trained on the students' validation part too, as in the paper.")
            if read.teacher.file is not None:
                notes.append(
                    _of_file(read, read.teacher.file, teacher, self.content(settings, data_root), data_root)
                )
        return notes

    def find_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """Refuse images that are missing or broken; to look at them writes nothing."""
        return self.check_data(settings, data_root)

    def content(self, settings: Mapping[str, object], data_root: Path | None) -> str:
        """Return the images' digest; the synthetic set follows from the settings."""
        data = KdSettings.from_mapping(settings).data
        return load_images(data.name, data_root).digest if isinstance(data, DataSettings) else ""

    def inputs(self, settings: Mapping[str, object], configuration: Configuration) -> Sequence[str]:
        """The teacher, for a student that learns from one that this sweep trains."""
        read = KdSettings.from_mapping(settings)
        model = _trained_here(read)
        return () if model is None or TEACHER in configuration else (model,)

    def shape(self, settings: Mapping[str, object], configuration: Configuration) -> str:
        """Students of the same settings share a pack, if they have equal values of what a pack has one of."""
        shared = ["momentum", "weight_decay", TEACHER]
        if KdSettings.from_mapping(settings).distillation is Distillation.MUTUAL:
            shared += ["learning_rate", "temperature"]
        own = {name: configuration[name] for name in shared if name in configuration}
        return json.dumps([own, dict(settings)], sort_keys=True, default=str)

    def make_pack(
        self,
        settings: Mapping[str, object],
        members: Sequence[Member],
        *,
        data_root: Path | None,
        device: str,
    ) -> Pack:
        """Load the data and the teacher (once a process) and build the pack.

        Raises:
            KdsearchError: bad settings, data that is missing or broken, a teacher or checkpoint that does not fit.

        """
        from kdsearch.trainables.kd.making import make_pack  # noqa: PLC0415 workers alone pay for torch

        return make_pack(KdSettings.from_mapping(settings), members, data_root=data_root, device=device)


def student_architecture(settings: KdSettings, shape: tuple[int, int, int], classes: int) -> Architecture:
    """Return the student for inputs [C, H, W]."""
    channels, rows, columns = shape
    outputs = settings.outputs(classes)
    return settings.architecture(settings.student, channels=channels, classes=outputs, size=(rows, columns))


def teacher_architecture(settings: KdSettings, shape: tuple[int, int, int], classes: int) -> Architecture:
    """Return the teacher for inputs [C, H, W]."""
    channels, rows, columns = shape
    return settings.architecture(settings.peer, channels=channels, classes=classes, size=(rows, columns))


def _of_file(
    settings: KdSettings, file: str, architecture: Architecture, content: str, data_root: Path | None
) -> str:
    """Refuse a given teacher that does not fit; say what is known of the images that trained it."""
    from kdsearch.trainables.kd.teacher import check_weights  # noqa: PLC0415 needs torch
    from kdsearch.trainables.networks.files import FileError  # noqa: PLC0415

    path = given_file(file, data_root)
    try:
        origin = check_weights(path, architecture)
    except FileError as error:
        raise UsageError(error.message, error.hint) from None
    digest = sha256(path.read_bytes()).hexdigest()[:16]
    named = f"The teacher's weights came from a file ({path.name}, SHA-256 {digest}...)"
    own = {"data": settings.to_mapping()["data"], "content": content, "all": False}
    if origin is None:
        return (
            f"{named}: which images trained it, and whether the students' validation images are among them, is not "
            "known."
        )
    if {name: origin.get(name) for name in own} == own:
        return f"{named}, and it was trained on the students' training images."
    if {name: origin.get(name) for name in own} == own | {"all": True}:
        return f"{named}, and it was trained on the students' validation images too."
    if origin.get("content") != content:
        return f"{named}, and it was trained on other data than the students'."
    return f"{named}, and it was trained on another split: the students' validation images may be among its images."


def _trained_here(settings: KdSettings) -> str | None:
    """Return the teacher's model if a sweep has to train it: something learns from it, and no file was given."""
    if not settings.distillation.taught or settings.teacher is None or settings.teacher.file is not None:
        return None
    return settings.teacher.model
