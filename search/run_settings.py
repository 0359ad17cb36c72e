"""The section `run` of sweep files: what a pack takes, how many run, and what becomes of those that fail."""

from __future__ import annotations

from math import inf
from typing import Literal

from pydantic import Field, field_validator

from kdsearch.search.searcher_settings import Section

_OWN_KEYS = {"CPU": "run.cpus", "GPU": "run.gpus", "object_store_memory": "none: packs take none of it"}


class RunSettings(Section):
    """Where and how trials run."""

    pack: int = Field(16, ge=1, le=1024, description="most trials of one shape that share a program")
    max_concurrent: int | None = Field(None, ge=1, description="packs at a time; default: what fits")
    cpus: float = Field(1.0, gt=0, description="CPU cores of one pack")
    gpus: float | Literal["auto"] = Field(
        0.0, description="GPUs of one pack; fractions share a GPU; auto: one where there are any"
    )
    resources: dict[str, float] = Field(
        default_factory=dict,
        description="what a pack takes beside cores and GPUs: memory in bytes, accelerator_type:..., "
        "node:..., or a name that nodes were given",
    )
    attempts: int = Field(3, ge=1, description="tries of a trial before it is marked failed")
    backoff_s: float = Field(
        5.0, ge=0, le=600, description="seconds before a trial that failed is tried again; doubled each time"
    )
    epoch_limit_s: float | None = Field(
        None, gt=0, description="seconds that a pack may take for an epoch; then it is taken to hang"
    )
    memory_limit_gb: float | None = Field(
        None, gt=0, description="memory that a pack's process may take (10**9 bytes); then it is ended"
    )
    checkpoint_every: int = Field(0, ge=0, description="epochs between checkpoints; 0: none")

    @field_validator("gpus")
    @classmethod
    def _whole_or_fraction(cls, gpus: float | Literal["auto"]) -> float | Literal["auto"]:
        if gpus == "auto":
            return gpus
        if gpus < 0:
            raise ValueError("GPUs cannot be negative")
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("more than one GPU must be a whole number")
        return gpus

    @field_validator("resources")
    @classmethod
    def _more_than_none(cls, resources: dict[str, float]) -> dict[str, float]:
        for name, amount in resources.items():
            if name in _OWN_KEYS:
                raise ValueError(f"{name} has a key of its own: {_OWN_KEYS[name]}")
            if not 0 < amount < inf:
                raise ValueError(f"{name} must be above 0")
        return resources
