"""What a trial's error is made of. No torch and no numpy here: settings are read where neither is needed."""

from __future__ import annotations

from enum import StrEnum


class Objective(StrEnum):
    """The score that a trial is judged by; all are fractions, and higher is better."""

    CHALLENGE = "challenge"  # the challenge's own: normalised utility (2019), challenge metric (2021)
    F1 = "f1"  # of all hours together (2019), mean over classes (2021)
    AUROC = "auroc"
    AUPRC = "auprc"
