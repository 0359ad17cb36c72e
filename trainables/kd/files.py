"""Checkpoints of students between two epochs, and the teacher's logits beside its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from kdsearch.trainables.networks.architectures import Architecture
from kdsearch.trainables.networks.checkpoints import plain_network, read_checkpoint, read_network
from kdsearch.trainables.networks.files import FileError, read_tensors, write_tensors
from kdsearch.trainables.networks.stack import NodeState

CHECKPOINT_FORMAT: Final = "kdsearch kd checkpoint 1"
LOGITS_FORMAT: Final = "kdsearch teacher logits 1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One student between two epochs.

    identity: what the trial must have in common with the one that goes on (settings, configuration, seed, plan).
    path: the state of the metaparameters' optimiser, as `PathState.to_plain` gives it, or None.
    """

    identity: Mapping[str, Any]
    epoch: int  # epochs done
    student: NodeState
    path: Mapping[str, Any] | None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write one student.

    Raises:
        FileError: the file cannot be written.

    """
    content = {
        "format": CHECKPOINT_FORMAT,
        "identity": dict(checkpoint.identity),
        "epoch": checkpoint.epoch,
        **plain_network(checkpoint.student),
        "path": None if checkpoint.path is None else dict(checkpoint.path),
    }
    write_tensors(path, content)


def load_checkpoint(path: Path, identity: Mapping[str, Any], architecture: Architecture) -> Checkpoint:
    """Read the student of this identity and architecture.

    Raises:
        FileError: there is no such file, it is no checkpoint, or it is another trial's; the message names the file
            and says what does not fit.

    """
    content = read_checkpoint(path, CHECKPOINT_FORMAT, identity)
    student = read_network(path, "the student", content, architecture)
    return Checkpoint(identity=identity, epoch=content["epoch"], student=student, path=content.get("path"))


def logits_path(weights: Path, asked: Mapping[str, Any]) -> Path:
    """Where a teacher's logits of certain objects are kept: beside its weights."""
    text = json.dumps(asked, sort_keys=True, default=str)
    return weights.with_name(f"{weights.stem}.logits-{hashlib.sha256(text.encode()).hexdigest()[:16]}.pt")


def keep_logits(weights: Path, asked: Mapping[str, Any], logits: Tensor) -> None:
    """Keep the logits for other trials; where they cannot be written, they are computed again."""
    content = {"format": LOGITS_FORMAT, "weights": _digest(weights), "logits": logits.cpu()}
    with suppress(FileError):
        write_tensors(logits_path(weights, asked), content)


def kept_logits(weights: Path, asked: Mapping[str, Any], shape: tuple[int, int]) -> Tensor | None:
    """Return kept logits [n, classes] if they are whole, of this shape and of these very weights."""
    path = logits_path(weights, asked)
    if not path.exists():
        return None
    try:
        content = read_tensors(path, LOGITS_FORMAT, "a teacher's logits")
    except FileError:
        return None
    logits = content.get("logits")
    if not isinstance(logits, Tensor) or tuple(logits.shape) != shape:
        return None
    return logits if content.get("weights") == _digest(weights) else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
