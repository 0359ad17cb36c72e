"""What a sweep is, told by its settings; without arrays and frames, so that asking costs no time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BBM = "bbm"  # the trainable, and one of its methods
RETRAIN = "retrain"  # the searcher
CONFIRMATION = "confirmation"  # the design of trials that train a search's best configuration anew
COMPARISONS = ("comparison", "named")  # the searchers whose trials stand for methods


def is_retraining(settings: Mapping[str, Any]) -> bool:
    """Whether a sweep's settings are those of a retraining."""
    searcher = settings.get("searcher")
    return isinstance(searcher, Mapping) and searcher.get("kind") == RETRAIN


def is_study(trainable: str) -> bool:
    """Whether trials of this kind have scores of a challenge, not an accuracy."""
    return trainable == BBM


def planned_runs(settings: Mapping[str, Any]) -> int | None:
    """Runs of each method that a sweep's settings ask for; None if it compares no methods."""
    searcher = settings.get("searcher") or {}
    return searcher.get("runs") if searcher.get("kind") in COMPARISONS else None
