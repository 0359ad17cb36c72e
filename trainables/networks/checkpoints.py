"""What the checkpoints of all trainables have in common: whose they are, and networks with their momentum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdsearch.trainables.networks.architectures import Architecture, Role
from kdsearch.trainables.networks.files import FileError, check_tensors, on_cpu, read_tensors
from kdsearch.trainables.networks.stack import NodeState


def read_checkpoint(path: Path, expected_format: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read the content of the checkpoint of this very trial, with a whole number `epoch`.

    Raises:
        FileError: there is no such file, it is no checkpoint, or it is another trial's.

    """
    content = read_tensors(path, expected_format, "a checkpoint")
    held = content.get("identity")
    if not isinstance(held, dict) or not isinstance(content.get("epoch"), int):
        raise FileError(
            f"{path} is not a checkpoint, or is damaged: it does not say whose it is, or of which epoch"
        )
    for what, expected in identity.items():
        found = held.get(what)
        if found != expected:
            raise FileError(f"{path} is another trial's checkpoint: its {what}: {found!r}, not {expected!r}")
    return content


def plain_network(state: NodeState) -> dict[str, dict[str, Any]]:
    """Return a network as a checkpoint holds it."""
    return {"tensors": on_cpu(state.tensors), "momentum": on_cpu(state.momentum)}


def read_network(path: Path, what: str, held: object, architecture: Architecture) -> NodeState:
    """Return the network that `plain_network` laid down.

    Raises:
        FileError: it is none, or of another architecture; `what` is named.

    """
    if not isinstance(held, dict):
        raise FileError(f"{path} does not fit: {what} is no network")
    tensors, momentum = held.get("tensors"), held.get("momentum")
    check_tensors(path, what, tensors, architecture.tensors)
    if momentum:  # a frozen network has none
        trained = [spec for spec in architecture.tensors if spec.role is Role.PARAMETER]
        check_tensors(path, f"{what}'s momentum", momentum, trained)
    return NodeState(tensors, momentum or {})  # type: ignore[arg-type]  # checked
