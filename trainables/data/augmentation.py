"""Augmentation of training images as a value; `batches` carries it out.

Refining Design Spaces in Knowledge Distillation, Section IV: reflection padding of 4 pixels, random crop and
random horizontal flip on CIFAR, CINIC-10 and Tiny-ImageNet. Validation and test images are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PadMode(StrEnum):
    """What stands beyond the border of an image."""

    REFLECT = "reflect"  # the image mirrored at its border pixels, which are not repeated
    ZERO = "zero"


@dataclass(frozen=True)
class Augmentation:
    """Pad each side by `pad` pixels, crop back at a random place, mirror left to right every second time.

    Every shift in the closed interval [-pad, pad] is equally likely, in rows and in columns.
    """

    pad: int = 0
    mode: PadMode = PadMode.REFLECT
    flip: bool = False

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"padding must be 0 or more pixels, not {self.pad}")

    @property
    def shifts(self) -> int:
        """Number of shifts along one axis."""
        return 2 * self.pad + 1

    @property
    def variants(self) -> int:
        """Number of equally likely forms of one image."""
        return self.shifts**2 * (2 if self.flip else 1)

    def decode(self, variant: int) -> tuple[int, int, bool]:
        """Return (top, left, flipped) of a variant in [0, variants).

        The crop starts at row `top` and column `left` of the padded image, each in [0, 2 pad]; the flip comes
        last.
        """
        rest, left = divmod(variant, self.shifts)
        flipped, top = divmod(rest, self.shifts)
        return top, left, bool(flipped)


NO_AUGMENTATION = Augmentation()
PAPER_AUGMENTATION = Augmentation(pad=4, mode=PadMode.REFLECT, flip=True)
