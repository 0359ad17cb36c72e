"""Knowledge transfer graphs as a trainable: K graphs of one shape train in one program (graphs are data, not code)."""

from kdsearch.trainables.ktg.kind import KtgKind
from kdsearch.trainables.ktg.settings import KtgSettings, Precision

KIND = KtgKind()

__all__ = ["KIND", "KtgKind", "KtgSettings", "Precision"]
