"""Searchers compared: incumbents, costs that are censored, and how often intervals and tests are wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from kdsearch.analysis import anytime
from kdsearch.analysis.anytime import compare, curve_of, need_of
from kdsearch.analysis.plots_anytime import drawings, plot_errors, plot_found
from kdsearch.analysis.samples import StatisticsError
from kdsearch.analysis.tables_anytime import curves_frame, entries_frame, plain, runs_frame
from kdsearch.analysis.traces import Axis, Lineage, Trace
from kdsearch.spaces.errors import UnknownNameError

NAN = math.nan


def trace_of(error, mean, *, entry="a", run=0, rank=None, epochs=None, fresh=None, **more):
    error = np.array(error, dtype=float)
    n = len(error)
    epochs = np.arange(1, n + 1) * 10 if epochs is None else np.array(epochs)
    return Trace(
        entry=entry,
        run=run,
        error=error,
        mean=np.array(mean, dtype=float),
        fresh=np.array(mean if fresh is None else fresh, dtype=float),
        rank=np.arange(1, n + 1) if rank is None else np.array(rank),
        epochs=epochs,
        seconds=epochs / 2.0,
        states=["complete"] * n,
        total=(n, int(epochs[-1]) if n else 0, float(epochs[-1]) / 2 if n else 0.0),
        **more,
    )


# observed errors 5, nan (stopped), 3, 4, 3; the incumbent is trial 0, 0, 2, 2, 2 (of equal ones the first)
ONE = trace_of([5, NAN, 3, 4, 3], [6, NAN, 7, 2, 1], rank=[4, 9, 5, 2, 1])


def test_the_incumbent_has_the_lowest_error_of_its_own():
    assert ONE.incumbents.tolist() == [0, 0, 2, 2, 2]
    at = np.array([0.5, 1, 2.9, 3, 100])
    assert ONE.values("error", Axis.TRIALS, at).tolist()[1:] == [5, 5, 3, 3]
    assert ONE.values("mean", Axis.TRIALS, at).tolist()[1:] == [6, 6, 7, 7]
    assert math.isnan(ONE.values("mean", Axis.TRIALS, at)[0])
    assert ONE.values("mean", Axis.EPOCHS, np.array([9.0, 10, 29, 30]))[1:].tolist() == [6, 6, 7]
    with pytest.raises(UnknownNameError, match="value of an incumbent"):
        ONE.values("median", Axis.TRIALS, at)


def test_to_train_a_good_one_is_not_to_hand_it_over():
    assert ONE.need(Axis.TRIALS, 5, best=2, held=False) == 4
    assert ONE.need(Axis.EPOCHS, 1000, best=2, held=False) == 40
    assert ONE.need(Axis.SECONDS, 1000, best=1, held=False) == 25
    assert ONE.need(Axis.TRIALS, 5, best=2, held=True) == math.inf
    assert ONE.need(Axis.TRIALS, 5, best=5, held=True) == 1
    assert ONE.need(Axis.TRIALS, 3, best=2, held=False) == math.inf  # beyond the limit


def test_a_stopped_trial_of_a_good_one_is_not_found():
    stopped = trace_of([NAN, 4], [NAN, 4], rank=[0, 7])
    assert stopped.need(Axis.TRIALS, 2, best=3, held=False) == math.inf


def test_a_run_without_trials_has_no_incumbent():
    nothing = trace_of([], [])
    assert np.isnan(nothing.values("mean", Axis.TRIALS, np.array([1.0]))).all()
    assert nothing.need(Axis.TRIALS, 9, best=3, held=True) == math.inf


def test_censored_costs():
    need = need_of(np.array([3.0, np.inf, 5, 9, np.inf, 2, 7, np.inf, 4, 8]))
    assert (need.found, need.runs) == (7, 10)
    # ordered 2 3 4 5 7 8 9 inf inf inf: the quartiles are the 3rd, 5th and 8th
    assert need.quartiles == (4.0, 7.0, None)
    # binomial(10, 1/2): P(X <= 1) = 11/1024 <= .025 < P(X <= 2) = 56/1024: the 2nd and the 9th
    assert (need.median_low, need.median_high) == (3.0, None)
    exact = stats.binomtest(7, 10).proportion_ci(0.95, method="exact")
    assert (need.share_low, need.share_high) == pytest.approx((exact.low, exact.high))
    few = need_of(np.array([1.0, 2.0]))
    assert (few.median_low, few.median_high) == (0.0, None)  # two runs say nothing
    with pytest.raises(StatisticsError):
        need_of(np.zeros(0))


def test_a_comparison_is_cut_at_its_budget():
    late = trace_of([9, 8, 1], [9, 8, 1], entry="b", rank=[30, 20, 1])
    found = compare({"a": [ONE], "b": [late]}, reference="a", axis=Axis.TRIALS, budget=2, best=3)
    assert {entry.name: entry.final.mean for entry in found.entries} == {"a": 6, "b": 8}
    assert found.entries[1].needs[Axis.TRIALS, False].found == 0
    whole = compare({"a": [ONE], "b": [late]}, reference="a", axis=Axis.TRIALS, budget=3, best=3)
    assert {entry.name: entry.final.mean for entry in whole.entries} == {"a": 7, "b": 1}
    assert whole.entries[1].needs[Axis.EPOCHS, False].quartiles == (30.0, 30.0, 30.0)
    assert (whole.entries[1].sooner.sooner, whole.entries[1].sooner.later) == (1, 0)


def test_a_run_without_an_incumbent_counts_with_the_error_of_lost_trials():
    nothing = trace_of([NAN, NAN], [NAN, NAN], entry="b", rank=[0, 0])
    found = compare({"a": [ONE], "b": [nothing]}, reference="a", axis=Axis.TRIALS, budget=2, best=1, lost=90)
    final = found.entries[1].final
    assert (final.mean, final.observed, final.without, final.fresh) == (90, 90, 1, None)
    assert found.entries[1].difference.mean == 84


def test_runs_and_names_must_fit():
    with pytest.raises(UnknownNameError, match="reference"):
        compare({"a": [ONE]}, reference="b", axis=Axis.TRIALS, budget=2, best=1)
    with pytest.raises(StatisticsError, match="runs are wanted"):
        compare({"a": [ONE], "b": []}, reference="a", axis=Axis.TRIALS, budget=2, best=1)


def test_the_mean_curve_begins_where_all_runs_have_an_incumbent():
    later = trace_of([NAN, 2, 1], [NAN, 4, 3], run=1, rank=[0, 2, 1])
    curve = curve_of([ONE, later], "mean", Axis.TRIALS, 3)
    assert curve.cost.tolist() == [2, 3]
    assert curve.mean.tolist() == [5, 5]  # (6 + 4) / 2, (7 + 3) / 2
    never = trace_of([NAN], [NAN], run=1, rank=[0])
    assert not curve_of([ONE, never], "mean", Axis.TRIALS, 3).cost.size


def searched(rng, *, entry="a", run=0, trials=30, shift=0.0):
    """Random search on 400 configurations whose two trainings differ, error from 2 per cent on."""
    level = 2 + rng.lognormal(1.5, 0.7, trials) + shift
    pair = level[:, None] + rng.normal(0, 1.0, (trials, 2))
    rank = np.ceil(400 * stats.lognorm.cdf(level - shift - 2, 0.7, scale=math.exp(1.5))).astype(int)
    return trace_of(
        pair[:, 0], pair.mean(axis=1), entry=entry, run=run, rank=np.maximum(rank, 1), fresh=pair[:, 1]
    )


@pytest.fixture
def found():
    rng = np.random.default_rng(5)
    traces = {
        name: [searched(rng, entry=name, run=run, shift=shift) for run in range(7)]
        for name, shift in (("random", 0.0), ("worse", 3.0))
    }
    line = {"spaces": ("y = 2", "x = 1"), "draws": 20, "trials": 15, "looks": 3, "ended": True}
    traces["refined"] = [
        trace_of(t.error, t.mean, entry="refined", run=t.run, lineage=Lineage(**line), done=True)
        for t in traces["random"]
    ]
    result = compare(traces, reference="random", axis=Axis.EPOCHS, budget=290, best=8)
    return result, traces


def test_files_say_what_the_comparison_says(found):
    result, traces = found
    entries = entries_frame(result).set_index("entry")
    assert entries.loc["worse", "difference_mean"] == result.entries[1].difference.mean > 0
    assert entries.loc["refined", "refined_final"] == "x = 1 + y = 2"
    assert len(runs_frame(result, traces)) == 21
    assert set(curves_frame(result)["axis"]) == {"trials", "epochs", "seconds"}
    data = plain(result)
    assert data["entries"]["random"]["difference"] is None
    assert data["entries"]["worse"]["final"]["mean"] == result.entries[1].final.mean
    shown = drawings(result, traces)
    assert [drawing.stem for drawing in shown] == ["error-by-cost", "found-by-cost"]
    assert all(drawing.png.startswith(b"\x89PNG") and "random" in drawing.svg for drawing in shown)


def test_no_line_covers_another_and_no_error_is_below_0():
    rng = np.random.default_rng(6)
    names = ["one", "random", *"abcdefghij"]
    runs = [searched(rng, run=run, trials=8) for run in range(3)]
    runs[0] = trace_of([70, 0.1], [70, 0.1], rank=[400, 1])  # a skewed mean: its interval reaches below 0
    traces = dict.fromkeys(names, runs)  # all the same
    result = compare(traces, reference="random", axis=Axis.TRIALS, budget=8, best=8)
    assert any((entry.curves[axis, "mean"].low < 0).any() for entry in result.entries for axis in Axis)
    for figure in (plot_errors(result), plot_found(result, traces)):
        for axes in figure.axes:
            lines = {line.get_label(): line for line in axes.get_lines()}
            assert len({(line.get_color(), str(line._dash_pattern)) for line in lines.values()}) == len(names)
            solid = [name for name, line in lines.items() if not line._dash_pattern[1]]
            assert solid == ["random"]
            rest = [line for name, line in lines.items() if name != "random"]
            assert all(line.get_linewidth() < lines["random"].get_linewidth() for line in rest)
            assert all(line.get_zorder() > lines["random"].get_zorder() for line in rest)
    assert all(axes.get_ylim()[0] == 0 for axes in plot_errors(result).axes)


def test_the_observed_error_of_what_was_chosen_is_too_good(found):
    final = found[0].entries[0].final
    assert final.observed < final.mean < final.fresh


def within(hits, studies, level):
    """Whether so many hits in so many studies are likely at a true rate of `level`: 99.9 % binomial interval."""
    low, high = stats.binom.ppf([0.0005, 0.9995], studies, level)
    return low <= hits <= high


@pytest.mark.simulation
def test_intervals_hold_the_mean_of_the_searcher_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(anytime, "_POINTS", 2)
    rng = np.random.default_rng(11)
    worth = np.array([searched(rng).values("mean", Axis.TRIALS, np.array([30.0]))[0] for _ in range(20_000)])
    truth, studies, runs = worth.mean(), 1500, 20
    hits = 0
    for _ in range(studies):
        drawn = rng.choice(worth, runs)
        interval = anytime.mean_interval(drawn)
        hits += interval[0] <= truth <= interval[1]
    # Student's interval of a skewed mean is a little short at twenty runs: 1 to 2 points
    assert 0.92 <= hits / studies <= 0.965


@pytest.mark.simulation
def test_the_interval_of_the_median_and_the_chance_hold_what_they_say():
    rng, limit, studies = np.random.default_rng(12), 30.0, 2000
    for chance in (0.02, 0.05):  # of a draw to be a good one: most runs find none, most find one
        median = math.ceil(math.log(0.5) / math.log(1 - chance))
        share = 1 - (1 - chance) ** limit
        held = covered = 0
        for _ in range(studies):
            costs = rng.geometric(chance, 25).astype(float)
            need = need_of(np.where(costs <= limit, costs, np.inf))
            low = math.inf if need.median_low is None else need.median_low
            high = math.inf if need.median_high is None else need.median_high
            held += min(low, limit) <= min(median, limit) <= high
            covered += need.share_low <= share <= need.share_high
        assert held / studies >= 0.95
        assert covered / studies >= 0.94


@pytest.mark.simulation
@pytest.mark.parametrize("runs", [8, 25])
def test_searchers_that_are_the_same_are_seldom_told_apart(monkeypatch, runs):
    monkeypatch.setattr(anytime, "_POINTS", 2)
    rng, studies = np.random.default_rng(13), 300
    worse = sooner = 0
    for study in range(studies):
        traces = {
            name: [searched(rng, entry=name, run=run) for run in range(runs)] for name in ("r", "a", "b", "c")
        }
        found = compare(traces, reference="r", axis=Axis.TRIALS, budget=30, best=20, seed=study)
        others = found.entries[1:]
        worse += any(entry.difference.p_holm <= 0.05 for entry in others)
        sooner += any(entry.sooner.p_holm <= 0.05 for entry in others)
    # the chance that any of three is told apart is at most .05; 99.9 % binomial bound
    bound = stats.binom.ppf(0.999, studies, 0.05)
    assert worse <= bound
    assert sooner <= bound


@pytest.mark.simulation
def test_searchers_that_differ_are_told_apart(monkeypatch):
    monkeypatch.setattr(anytime, "_POINTS", 2)
    rng = np.random.default_rng(14)
    hits = 0
    for study in range(40):
        traces = {
            name: [searched(rng, entry=name, run=run, trials=n) for run in range(20)]
            for name, n in (("r", 10), ("a", 60))
        }
        found = compare(traces, reference="r", axis=Axis.TRIALS, budget=60, best=20, seed=study)
        hits += found.entries[1].difference.decided and found.entries[1].difference.mean < 0
    assert hits >= 36
