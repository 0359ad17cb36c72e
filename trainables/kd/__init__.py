"""Knowledge distillation as a trainable: a student learns from the label and from a teacher."""

from kdsearch.trainables.kd.kind import KdKind
from kdsearch.trainables.kd.settings import Distillation, KdSettings

KIND = KdKind()

__all__ = ["KIND", "Distillation", "KdKind", "KdSettings"]
