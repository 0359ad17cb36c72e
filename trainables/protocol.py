"""What the runner hosts: a pack of trials of one shape that advance epoch by epoch.

A Ray Tune trial hosts one pack. The runner knows nothing of what a member trains; it builds a pack from members,
calls `run_epoch` until the pack is done, drops members that a scheduler stopped, and saves members one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces import DesignSpace
from kdsearch.trainables.metaparameters.declaration import Metaparameter

Configuration = Mapping[str, str | int | float | bool]


class MemberState(StrEnum):
    """Where a member of a pack stands after an epoch."""

    RUNNING = "running"
    COMPLETE = "complete"
    DIVERGED = "diverged"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One trial as a pack sees it."""

    number: int  # the trial's number in its sweep; unique in a pack
    seed: int  # in [0, 2**63)
    configuration: Configuration
    checkpoint: Path | None = None  # resume from this file, written by `Pack.save`
    # role -> weight file: KTG's frozen teachers are named "teacher:<model>"
    inputs: Mapping[str, Path] = field(default_factory=dict)
    # what the searcher tells the trial beside its configuration (`Plan`'s keys); plain data
    plan: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one member did in one epoch.

    `metrics` holds finite and non-finite floats by name; names that belong to a node start with `<node>/`.
    A member that is COMPLETE or DIVERGED has left the pack.
    """

    number: int
    epoch: int  # counts from 1
    state: MemberState
    metrics: Mapping[str, float]
    message: str = ""
    # small tables of numbers for the record, by name: float32, a few hundred kilobytes at most
    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """A model that trials of a sweep need as an input, to be trained once before them.

    defined_by: plain data; two sweeps with equal values (and seed and data) share one training.
    """

    model: str  # trials name it in `TrainableKind.inputs`
    configuration: Configuration  # of the trial that trains it
    defined_by: Mapping[str, Any]


class Pack(Protocol):
    """Trials of one shape, trained side by side; nothing of one member may reach another."""

    @property
    def active(self) -> tuple[int, ...]:
        """Numbers of the members that still train, in the order they were given."""

    def run_epoch(self) -> Sequence[EpochReport]:
        """Train and evaluate every active member for one epoch; one report each."""

    def drop(self, number: int) -> None:
        """Take a member out; its slot is freed before the next epoch."""

    def save(self, number: int, path: Path) -> None:
        """Write all that `Member.checkpoint` needs to go on from here, atomically (temporary file, then rename)."""

    def save_output(self, number: int, path: Path) -> None:
        """Write what other trials can take as an input (for KTG: the target node's weights), atomically."""


class TrainableKind(Protocol):
    """What the registry holds for each kind of trainable. Importing a kind must not import torch."""

    name: str

    def check(self, settings: Mapping[str, object], models: Sequence[str]) -> None:
        """Refuse settings and model names that no trial could run with (UsageError or UnknownNameError)."""

    def check_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """Refuse data that is missing or broken, before any trial starts; return what a reader must know of it."""

    def find_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """Refuse data that is not there, as `check_data` does, but write nothing and prepare nothing for it."""

    def content(self, settings: Mapping[str, object], data_root: Path | None) -> str:
        """Return a digest of the data: what was trained on other data is never taken for the same."""

    def check_space(self, settings: Mapping[str, object], space: DesignSpace) -> None:
        """Refuse a space with parameters that the trainable does not know, or values that it cannot take."""

    def check_plan(self, settings: Mapping[str, object], plan: Mapping[str, Any]) -> None:
        """Refuse a plan that no trial of these settings could carry out."""

    def metaparameters(
        self, settings: Mapping[str, object], configuration: Configuration
    ) -> Sequence[Metaparameter]:
        """Parameters of the configuration that the loss can be differentiated by; none if there are none."""

    def pretraining(self, settings: Mapping[str, object], models: Sequence[str]) -> Sequence[Pretraining]:
        """Trainings that come before all trials; `models` are the architectures that the space can ask for."""

    def inputs(self, settings: Mapping[str, object], configuration: Configuration) -> Sequence[str]:
        """Architectures whose pre-trained weights a trial needs (its frozen teachers), each once."""

    def shape(self, settings: Mapping[str, object], configuration: Configuration) -> str:
        """Trials with equal shapes may share a pack, if they have equal plans but for runs, starts and bounds."""

    def make_pack(
        self,
        settings: Mapping[str, object],
        members: Sequence[Member],
        *,
        data_root: Path | None,
        device: str,
    ) -> Pack:
        """Build the pack; imports torch."""
