"""Checkpoints: one trial between two epochs, to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kdsearch.trainables.networks.architectures import Architecture, Role
from kdsearch.trainables.networks.files import FileError, check_tensors, on_cpu, read_tensors, write_tensors
from kdsearch.trainables.networks.stack import NodeState

CHECKPOINT_FORMAT: Final = "kdsearch ktg checkpoint 1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One trial between two epochs.

    identity: what the trial must have in common with the one that goes on (settings, configuration, seed, and the
    optimiser of learned gates). weights: where learned gates stand, as `PathState.to_plain` gives it; None without any.
    """

    identity: Mapping[str, Any]
    epoch: int  # epochs done
    nodes: Mapping[int, NodeState]
    weights: Mapping[str, Any] | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write one trial.

    Raises:
        FileError: the file cannot be written.

    """
    nodes = {
        node: {"tensors": on_cpu(state.tensors), "momentum": on_cpu(state.momentum)}
        for node, state in checkpoint.nodes.items()
    }
    content = {"identity": dict(checkpoint.identity), "epoch": checkpoint.epoch, "nodes": nodes}
    if checkpoint.weights is not None:
        content["weights"] = dict(checkpoint.weights)
    write_tensors(path, {"format": CHECKPOINT_FORMAT, **content})


def load_checkpoint(
    path: Path, identity: Mapping[str, Any], architectures: Mapping[int, Architecture]
) -> Checkpoint:
    """Read the trial of this identity, whose nodes have these architectures.

    Raises:
        FileError: there is no such file, it is no checkpoint, or it is another trial's; the message names the file
            and says what does not fit.

    """
    content = read_tensors(path, CHECKPOINT_FORMAT, "a checkpoint")
    for what, expected in identity.items():
        found = content["identity"].get(what)
        if found != expected:
            raise FileError(f"{path} is another trial's checkpoint: its {what}: {found!r}, not {expected!r}")
    nodes = {node: NodeState(each["tensors"], each["momentum"]) for node, each in content["nodes"].items()}
    if set(nodes) != set(architectures):
        raise FileError(f"{path} holds nodes {sorted(nodes)}, not {sorted(architectures)}")
    for node, state in nodes.items():
        specs = architectures[node].tensors
        check_tensors(path, f"node {node}", state.tensors, specs)
        if state.momentum:
            trained = [spec for spec in specs if spec.role is Role.PARAMETER]
            check_tensors(path, f"node {node}'s momentum", state.momentum, trained)
    weights = content.get("weights")
    return Checkpoint(identity=identity, epoch=content["epoch"], nodes=nodes, weights=weights)
