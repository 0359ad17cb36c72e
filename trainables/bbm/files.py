"""Checkpoints and weights of networks over time: what a file says of itself, and whether it fits."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm.settings import BbmSettings
from kdsearch.trainables.given_files import given_file
from kdsearch.trainables.networks.checkpoints import read_checkpoint
from kdsearch.trainables.networks.files import FileError, on_cpu, read_tensors, write_tensors
from kdsearch.trainables.series.build import build_network
from kdsearch.trainables.series.networks import SeriesNetwork
from kdsearch.trainables.series.specs import NetworkSpec

CHECKPOINT_FORMAT: Final = "kdsearch bbm checkpoint 1"
WEIGHTS_FORMAT: Final = "kdsearch series weights 1"


def save_checkpoint(path: Path, identity: Mapping[str, Any], epoch: int, state: Mapping[str, Any]) -> None:
    """Write a trial between two epochs. Raises `FileError`."""
    content = {"format": CHECKPOINT_FORMAT, "identity": dict(identity), "epoch": epoch, "state": dict(state)}
    write_tensors(path, content)


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Return (epochs done, state) of this very trial. Raises `FileError`."""
    content = read_checkpoint(path, CHECKPOINT_FORMAT, identity)
    state = content.get("state")
    if not isinstance(state, dict):
        raise FileError(f"{path} is not a checkpoint, or is damaged: it holds no state")
    return content["epoch"], state


def save_weights(path: Path, built: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a network; built: as `description` gives it. Raises `FileError`."""
    write_tensors(path, {"format": WEIGHTS_FORMAT, "built": dict(built), "tensors": on_cpu(tensors)})


def description(settings: BbmSettings, network: NetworkSpec, *, distillation: bool) -> dict[str, Any]:
    """Return what a network was built with, but for its dropout, which no weight depends on."""
    own = {name: value for name, value in network.to_mapping().items() if name != "dropout"}
    data = settings.data
    return {
        **own,
        "inputs": data.inputs,
        "outputs": data.outputs,
        "steps": data.steps,
        "rate_hz": None if data.per_step else data.rate_hz,
        "per_step": data.per_step,
        "distillation": distillation,
    }


def load_teacher(settings: BbmSettings, path: Path) -> SeriesNetwork:
    """Return the teacher of these settings, with the weights of a file.

    Raises:
        FileError: there is no such file, or it holds another network; the message says what does not fit.

    """
    spec, data = settings.teacher_network, settings.data
    content = read_tensors(path, WEIGHTS_FORMAT, "a weight file of a network over time")
    held = content.get("built")
    if not isinstance(held, dict):
        raise FileError(f"{path} is damaged: it does not say what it was built with")
    for name, expected in description(settings, spec, distillation=False).items():
        if held.get(name) != expected:
            raise FileError(
                f"{path} does not fit: it was built with {name} {held.get(name)!r}, not {expected!r}"
            )
    network = build_network(
        spec,
        inputs=data.inputs,
        outputs=data.outputs,
        steps=data.steps,
        per_step=data.per_step,
        distillation=False,
        generator=torch.Generator().manual_seed(0),
    )
    try:
        network.load_state_dict(content["tensors"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise FileError(f"{path} does not fit: {str(error).splitlines()[0]}") from None
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise FileError(f"{path} does not fit: it holds numbers that are not finite")
    return network


def check_teacher(settings: BbmSettings, data_root: Path | None) -> str:
    """Refuse a given teacher that does not fit, and say where it came from.

    Raises:
        UsageError: the file is not there, or does not fit.

    """
    if settings.teacher is None or settings.teacher.file is None:
        raise UsageError("no teacher's file is given")
    path = given_file(settings.teacher.file, data_root)
    try:
        load_teacher(settings, path)
    except FileError as error:
        raise UsageError(error.message, error.hint) from None
    digest = sha256(path.read_bytes()).hexdigest()[:16]
    return (
        f"The teacher's weights came from a file ({path.name}, SHA-256 {digest}...): which records trained it, and "
        "whether the students' validation and test records are among them, is not known."
    )
