"""How alike the answers of two networks are: r^2 of their probabilities, streamed over batches.

Source: Lee, Jo and Kwon (2022), Table 1 ("r-square value"), read as the squared Pearson correlation: it does not ask
that one network's probabilities be the other's, only that they rise and fall together, and it is the same from either
side. All answers are one sample: every (record, class) of ECGs, or every real hour of all patients. With many classes
a part of the correlation is therefore that both networks know which classes are common.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from kdsearch.trainables.similarity.moments import CrossMoments, is_constant, is_finite

_FEWEST: Final = 3  # two points always lie on a line


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well one network's answers follow another's."""

    r2: float  # squared Pearson correlation in [0, 1]; NaN where it is not defined
    count: int  # answers that were compared
    reason: str | None = None  # why r2 is NaN


class OutputAgreement:
    """Takes in two networks' answers to the same questions, batch by batch."""

    def __init__(self) -> None:
        self._both, self._first, self._second = CrossMoments(), CrossMoments(), CrossMoments()

    def add(
        self, first: Tensor | ArrayLike, second: Tensor | ArrayLike, real: Tensor | ArrayLike | None = None
    ) -> None:
        """Take in the answers to some more questions.

        first, second: probabilities of one shape, [B, C] or [B, T, C] or any other. real: bool, False where an answer
        is to padding; of the leading dimensions' shape, [B, T]. Values are kept in float64 sums alone.

        Raises:
            ValueError: the shapes do not fit together.

        """
        answers = [_values(a) for a in (first, second)]
        if answers[0].shape != answers[1].shape:
            raise ValueError(f"answers of shapes {tuple(answers[0].shape)} and {tuple(answers[1].shape)}")
        if real is not None:
            mask = torch.as_tensor(real).to(answers[0].device)
            if mask.shape != answers[0].shape[: mask.dim()]:
                raise ValueError(
                    f"answers of shape {tuple(answers[0].shape)} and a mask of {tuple(mask.shape)}"
                )
            answers = [a[mask] for a in answers]
        one, other = (a.reshape(-1, 1) for a in answers)
        self._both.add(one, other)
        self._first.add(one, one)
        self._second.add(other, other)

    def result(self) -> Agreement:
        """Return r^2 of all that was added, or NaN with the reason.

        It is not defined for fewer than three answers, where an answer is not finite, and where one network answers
        the same to everything.
        """
        count = self._both.rows
        if count < _FEWEST:
            return _undefined(count, f"{count} answers are too few")
        for name, moments in (("first", self._first), ("second", self._second)):
            if not is_finite(moments):
                return _undefined(count, f"an answer of the {name} network is not finite")
            if is_constant(moments):
                return _undefined(count, f"the {name} network answers the same to everything")
        both, first, second = (float(m.products) for m in (self._both, self._first, self._second))
        return Agreement(r2=min(both / first * (both / second), 1.0), count=count)


def _values(answers: Tensor | ArrayLike) -> Tensor:
    return torch.as_tensor(answers).detach().to(torch.float64)


def _undefined(count: int, reason: str) -> Agreement:
    return Agreement(r2=math.nan, count=count, reason=reason)
