"""From settings and members to a pack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from kdsearch.trainables.bbm.files import load_teacher
from kdsearch.trainables.bbm.learner import frozen
from kdsearch.trainables.bbm.pack import BbmPack
from kdsearch.trainables.bbm.parts import load_elsewhere, load_records
from kdsearch.trainables.bbm.settings import BbmSettings
from kdsearch.trainables.given_files import given_file
from kdsearch.trainables.protocol import Member, Pack


def make_pack(
    settings: BbmSettings, members: Sequence[Member], *, data_root: Path | None, device: str
) -> Pack:
    """Build the pack; its members share the records and the teacher, and take turns."""
    place = torch.device(device)
    records = load_records(settings.data, data_root)
    path = _weights(settings, members, data_root)
    teacher = None if path is None else frozen(load_teacher(settings, path).to(place))
    evaluated = any(member.plan.get("evaluate") for member in members)
    elsewhere = load_elsewhere(settings.data, data_root).records if evaluated else None
    return BbmPack(settings, members, records, teacher, elsewhere=elsewhere, device=place)


def _weights(settings: BbmSettings, members: Sequence[Member], data_root: Path | None) -> Path | None:
    """Return where the teacher's weights are; None if no member was given any."""
    if settings.teacher is None:
        return None
    if settings.teacher.file is not None:
        return given_file(settings.teacher.file, data_root)
    role = f"teacher:{settings.teacher.network.network}"
    return next((member.inputs[role] for member in members if role in member.inputs), None)
