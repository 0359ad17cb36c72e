"""Dividing alpha among the steps of a refinement and the looks at each step.

A test at a fixed level that is repeated as the sample grows rejects far too often: with five looks, a single
true null hypothesis is rejected 14 per cent of the time at a nominal 5 (Armitage, McPherson & Rowe 1969).
Here alpha is first divided evenly among at most S steps (A -> B -> C -> X) and then spent over at most L
looks at each step, look l at a fraction l / L of the step's draws having used alpha_step (l / L)^rho (Kim &
DeMets 1987). Each look is tested, after Holm, at what it adds. By Bonferroni's inequality the chance of any
wrong decision in the whole refinement is at most alpha, however the looks depend on one another and whether
or not the refinement stops early. It needs no group sequential boundaries, and pays with some power.

Simulated with no true difference anywhere, 14 conditions in four groups, each compared with the rest by
`condition_table`, 40 more draws at each look, 8 per cent of the trials diverging: share of 400 refinements
that decide anything, with its 95 per cent interval (`test_stat_sequential.py` repeats a smaller one).

===========================  =======================  =====================
alpha = 5 per cent           at every look            divided by this plan
===========================  =======================  =====================
1 step,  1 look               4.0 (2.3 to 6.4)        the same
1 step,  5 looks             13.3 (10.1 to 17.0)      3.0 (1.6 to 5.2)
3 steps, 5 looks each        36.8 (32.0 to 41.7)      2.0 (0.9 to 3.9)
3 steps, 5 looks, rho = 2    -                        3.0 (1.6 to 5.2)
===========================  =======================  =====================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kdsearch.analysis.samples import StatisticsError


@dataclass(frozen=True, kw_only=True)
class AlphaPlan:
    """The level of every test of a refinement, fixed before the first draw.

    rho = 1 gives every look the same level; rho = 2 or 3 saves alpha for the later, larger samples.
    """

    alpha: float = 0.05  # chance of any wrong decision in the whole refinement
    steps: int = 1  # decisions at most, S
    looks: int = 1  # looks at most in each step, L
    rho: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and self.steps >= 1 and self.looks >= 1 and self.rho > 0):
            raise StatisticsError(
                f"alpha {self.alpha:g} cannot be divided among {self.steps} steps of {self.looks} looks, "
                f"rho = {self.rho:g}",
                "alpha must lie in (0, 1), steps and looks must be at least 1, rho above 0.",
            )

    @property
    def per_step(self) -> float:
        """Level of one step: Bonferroni among steps."""
        return self.alpha / self.steps

    def level(self, look: int) -> float:
        """Return the level at which look 1, 2, ..., L of any step is tested after Holm.

        Raises StatisticsError beyond the last look: what is planned is spent.
        """
        if not 1 <= look <= self.looks:
            raise StatisticsError(
                f"look {look} was not planned: there are {self.looks}",
                "Alpha for these looks is spent; a further look needs a new plan and fresh draws.",
            )
        return self.per_step * (self._spent(look) - self._spent(look - 1))

    def _spent(self, looks: int) -> float:
        return math.exp(self.rho * math.log(looks / self.looks)) if looks else 0.0

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of all looks of a step; they sum to `per_step`."""
        return tuple(self.level(look) for look in range(1, self.looks + 1))
