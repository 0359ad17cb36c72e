"""Searchers side by side on one table: what their incumbents are worth at each cost, and what a good one costs.

Runs with the same number share their seeds, so differences to the reference are taken run by run (`paired.py`:
sign flips, Holm). Costs of finding one of the best configurations are censored where a run never does: quantiles take
such a run as costlier than its limit, intervals of the median come from the order of the runs alone (binomial), and
runs are compared by which was sooner (sign test; both never is a tie). None of these takes a law for granted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kdsearch.analysis.comparison import holm
from kdsearch.analysis.paired import PairedDifference, mean_interval, paired_table
from kdsearch.analysis.samples import Floats, StatisticsError
from kdsearch.analysis.traces import Axis, Lineage, Trace, check_traces
from kdsearch.spaces.errors import UnknownNameError

_POINTS = 80  # of a curve


@dataclass(frozen=True, eq=False)
class Curve:
    """The mean over runs of what the incumbent is worth, at each cost; arrays [k]."""

    cost: Floats
    mean: Floats  # per cent
    low: Floats  # of the (1 - alpha) interval of the mean, cost by cost; NaN where there is none
    high: Floats
    runs: int  # that have an incumbent at every cost of the curve


@dataclass(frozen=True, kw_only=True)
class Need:
    """What it costs to come upon one of the best configurations; None: more than the limit."""

    found: int  # runs that did
    runs: int
    share_low: float  # of the (1 - alpha) interval of the chance to, Clopper and Pearson
    share_high: float
    quartiles: tuple[float | None, float | None, float | None]
    median_low: float | None  # of the (1 - alpha) interval of the median, at least; None: more than the limit
    median_high: float | None


@dataclass(frozen=True, kw_only=True)
class Sooner:
    """Which of two searchers was sooner, run by run."""

    sooner: int  # runs
    later: int
    ties: int  # both at the same cost, or both never
    p: float  # exact two-sided sign test
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class Final:
    """What the incumbent is worth at the end of the budget, means over runs in per cent."""

    observed: float  # its own validation error
    mean: float  # the mean over the table's trainings of its configuration
    low: float | None  # of the interval of `mean`
    high: float | None
    spread: float  # standard deviation of `mean` over runs
    fresh: float | None  # the mean over trainings that had no part in the choice; None: some run has none
    rank: float  # median over runs
    without: int  # runs without an incumbent, which count with `lost`


@dataclass(frozen=True, kw_only=True)
class Refined:
    """Where the runs of a refinement ended."""

    finals: tuple[tuple[str, int], ...]  # last space -> runs, most frequent first
    ended: int  # runs that trained their last space in full
    draws: tuple[int, float, int]  # least, mean, most
    trials: tuple[int, float, int]  # trained for these draws


@dataclass(frozen=True, kw_only=True, eq=False)
class EntryResult:
    """One searcher."""

    name: str
    final: Final
    difference: PairedDifference | None  # of `mean` to the reference's; None: it is the reference
    needs: Mapping[tuple[Axis, bool], Need]  # by cost, and whether the incumbent must be one of the best
    sooner: Sooner | None  # on the budget's axis, incumbent not asked
    curves: Mapping[tuple[Axis, str], Curve]  # by cost and value
    trials: float  # per run, mean
    epochs: float
    seconds: float
    done: int  # runs that ended before the budget was spent
    refined: Refined | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All searchers."""

    reference: str
    axis: Axis  # of the budget
    budget: float
    runs: int
    best: int  # configurations that count as the best
    alpha: float
    entries: tuple[EntryResult, ...]


def compare(
    traces: Mapping[str, Sequence[Trace]],
    *,
    reference: str,
    axis: Axis,
    budget: float,
    best: int,
    alpha: float = 0.05,
    lost: float = 100.0,
    seed: int = 0,
) -> Comparison:
    """Compare searchers by their traces, by name; run r of each has the same seed.

    budget: in units of `axis`; what happened later is cut off. best: configurations of the table that count as the
    best. lost: the error, in per cent, of a run without an incumbent. seed: of sign flips above 16 runs.

    Raises:
        UnknownNameError: there is no such reference.
        StatisticsError: the entries do not have the same runs, or there are none.

    """
    if reference not in traces:
        raise UnknownNameError("reference", reference, traces)
    runs = len(traces[reference])
    if not runs or best < 1:
        raise StatisticsError(
            "a comparison needs runs, and at least one configuration that counts as the best"
        )
    for each in traces.values():
        check_traces(each, runs)
    end = np.array([budget])
    worth = {name: _filled(_at(each, "mean", axis, end)[:, 0], lost) for name, each in traces.items()}
    others = [name for name in traces if name != reference]
    pairs = paired_table([(worth[name], worth[reference]) for name in others], alpha=alpha, seed=seed)
    needs = {name: _needs(each, axis, budget, best) for name, each in traces.items()}
    sooner = _sooner({name: needs[name][axis, False] for name in traces}, reference)
    return Comparison(
        reference=reference,
        axis=axis,
        budget=budget,
        runs=runs,
        best=best,
        alpha=alpha,
        entries=tuple(
            EntryResult(
                name=name,
                final=_final(each, axis, end, lost, alpha),
                difference=None if name == reference else pairs[others.index(name)],
                needs={key: need_of(costs, alpha=alpha) for key, costs in needs[name].items()},
                sooner=sooner.get(name),
                curves={
                    (cost, value): curve_of(each, value, cost, _limit(each, cost, axis, budget), alpha=alpha)
                    for cost in Axis
                    for value in ("mean", "error")
                },
                trials=float(np.mean([trace.end(Axis.TRIALS) for trace in each])),
                epochs=float(np.mean([trace.end(Axis.EPOCHS) for trace in each])),
                seconds=float(np.mean([trace.end(Axis.SECONDS) for trace in each])),
                done=sum(trace.done and trace.end(axis) < budget for trace in each),
                refined=_refined([trace.lineage for trace in each if trace.lineage is not None]),
            )
            for name, each in traces.items()
        ),
    )


def _at(traces: Sequence[Trace], value: str, axis: Axis, at: Floats) -> Floats:
    """Return the value of each run's incumbent at each cost, [runs, k]."""
    return np.array([trace.values(value, axis, at) for trace in traces])


def _filled(values: Floats, lost: float) -> Floats:
    found: Floats = np.where(np.isfinite(values), values, lost)
    return found


def _final(traces: Sequence[Trace], axis: Axis, end: Floats, lost: float, alpha: float) -> Final:
    mean, observed, fresh, rank = (
        _at(traces, name, axis, end)[:, 0] for name in ("mean", "error", "fresh", "rank")
    )
    worth = _filled(mean, lost)
    low, high = mean_interval(worth, alpha=alpha) or (None, None)
    return Final(
        observed=float(_filled(observed, lost).mean()),
        mean=float(worth.mean()),
        low=low,
        high=high,
        spread=float(worth.std(ddof=1)) if worth.size > 1 else 0.0,
        fresh=float(fresh.mean()) if np.isfinite(fresh).all() else None,
        rank=float(np.median(np.where(np.isfinite(rank), rank, np.inf))),
        without=int((~np.isfinite(mean)).sum()),
    )


def _limit(traces: Sequence[Trace], cost: Axis, axis: Axis, budget: float) -> float:
    """Return the highest cost up to which every run is known; one that ended by itself stays as it is for ever."""
    if cost is axis:
        return budget
    open_ended = [trace for trace in traces if not (trace.done and trace.end(axis) < budget)]
    ends = [trace.end(cost) for trace in open_ended]
    return min(ends) if ends else max(trace.end(cost) for trace in traces)


def curve_of(traces: Sequence[Trace], value: str, axis: Axis, limit: float, *, alpha: float = 0.05) -> Curve:
    """Return the mean curve up to a cost, from where all runs have an incumbent; empty where they never do."""
    firsts = [trace.axis(axis)[np.flatnonzero(trace.incumbents >= 0)[:1]] for trace in traces]
    if any(not first.size for first in firsts):
        empty = np.zeros(0)
        return Curve(empty, empty, empty, empty, sum(first.size > 0 for first in firsts))
    start = max(float(first[0]) for first in firsts)
    if start > limit:
        empty = np.zeros(0)
        return Curve(empty, empty, empty, empty, 0)
    cost = np.geomspace(start, limit, _POINTS)
    cost[0], cost[-1] = start, limit  # not to be missed by rounding
    if axis is not Axis.SECONDS:
        cost = np.unique(np.floor(cost + 1e-9))
    values = _at(traces, value, axis, cost)
    ends = [mean_interval(column, alpha=alpha) or (math.nan, math.nan) for column in values.T]
    low, high = np.array(ends).T
    return Curve(cost, values.mean(axis=0), low, high, len(traces))


def _needs(traces: Sequence[Trace], axis: Axis, budget: float, best: int) -> dict[tuple[Axis, bool], Floats]:
    """Return the cost of each run on each axis, infinite where it is beyond the budget."""
    found: dict[tuple[Axis, bool], Floats] = {}
    for held in (False, True):
        within = [np.isfinite(trace.need(axis, budget, best=best, held=held)) for trace in traces]
        for cost in Axis:
            costs = [trace.need(cost, math.inf, best=best, held=held) for trace in traces]
            found[cost, held] = np.where(within, costs, np.inf)
    return found


def need_of(costs: Floats, *, alpha: float = 0.05) -> Need:
    """Summarise the costs [runs] of runs, infinite where a run never came upon it.

    The interval of the median has its ends at the order statistics that a binomial law gives; it holds at least
    (1 - alpha) whatever the law of the costs. Raises StatisticsError for no runs.
    """
    n = len(costs)
    if not n:
        raise StatisticsError("there is no cost of no runs")
    ordered = np.sort(costs)
    found = int(np.isfinite(ordered).sum())
    rank = int(stats.binom.ppf(alpha / 2, n, 0.5))  # P(X < rank) <= alpha / 2
    low = 0.0 if found == 0 else float(stats.beta.ppf(alpha / 2, found, n - found + 1))
    high = 1.0 if found == n else float(stats.beta.ppf(1 - alpha / 2, found + 1, n - found))
    return Need(
        found=found,
        runs=n,
        share_low=low,
        share_high=high,
        quartiles=(_quantile(ordered, 0.25), _quantile(ordered, 0.5), _quantile(ordered, 0.75)),
        median_low=_finite(ordered[rank - 1]) if rank >= 1 else 0.0,
        median_high=_finite(ordered[n - rank]) if rank >= 1 else None,
    )


def _quantile(ordered: Floats, level: float) -> float | None:
    """Return the lowest cost that at least this share of the runs needs no more than; None: infinite."""
    return _finite(ordered[max(0, math.ceil(level * len(ordered) - 1e-9) - 1)])


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _sooner(needs: Mapping[str, Floats], reference: str) -> dict[str, Sooner]:
    others = [name for name in needs if name != reference]
    counts = []
    for name in others:
        less = int((needs[name] < needs[reference]).sum())
        more = int((needs[name] > needs[reference]).sum())
        p = float(stats.binomtest(less, less + more).pvalue) if less + more else 1.0
        counts.append((less, more, p))
    corrected = holm(np.array([p for _, _, p in counts]))
    return {
        name: Sooner(
            sooner=less,
            later=more,
            ties=len(needs[name]) - less - more,
            p=p,
            p_holm=float(corrected[place]),
        )
        for place, (name, (less, more, p)) in enumerate(zip(others, counts, strict=True))
    }


def _refined(lineages: Sequence[Lineage]) -> Refined | None:
    if not lineages:
        return None
    finals = Counter(lineage.final for lineage in lineages)
    draws, trials = [line.draws for line in lineages], [line.trials for line in lineages]
    return Refined(
        finals=tuple(finals.most_common()),
        ended=sum(lineage.ended for lineage in lineages),
        draws=(min(draws), float(np.mean(draws)), max(draws)),
        trials=(min(trials), float(np.mean(trials)), max(trials)),
    )
