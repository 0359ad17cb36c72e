"""From settings and members to a pack: of students, of teachers to be trained, or of a mutual-learning graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from kdsearch.trainables.data.loading import load_images
from kdsearch.trainables.data.splits import DataSettings
from kdsearch.trainables.given_files import given_file
from kdsearch.trainables.kd.kind import TEACHER, student_architecture, teacher_architecture
from kdsearch.trainables.kd.objective import Objective
from kdsearch.trainables.kd.pack import KdPack
from kdsearch.trainables.kd.parts import load_parts
from kdsearch.trainables.kd.settings import Distillation, KdSettings
from kdsearch.trainables.kd.teacher import Teacher
from kdsearch.trainables.ktg.pack import KtgPack
from kdsearch.trainables.ktg.pack_data import PackData
from kdsearch.trainables.ktg.settings import KtgSettings
from kdsearch.trainables.networks.files import FileError
from kdsearch.trainables.protocol import Member, Pack

_MUTUAL = {"label->1": "through", "2->1": "through", "label->2": "through", "1->2": "through"}


def make_pack(
    settings: KdSettings, members: Sequence[Member], *, data_root: Path | None, device: str
) -> Pack:
    """Build the pack that these members ask for; they have their shape and plan in common."""
    first = members[0]
    teaching = TEACHER in first.configuration
    if settings.distillation is Distillation.MUTUAL and not teaching:
        return _mutual(settings, members, data_root=data_root, device=device)
    if teaching:
        settings = settings.for_teacher()
        members = [replace(member, configuration={}) for member in members]
    place = torch.device(device)
    dtype = Objective(settings, place).dtype
    plans = [member.plan for member in members]
    parts = load_parts(settings, plans, data_root=data_root, device=place, dtype=dtype, teacher=teaching)
    if teaching:
        architecture = student_architecture(settings, parts.shape, parts.classes)
        return KdPack(settings, members, parts, architecture, None, device=place)
    teacher = None
    if settings.distillation.taught:
        teacher = Teacher(
            _weights(settings, first, data_root),
            teacher_architecture(settings, parts.teacher_shape, parts.classes),
            parts,
            batch_size=settings.eval_batch_size,
            device=place,
            dtype=dtype,
        )
    architecture = student_architecture(settings, parts.shape, parts.classes)
    return KdPack(settings, members, parts, architecture, teacher, device=place)


def _weights(settings: KdSettings, member: Member, data_root: Path | None) -> Path:
    if settings.teacher is not None and settings.teacher.file is not None:
        return given_file(settings.teacher.file, data_root)
    path = member.inputs.get(f"teacher:{settings.peer}")
    if path is None:
        raise FileError(
            f"trial {member.number}: no weights are given for its teacher {settings.peer}",
            "Give them as the input 'teacher:<model>', or in the settings as teacher: {file: PATH}.",
        )
    return path


def _mutual(
    settings: KdSettings, members: Sequence[Member], *, data_root: Path | None, device: str
) -> KtgPack:
    """Deep mutual learning: the graph of two nodes all of whose gates are through, trained by the KTG engine."""
    if not isinstance(settings.data, DataSettings):
        raise TypeError(settings.data)  # the kind has refused it
    own = members[0].configuration
    ktg = KtgSettings(
        data=settings.data,
        target=settings.student,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.own("learning_rate", own),
        momentum=settings.own("momentum", own),
        weight_decay=settings.own("weight_decay", own),
        temperature=settings.values_of(own)[1],
        precision=settings.precision,
        eval_batch_size=settings.eval_batch_size,
        stem_stride=settings.stem_stride,
        schedule=settings.schedule,
    )
    graph: Mapping[str, str] = {"model.2": settings.peer, **_MUTUAL}
    nodes = [replace(member, configuration=graph) for member in members]
    data = PackData.load(ktg, load_images(settings.data.name, data_root), device, members[0].plan)
    return KtgPack(ktg, nodes, data, device=device)
