from __future__ import annotations

import csv
import html
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import synthetic
import synthetic_methods

from kdsearch.analysis import wording
from kdsearch.analysis.figure_style import FAINT, figure_style
from kdsearch.analysis.figures import sweep_drawings
from kdsearch.analysis.methods import EpochCurve, MethodRow, PeriodPoint, Trajectory
from kdsearch.analysis.page import render
from kdsearch.analysis.paths import last_values, mean_trajectory, path_ends
from kdsearch.analysis.plots_methods import (
    method_colours,
    plot_accuracies,
    plot_accuracy_by_epoch,
    plot_periods,
    plot_trajectories,
)
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.report import ReportFiles, write_report
from kdsearch.analysis.results import analyse, shown_trials
from kdsearch.analysis.story import ended
from kdsearch.analysis.story_methods import descriptions, headline, scope, too_few
from kdsearch.analysis.tables import all_tables

CLEAN = {"diverged": (), "failed": (), "missing": (), "periods": False}


@pytest.fixture(scope="module")
def record() -> SweepRecord:
    return synthetic_methods.comparison()


@pytest.fixture(scope="module")
def files(record, tmp_path_factory) -> ReportFiles:
    return write_report([record], tmp_path_factory.mktemp("report") / "out")


@pytest.fixture(scope="module")
def page(files) -> str:
    return files.page.read_text(encoding="utf-8")


def rows(files: ReportFiles, name: str) -> list[dict[str, str]]:
    with (files.folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def spoken(text: str) -> str:
    """The page's text without tags, blanks collapsed."""
    told = re.sub(r"<(style|svg).*?</\1>", "", text, flags=re.DOTALL)
    told = re.sub(r"</t[hd]>", " ", told)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", told)).split())


def told(record: SweepRecord) -> str:
    """The page of one sweep without its figures."""
    return spoken(render([analyse(record)], [{}], None))


def accuracies(files: ReportFiles, method: str) -> dict[str, float]:
    """Accuracy by run, as anyone can compute it from trials.csv."""
    return {
        row["run"]: 100 - float(row["error"])
        for row in rows(files, "trials.csv")
        if row["method"] == method and row["final"] == "1" and row["error"]
    }


def test_table_of_methods_follows_from_the_trials(files):
    for row in rows(files, "methods.csv"):
        runs = np.array(list(accuracies(files, row["method"]).values()))
        assert int(row["runs"]) == len(runs)
        assert float(row["mean"]) == pytest.approx(runs.mean())
        assert float(row["spread"]) == pytest.approx(runs.std(ddof=1))
        assert (float(row["least"]), float(row["greatest"])) == pytest.approx((runs.min(), runs.max()))


def test_differences_are_paired_by_run(files):
    plain = accuracies(files, "naive")
    for row in rows(files, "methods.csv"):
        own = accuracies(files, row["method"])
        common = sorted(set(own) & set(plain))
        if row["method"] == "naive":
            assert row["difference"] == row["p_holm"] == ""
            continue
        assert int(row["pairs"]) == len(common)
        assert float(row["difference"]) == pytest.approx(np.mean([own[run] - plain[run] for run in common]))
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])


def test_page_shows_the_numbers_of_the_tables(files, page):
    shown = dict(re.findall(r'<data value="([^"]+)">([^<]+)</data>', page))
    for row in rows(files, "methods.csv"):
        assert shown[row["mean"]] == f"{float(row['mean']):.2f}"
        if row["difference"]:
            assert wording.signed(float(row["difference"])) in page
            assert wording.interval(float(row["low"]), float(row["high"])) in page
    for row in rows(files, "costs.csv"):
        assert shown[row["seconds"]] == wording.short_time(float(row["seconds"]))
    for row in rows(files, "periods.csv"):
        assert shown[row["mean"]] == f"{float(row['mean']):.2f}"


def test_page_is_one_file_without_scripts_and_with_unique_identifiers(page):
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#)', page)
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for target in re.findall(r'href="#([^"]+)"|aria-labelledby="([^"]+)"|url\(#([^)]+)\)', page):
        assert "".join(target) in identifiers


def test_files_are_those_of_methods_and_there_is_no_distribution(files, page):
    names = {path.name for path in files.tables}
    assert names == {
        *("trials.csv", "curves.csv", "methods.csv", "accuracy_by_epoch.csv", "periods.csv"),
        *("costs.csv", "trajectories.csv"),
    }
    stems = {path.stem for path in files.figures}
    assert stems == {"methods", "accuracy-by-epoch", "periods", "trajectories-1", "trajectories-2"}
    assert "There is no error distribution of the space" in spoken(page)
    assert "AUC" not in spoken(page)


def test_diverged_failed_and_missing_runs_are_said(page):
    text = spoken(page)
    assert "Of 69 runs, 2 diverged and 1 failed: they count with 0 % accuracy." in text
    assert "Runs that diverged or failed count with 0 %." in text
    assert "prediction (9 pairs)" in text
    assert "cannot be told from naive on 9 to 10 runs" in text
    assert "out of <memory>" in text


def test_curves_end_at_the_means_of_the_table(files):
    last = {row["method"]: row for row in rows(files, "accuracy_by_epoch.csv")}
    for row in rows(files, "methods.csv"):
        assert float(last[row["method"]]["mean"]) == pytest.approx(float(row["mean"]))


def test_trajectories_begin_at_the_start_values_of_their_trials(files, record):
    trials = record.trials.set_index("number")
    found = [row for row in rows(files, "trajectories.csv") if row["epoch"] == "0"]
    assert {row["method"] for row in found} == {"gradient", "prediction"}
    for row in found:
        assert float(row["value"]) == trials.loc[int(row["trial"]), row["metaparameter"]]


def test_headline_names_what_is_better_and_worse_with_its_uncertainty(record):
    found = analyse(record).methods
    best = next(row for row in found.rows if row.name == "prediction").difference
    text = spoken(str(headline(analyse(record))))
    assert text.startswith(
        f"Beside naive, on runs with shared seeds, test accuracy is higher by {best.mean:.2f} points"
    )
    assert (
        f"with prediction (95 % interval {wording.interval(best.low, best.high)}, p = {best.p_holm:.3f}"
        in text
    )
    assert "it is lower by 1.30 with none" in text
    assert "One run of prediction takes 1.6" in text


def test_headline_says_how_large_a_difference_may_still_be():
    record = synthetic_methods.comparison(methods=("none", "naive", "random"), runs=4, **CLEAN)
    found = analyse(record).methods
    text = spoken(str(headline(analyse(record))))
    differences = [row.difference for row in found.rows if row.difference]
    assert not any(one.decided for one in differences)
    assert text.startswith(
        "No method can be told from naive on 4 runs with shared seeds: the least p after Holm is"
    )
    ends = wording.interval(min(one.low for one in differences), max(one.high for one in differences))
    assert f"The 95 % intervals of all 2 differences, each taken for itself, lie within {ends}." in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: replace(r, trials=r.trials.iloc[:0]), "No run of any method has an outcome yet"),
        (lambda r: replace(r, trials=r.trials.assign(state="waiting")), "none that stands for a run"),
        (lambda r: replace(r, trials=r.trials[r.trials["run"].isin([0])]), "too few runs yet"),
        (lambda r: replace(r, trials=r.trials[r.trials["method"] == "naive"]), "too few runs yet"),
        (lambda r: replace(r, trials=r.trials[r.trials["method"] == "none"]), "Nothing is compared"),
        (lambda r: replace(r, curves=r.curves.iloc[:0]), "The highest mean is that of"),
        (lambda r: replace(r, trials=r.trials.assign(state="diverged")), "diverged: they count with 0 %"),
        (lambda r: replace(r, settings={}), "Comparison of methods"),
        (lambda r: replace(r, spaces=()), "Beside naive"),
    ],
    ids=[
        "no trials",
        "waiting",
        "one run",
        "reference",
        "no reference",
        "curves",
        "diverged",
        "settings",
        "spaces",
    ],
)
def test_unfinished_and_odd_comparisons_have_a_sensible_page(record, change, words):
    result = analyse(change(record))
    drawn = sweep_drawings(result, "")
    text = spoken(render([result], [drawn], None))
    assert words in text
    assert " nan" not in text.lower()
    assert "None" not in text
    assert all(table.to_csv() for table in all_tables([result]))


def test_validation_accuracy_is_called_that():
    text = told(synthetic_methods.comparison(runs=3, methods=("naive", "random"), tested=False, **CLEAN))
    assert "mean validation accuracy" in text
    assert "test accuracy" not in text


def test_names_and_notes_are_escaped(record):
    trials = record.trials.assign(method=record.trials["method"].replace("naive", "<b>&naive</b>"))
    searcher = {**record.settings["searcher"], "reference": "<b>&naive</b>"}
    searcher["methods"] = {"<b>&naive</b>": {"kind": "fixed", "values": {"<i>": "<u>"}}}
    evil = replace(record, trials=trials, settings={"searcher": searcher})
    page = render([analyse(evil)], [{}], None)
    assert "<b>&naive" not in page
    assert "<i>" not in page.replace("<i>decided</i>", "").replace("<i>Runs", "").replace("<i>trials", "")
    assert "&lt;b&gt;&amp;naive" in page


def test_methods_are_described_in_words(record):
    words = dict(descriptions(analyse(record)))
    assert words["naive"] == (
        "values set beforehand: lambda_1 = 0.5, temperature = 1; trained on training and validation images"
    )
    assert "TPE by Optuna: 5 trainings judged on the validation part" in words["tpe-optuna"]
    assert "10 iterations with a gradient step, then 10 on a straight line" in words["prediction"]
    assert "fit = value" in words["prediction"]
    assert words["gradient"].startswith(
        "from the run's random draw, a gradient step at every iteration (rate = 0.1"
    )
    assert "fit" not in words["gradient"]  # nothing is fitted
    assert "epsilon" not in words["gradient"]  # nor stepped


def test_gradient_searchers_get_a_page_without_a_distribution_that_says_why(record, tmp_path):
    one = synthetic_methods.of_one_method(record, "gradient")
    files = write_report([one], tmp_path / "out")
    text = spoken(files.page.read_text(encoding="utf-8"))
    assert text.count("None of the 9 trials belongs in an error distribution: gradient steps walk") == 1
    assert "of 9 trials (" not in text
    assert "How large the spaces are" not in text  # it is infinite
    assert "∞" not in text
    assert "The best of 10 configurations has a validation error of" in text
    assert {"history", "trajectories-1", "curves"} == {path.stem for path in files.figures}
    assert rows(files, "edf.csv") == rows(files, "auc.csv") == []
    ends = last_values(analyse(one).trajectories)
    best = analyse(one).best[0].trainings.numbers[0]
    assert f"→ {ends[best, 'temperature']:.3f}" in text


def test_draws_of_a_gradient_searcher_are_refused_once(record):
    one = synthetic_methods.of_one_method(record, "gradient")
    draws = [{"space": "A", "draw": i, "trial": n, "fresh": 1} for i, n in enumerate(one.trials["number"])]
    text = told(replace(one, draws=pd.DataFrame(draws)))
    assert text.count("gradient steps walk downhill") == 1
    assert "Its 10 trials are no random draws from it." in text
    assert "of 10 trials (" not in text
    assert "in an EDF" not in text
    assert "answered by trials of earlier spaces" not in text


def test_what_a_gradient_moved_is_told_of_the_best_training(record):
    result = analyse(synthetic_methods.of_one_method(record, "gradient"))
    found = ended(result, result.best[0])
    assert set(found) == {"lambda_1", "temperature"}
    assert (
        found["temperature"]
        == last_values(result.trajectories)[result.best[0].trainings.numbers[0], "temperature"]
    )
    assert ended(analyse(synthetic.generic()), analyse(synthetic.generic()).best[0]) == {}


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], ""),
        ([10, 10], ""),
        ([6], ""),  # 0.031
        ([4, 3], "With 4 pairs of runs no p can be below 0.125 (2/2^4), 0.250 after Holm for 2 methods"),
        (
            [4],
            "With 4 pairs of runs no p can be below 0.125 (2/2^4): no difference can be decided at 0.05 yet",
        ),
        ([6, 6, 1], "With 6 pairs of runs no p can be below 0.031 (2/2^6), 0.062 after Holm for 2 methods"),
        ([1], "With 1 pair of runs no p can be below 1.000 (2/2^1): no difference"),
    ],
)
def test_too_few_pairs_to_decide_anything_are_said(pairs, words):
    said = too_few(pairs, 0.05)
    assert said.startswith(words)
    assert bool(said) == bool(words)


def test_the_page_says_what_intervals_do_not_cover_and_where_runs_are_too_few(record):
    text = told(record)
    assert (
        "Intervals and p cover the training seed alone: all runs share one split of digits and one test part"
        in text
    )
    assert "no p can be below" not in text
    few = synthetic_methods.comparison(methods=("naive", "random"), runs=4, **CLEAN)
    assert "With 4 pairs of runs no p can be below 0.125" in told(few)
    data = {"name": "synthetic", "variant": "fair"}
    trainable = {"kind": "kd", "teacher": {"model": "linear"}, "data": data}
    objects = analyse(replace(record, settings={**record.settings, "trainable": trainable}))
    assert scope(objects) == ""
    trainable = {**trainable, "data": {"name": "digits"}}
    images = analyse(replace(record, settings={**record.settings, "trainable": trainable}))
    assert "all runs share one teacher, one split of digits" in scope(images)


def test_draws_of_tpe_are_refused_and_its_best_trials_stand(record):
    one = synthetic_methods.of_one_method(record, "tpe-optuna")
    draws = [{"space": "A", "draw": i, "trial": n, "fresh": 1} for i, n in enumerate(one.trials["number"])]
    text = told(replace(one, draws=pd.DataFrame(draws)))
    assert "TPE proposes where errors were low before" in text
    assert "The best configurations of A" in text
    assert "AUC (per cent)" not in text


def test_teachers_are_told_apart_from_trials(record):
    teacher = record.trials["role"] == "pretrain"
    trials = record.trials.assign(teacher=np.where(teacher, "resnet18", None))
    text = told(replace(record, trials=trials))
    assert "resnet18 1 78.00 22.00 –" in text
    one = synthetic_methods.of_one_method(replace(record, trials=trials), "gradient")
    assert "trial no. lambda_1 temperature 1" in told(one)  # no empty column teacher


def test_several_comparisons_stand_side_by_side_as_table_2(record):
    other = synthetic_methods.comparison(runs=6, methods=("naive", "gradient"), seed=5, **CLEAN)
    results = [analyse(record), analyse(replace(other, name="second")), analyse(synthetic.generic())]
    page = render(results, [{}, {}, {}], None)
    assert {"s1-methods", "s2-methods", "s3-best"} <= set(re.findall(r'\bid="([^"]+)"', page))
    text = spoken(page)
    assert "method kd-made-up second" in text
    rows = [{row.name: row for row in result.methods.rows} for result in results[:2]]
    naive = " ".join(f"{one['naive'].mean:.2f} ({one['naive'].high:.2f})" for one in rows)
    assert f"naive {naive}" in text
    names = {table.name for table in all_tables(results)}
    assert {"methods.csv", "edf.csv", "draws.csv", "trajectories.csv"} <= names


def test_too_many_curves_are_cut_to_the_trials_that_stand_for_a_run(record, monkeypatch):
    monkeypatch.setattr("kdsearch.analysis.tables.MOST_CURVE_ROWS", 10)
    result = analyse(record)
    final = set(record.trials.loc[record.trials["final"], "number"])
    assert set(shown_trials(result)) == final
    curves = next(table for table in all_tables([result]) if table.name == "curves.csv")
    assert {row[0] for row in curves.rows} == final


# Figures


def row(name: str, values: list[float]) -> MethodRow:
    runs = np.array(values)
    return MethodRow(
        name=name,
        runs=len(runs),
        accuracies=runs,
        mean=float(runs.mean()),
        spread=None,
        low=float(runs.min()),
        high=float(runs.max()),
        diverged=0,
        failed=0,
        trials_per_run=1.0,
        difference=None,
    )


def curve(method: str, mean: list[float], half: float = 1.0) -> EpochCurve:
    values = np.array(mean)
    epochs = np.arange(1.0, len(values) + 1)
    return EpochCurve(
        method=method, epochs=epochs, mean=values, low=values - half, high=values + half, runs=3
    )


def point(e1: int, e2: int, values: list[float]) -> PeriodPoint:
    runs = np.array(values)
    mean = float(runs.mean())
    return PeriodPoint(method="p", e1=e1, e2=e2, accuracies=runs, mean=mean, low=mean - 1, high=mean + 1)


def path(bounds: tuple[float, float], values: list[list[float]], name: str = "temperature") -> Trajectory:
    table = np.array(values)
    return Trajectory(
        method="g",
        metaparameter=name,
        epochs=np.arange(float(table.shape[1])),
        values=table,
        bounds=bounds,
        numbers=tuple(range(len(table))),
    )


def test_a_collapsed_run_is_named_and_leaves_the_others_room():
    shown = [row("naive", [88.0, 88.4, 88.2]), row("random", [87.0, 10.0, 87.4, 87.2])]
    with figure_style():
        axes = plot_accuracies(shown, "naive", tested=True).axes[0]
    assert axes.get_xlim()[0] > 80
    assert [text.get_text() for text in axes.texts] == ["◂ 10.0, mean 67.9"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["naive", "random"]
    assert axes.get_xlabel() == "test accuracy (%)"


def test_equal_accuracies_can_be_drawn():
    with figure_style():
        axes = plot_accuracies([row("a", [0.0, 0.0]), row("b", [0.0])], "a", tested=False).axes[0]
    assert axes.get_xlim()[0] < axes.get_xlim()[1]


def test_each_method_has_its_panel_beside_the_reference():
    curves = [curve("naive", [60, 70, 71, 72]), curve("a", [61, 72, 73, 74]), curve("b", [61, 71, 72, 73])]
    with figure_style():
        figure = plot_accuracy_by_epoch(curves, "naive", tested=True)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["a", "b"]
    colours = method_colours(["naive", "a", "b"], "naive")
    drawn = {line.get_color() for line in figure.axes[0].lines}
    assert {colours["naive"], colours["a"], FAINT} <= drawn
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["the panel's method", "naive (reference)", "the other methods"]


def test_early_epochs_leave_the_axis_where_they_would_hide_the_rest():
    steep = [curve("naive", [5, 60, 86, 87, 87, 88, 88, 88]), curve("a", [5, 62, 87, 88, 89, 89, 89, 89])]
    flat = [curve("naive", [86, 87, 88, 88]), curve("a", [86, 88, 89, 89])]
    with figure_style():
        lows = [
            plot_accuracy_by_epoch(one, "naive", tested=True).axes[0].get_ylim()[0] for one in (steep, flat)
        ]
    assert lows[0] > 50
    assert lows[1] < 86


def test_one_collapsed_method_does_not_stretch_the_axis_by_its_interval():
    curves = [curve("naive", [88.0] * 4), curve("random", [80.0] * 4, half=40.0)]
    with figure_style():
        low, high = plot_accuracy_by_epoch(curves, "naive", tested=True).axes[0].get_ylim()
    assert 70 < low < 80
    assert 88 < high < 100


@pytest.mark.parametrize(("methods", "columns"), [(3, 2), (4, 3), (5, 2), (7, 3), (8, 4), (9, 4)])
def test_panels_leave_few_places_empty(methods, columns):
    curves = [curve(f"method {i}", [80.0, 81.0]) for i in range(methods)]
    with figure_style():
        figure = plot_accuracy_by_epoch(curves, "method 0", tested=True)
    assert len(figure.axes) == methods - 1
    assert figure.axes[0].get_gridspec().ncols == columns


def test_a_lone_method_has_a_panel_too():
    with figure_style():
        figure = plot_accuracy_by_epoch([curve("naive", [1.0, 2.0])], "naive", tested=True)
    assert [axes.get_title("left") for axes in figure.axes] == ["naive"]


@pytest.mark.parametrize(
    ("e2", "scale"), [([5, 10], "linear"), ([5, 10, 50], "symlog"), ([0, 10, 50], "symlog"), ([0], "linear")]
)
def test_periods_are_marked_where_they_are(e2, scale):
    points = [point(10, one, [80.0, 82.0, 81.0]) for one in e2]
    with figure_style():
        figure = plot_periods([], points, row("naive", [79.0]), tested=True)
    axes = figure.axes[0]
    assert axes.get_xscale() == scale
    assert list(axes.get_xticks()) == e2
    assert axes.get_xlim()[0] < min(e2)
    assert axes.get_ylim()[0] < 79
    assert axes.get_title("left") == "gradient phases of e1 = 10"


def test_scales_are_logarithmic_and_shares_are_not():
    share = path((0.0, 1.0), [[0.2, 0.4], [0.6, 0.8]], "lambda_1")
    scale = path((0.1, 10.0), [[0.1, 1.0], [10.0, 4.0]])
    with figure_style():
        axes = plot_trajectories([share, scale], "#0072b2").axes
    assert [one.get_yscale() for one in axes] == ["linear", "log"]
    assert mean_trajectory(share).tolist() == pytest.approx([0.4, 0.6])
    assert mean_trajectory(scale).tolist() == pytest.approx([1.0, 2.0])
    for one, trajectory in zip(axes, (share, scale), strict=True):
        low, high = one.get_ylim()
        assert low < trajectory.bounds[0] < trajectory.bounds[1] < high
        lines = [
            line.get_ydata()[0]
            for line in one.lines
            if line.get_linestyle() == ":" or len(set(line.get_ydata())) == 1
        ]
        assert {*trajectory.bounds} <= set(lines)


def test_infinite_bounds_and_runs_that_ended_can_be_drawn():
    unbounded = path((0.0, float("inf")), [[1.0, 2.0, 3.0], [5.0, float("nan"), float("nan")]], "weight.2->1")
    with figure_style():
        axes = plot_trajectories([unbounded], "#0072b2").axes[0]
    assert np.isfinite(axes.get_ylim()).all()
    assert axes.get_title("left") == "weight.2 → 1"
    assert mean_trajectory(unbounded).tolist() == [1.0, 2.0, 3.0]
    (end,) = path_ends([unbounded])
    assert (end.whole, end.start, end.mean, end.at_bound) == (1, 1.0, 3.0, 0)


def test_ends_at_a_bound_are_counted():
    (end,) = path_ends([path((0.1, 10.0), [[1.0, 10.0], [2.0, 0.1], [3.0, 3.0]])])
    assert (end.whole, end.at_bound, end.low, end.high) == (3, 2, 0.1, 10.0)


def test_times_read_in_the_unit_that_fits():
    assert [wording.short_time(s) for s in (4.5e-4, 0.00231, 0.0231, 1.2, 59.0, 61.0)] == [
        *("450 µs", "2.31 ms", "23.1 ms", "1.20 s", "59.0 s", "1 min 1 s")
    ]
