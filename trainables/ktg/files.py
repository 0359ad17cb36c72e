"""Checkpoints: one trial between two epochs, to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kdsearch.trainables.networks.architectures import Architecture
from kdsearch.trainables.networks.checkpoints import plain_network, read_checkpoint, read_network
from kdsearch.trainables.networks.files import FileError, write_tensors
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
    nodes = {node: plain_network(state) for node, state in checkpoint.nodes.items()}
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
    content = read_checkpoint(path, CHECKPOINT_FORMAT, identity)
    held = content.get("nodes")
    if not isinstance(held, dict) or set(held) != set(architectures):
        found = sorted(held) if isinstance(held, dict) else held
        raise FileError(f"{path} holds nodes {found}, not {sorted(architectures)}")
    nodes = {
        node: read_network(path, f"node {node}", each, architectures[node]) for node, each in held.items()
    }
    weights = content.get("weights")
    return Checkpoint(identity=identity, epoch=content["epoch"], nodes=nodes, weights=weights)
