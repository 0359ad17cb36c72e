"""The searcher protocol: ask for trials, tell outcomes, and say what was decided.

    while requests := searcher.ask(n):     # new trials, or none while results are awaited
        ...                                # train them
        searcher.tell(number, outcome)     # in any order

A searcher owns the numbers of its trials: they begin at `first_number`, none is left out, and which trial has which
number depends on nothing but the settings and the outcomes told, never on their order. It can therefore be rebuilt by
asking again and telling it what the trial database holds: the same numbers come with the same configurations.

What a searcher draws and decides is handed over by `drain` as records, in order; the runner writes them down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kdsearch.spaces import DesignSpace, Value


@dataclass(frozen=True, kw_only=True)
class Request:
    """A trial that a searcher wants."""

    number: int
    configuration: Mapping[str, Value]  # canonical under the symmetry of the space
    orbit_size: int
    design: str  # how it came to be asked for; decides whether an EDF may use it
    probability: float | None = 1.0  # inclusion probability under that design; None: unknown
    # what the trial is told beside its configuration; keys as in `kdsearch.search.searchers.plans`
    plan: Mapping[str, Any] = field(default_factory=dict)
    # the trial's seed is derived from the sweep's and this; None: ("trial", number). Trials may share one
    seed_key: tuple[str | int, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a trial ended: `error` is the per cent that it counts with, whatever its state."""

    state: str  # complete, diverged, failed, stopped
    error: float
    # (epoch, error) of a stopped trial, epochs rising from 1 or more; errors need not be finite. Empty for others
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Draw number `draw` (from 0) of a space is answered by a trial; fresh: trained for this space."""

    space: str
    draw: int
    trial: int
    fresh: bool


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A decision and its evidence; fields as in `kdsearch.analysis.record.DecisionRecord`, without the time."""

    step: int
    space: str
    policy: str
    chooser: str
    group: str | None
    value: str | None
    child: str | None
    reason: str
    alpha: float
    draws: int
    look: int
    table: Sequence[Mapping[str, Any]] = field(default=())


@dataclass(frozen=True)
class Note:
    """Something a reader of the result must know."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A space that is searched from now on."""

    space: DesignSpace
    parent: str | None
    exhaustive: bool  # every valid encoding is drawn, `repeats` times
    repeats: int = 1


Record = Stage | Draw | Decision | Note


@dataclass(frozen=True, kw_only=True)
class ConditionSoFar:
    """AUC of one condition over the outcomes that are in, for the progress display."""

    group: str
    value: str
    n: int  # draws with an outcome
    auc: float  # per cent


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Where a search stands in its present space."""

    space: str
    restriction: str | None
    done: int  # trials of this space with an outcome
    planned: int  # trials of this space
    conditions: Sequence[ConditionSoFar] = ()


class Searcher(Protocol):
    """Proposes trials and learns from their outcomes."""

    @property
    def done(self) -> bool:
        """No further trial will be asked for, and none is awaited."""

    @property
    def space(self) -> DesignSpace:
        """The space that trials are proposed from now."""

    def overview(self) -> Overview:
        """Where the search stands; cheap enough to be called a few times a second."""

    def ask(self, n: int) -> Sequence[Request]:
        """At most n new trials; none while outcomes are awaited, or when done."""

    def tell(self, number: int, outcome: Outcome) -> None:
        """Learn how a trial ended; telling the same again changes nothing."""

    def drain(self) -> Sequence[Record]:
        """What was drawn and decided since the last call, in order."""
