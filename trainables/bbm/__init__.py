"""Block-by-block matching (BBM), and the methods it is compared with: teacher, transformer from scratch, DeiT.

Source: Lee, Jo and Kwon, "On the inductive bias transfer with knowledge distillation for real-world data" (2022).
"""

from kdsearch.trainables.bbm.kind import BbmKind

KIND = BbmKind()

__all__ = ["KIND", "BbmKind"]
