"""How scores and methods read in a report on block-by-block matching. Scores are fractions, with three decimals."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from kdsearch.analysis import wording
from kdsearch.analysis.bbm_methods import Mean
from kdsearch.analysis.bbm_scores import DEIT
from kdsearch.analysis.sweep_kinds import BBM
from kdsearch.analysis.wording import NONE

_SHOWN = {DEIT: "DeiT", BBM: "BBM"}
_FIRST = re.compile(r"\w+")
_DECIMALS = 3


def score(value: float | None, digits: int = _DECIMALS) -> str:
    """`0.612`, with a real minus; a dash for nothing."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed_score(value: float | None, digits: int = _DECIMALS) -> str:
    """`+0.052`."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def score_interval(low: float | None, high: float | None, digits: int = _DECIMALS) -> str:
    """`[0.602, 0.622]`; nothing where there is none."""
    return "" if low is None or high is None else f"[{score(low, digits)}, {score(high, digits)}]"


def method(name: str) -> str:
    """A method as people write it: `deit` is DeiT, `bbm` is BBM, also as the first word of a longer name."""
    first = _FIRST.match(name)
    return name if first is None else _SHOWN.get(first[0], first[0]) + name[first.end() :]


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`; with semicolons where a name has a comma of its own."""
    return "; ".join(parts) if any("," in part for part in parts) else wording.listed(list(parts))


def epochs(ends: tuple[int, int] | None) -> str:
    """`100`, or `40 to 100` where runs differ."""
    if ends is None:
        return NONE
    return f"{ends[0]:,}" if ends[0] == ends[1] else f"{ends[0]:,} to {ends[1]:,}"


def with_spread(mean: Mean, digits: int = _DECIMALS) -> str:
    """`0.612 (standard deviation 0.004)`."""
    told = score(mean.mean, digits)
    return told if mean.spread is None else f"{told} (standard deviation {score(mean.spread, digits)})"
