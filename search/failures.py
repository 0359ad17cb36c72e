"""What can befall a pack while it runs, as the driver is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """What ended a pack before its time."""

    ERROR = "error"  # the trainable raised
    WORKER = "worker"  # its process ended: a signal, a crash in native code, the system's memory killer
    LIMIT = "limit"  # it took too long for an epoch, or too much memory, and its process was ended for that
    STORAGE = (
        "storage"  # a checkpoint, weights or an output could not be fetched or written: no trial's fault
    )
    NODE = "node"  # its node is gone, was never fit for the pack, or cannot be placed: no trial's fault


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a pack runs."""

    host: str
    node: str  # Ray's name of the node; nodes of one host can differ


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a pack came to no end, in words with its traceback if it has one."""

    reason: str
    cause: Cause = Cause.ERROR
