from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import synthetic

from kdsearch.analysis.edf import edf, edf_band
from kdsearch.analysis.figure_style import figure_style, series_colours
from kdsearch.analysis.figures import best_and_median, slug
from kdsearch.analysis.plots import (
    edf_steps,
    plot_conditions,
    plot_curves,
    plot_edfs,
    plot_history,
    plot_lowest,
)
from kdsearch.analysis.results import analyse

ERRORS = [3.0, 1.0, 2.0, 2.0, 100.0]


@pytest.fixture(scope="module")
def result():
    return analyse(synthetic.refinement(draws=60))


def test_steps_are_one_for_each_distinct_error():
    x, y = edf_steps(edf(ERRORS), 0.0, 50.0)
    assert x.tolist() == [0, 1, 1, 2, 2, 3, 3, 100, 100, 100]
    assert y.tolist() == [0, 0, 0.2, 0.2, 0.6, 0.6, 0.8, 0.8, 1, 1]


def test_steps_rise_only_at_errors_and_never_between():
    errors = np.random.default_rng(0).normal(5, 1, 40)
    curve = edf(errors)
    x, y = edf_steps(curve, 0.0, 100.0)
    for left, right, low, high in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
        assert left == right or low == high
    between = (curve.errors[:-1] + curve.errors[1:]) / 2
    assert np.interp(between, x, y).tolist() == pytest.approx(curve(between).tolist())


def test_edf_figure_shows_the_bulk_and_counts_the_rest():
    errors = [*np.linspace(2, 4, 50), 100.0, 100.0]
    curve = edf(errors)
    with figure_style():
        axes = plot_edfs([("A", curve, edf_band(curve)), ("B", edf([2.0, 3.0]), None)]).axes[0]
    assert 4 <= axes.get_xlim()[1] < 10
    assert [text.get_text() for text in axes.texts] == ["draws beyond this axis: A: 2"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["A  (n = 52)", "B  (n = 2)"]


def test_equal_errors_can_be_drawn():
    curve = edf([100.0, 100.0])
    with figure_style():
        axes = plot_edfs([("A", curve, edf_band(curve))]).axes[0]
    assert axes.get_xlim()[0] < 100


def test_conditions_have_a_panel_for_each_group_and_mark_the_chosen_one(result):
    space = result.spaces[0]
    with figure_style():
        figure = plot_conditions(space)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["auxiliary models", "label → auxiliary", "auxiliary → target", "label → target"]
    words = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
    assert sum(word.endswith("(fixed)") for word in words) == 1


def test_of_many_conditions_the_ends_and_the_fixed_one_are_drawn(result):
    space = result.spaces[0]
    row = next(row for row in space.conditions if space.chosen(row))
    many = tuple(
        replace(row, value=row.value if i == 17 else f"value {i}", auc=90.0 - i / 10, n=5) for i in range(35)
    )
    shown = replace(space, conditions=many).outstanding(row.group)
    assert [one.auc for one in shown] == [90.0 - i / 10 for i in (0, 1, 2, 3, 17, 32, 33, 34)]
    assert len(space.outstanding(row.group)) == len(
        [one for one in space.conditions if one.group == row.group]
    )


def test_lowest_error_falls_and_stays_above_the_best(result):
    for one in result.lowest:
        assert (np.diff(one.mean) <= 1e-12).all()
        assert one.mean[-1] == pytest.approx(one.best)
        assert (one.draws_to_reach(one.best) or 0) <= one.n
        assert one.draws_to_reach(one.best - 1) is None
    with figure_style():
        axes = plot_lowest(result.lowest, ["first", "last"]).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["first", "last"]
    assert axes.get_ylim()[1] > max(one.mean[0] for one in result.lowest)


def test_lowest_error_of_few_draws_by_hand():
    record = synthetic.interrupted(synthetic.refinement(draws=60), done=7)
    one = analyse(record).lowest[0]
    errors = sorted(record.trials["error"][4:7])
    # of two out of three draws, the lowest is the smallest in two of three pairs, else the middle one
    assert one.mean.tolist() == pytest.approx([np.mean(errors), (2 * errors[0] + errors[1]) / 3, errors[0]])


def test_median_trial_is_that_of_draws_not_of_trials(result):
    for space in result.spaces:
        best, median = best_and_median(space)
        drawn = space.population
        by_number = dict(zip(drawn.numbers.tolist(), drawn.errors.tolist(), strict=True))
        draws = np.sort(np.repeat(drawn.errors, drawn.answers))
        assert by_number[best] == draws[0]
        assert by_number[median] == draws[(len(draws) - 1) // 2]


def test_curves_are_logarithmic_where_they_span_much():
    wide = pd.DataFrame({"epoch": [1, 2, 3], "value": [90.0, 9.0, 1.0]})
    flat = pd.DataFrame({"epoch": [1, 2, 3], "value": [9.0, 5.0, 0.0]})
    with figure_style():
        assert plot_curves([("one", [("target", wide, "target")])]).axes[0].get_yscale() == "log"
        assert plot_curves([("one", [("target", flat, "target")])]).axes[0].get_yscale() == "linear"


def test_history_leaves_out_what_has_no_error():
    trials = pd.DataFrame({"number": [0, 1, 2], "error": [5.0, np.nan, 3.0]})
    with figure_style():
        points, lowest = plot_history(trials).axes[0].lines
    assert points.get_xdata().tolist() == [0, 2]
    assert lowest.get_ydata().tolist() == [5.0, 3.0]


def test_style_stays_inside_its_context():
    before = dict(mpl.rcParams)
    with figure_style():
        assert mpl.rcParams["svg.fonttype"] == "none"
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("n", range(1, 7))
def test_series_have_different_colours(n):
    assert len(set(series_colours(n))) == n


def test_slugs():
    assert slug("ktg digits/2") == "ktg-digits-2"
    assert slug("../..") == "sweep"
