from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import synthetic
from synthetic_methods import BOUNDS, METHODS, comparison, of_one_method

from kdsearch.analysis.methods import compare, trajectories
from kdsearch.analysis.paired import mean_interval, paired_table


@pytest.fixture(scope="module")
def record():
    return comparison()


@pytest.fixture(scope="module")
def compared(record):
    return compare(record)


def finals(record, method):
    trials = record.trials
    return trials[(trials["method"] == method) & trials["final"]].sort_values("run")


def with_trials(record, change):
    trials = record.trials.copy()
    change(trials)
    return replace(record, trials=trials)


def by_name(compared):
    return {row.name: row for row in compared.rows}


def test_rows_stand_in_the_order_of_the_sweep_file_without_the_studies_of_periods(compared):
    assert [row.name for row in compared.rows] == list(METHODS)
    assert compared.reference == "naive"
    assert compared.tested
    assert compared.alpha == 0.05


def test_a_row_is_made_of_the_final_trials_alone(record, compared):
    for name, row in by_name(compared).items():
        trials = finals(record, name)
        expected = np.where(trials["state"] == "complete", 100 - trials["error"], 0.0)
        expected = expected[(trials["state"] != "running").to_numpy()]
        np.testing.assert_allclose(row.accuracies, expected)
        assert row.mean == pytest.approx(expected.mean())
        assert row.spread == pytest.approx(np.std(expected, ddof=1))
        assert (row.low, row.high) == (expected.min(), expected.max())
        assert row.trials_per_run == (6 if name.startswith("tpe") else 1)


def test_diverged_failed_and_unfinished_runs_are_counted(record, compared):
    rows = by_name(compared)
    assert (rows["random"].diverged, rows["random"].failed, rows["random"].runs) == (1, 0, 10)
    assert (rows["gradient"].diverged, rows["gradient"].failed) == (0, 1)
    assert rows["gradient"].low == 0
    assert (rows["prediction"].runs, rows["prediction"].unfinished) == (9, 1)
    assert rows["prediction"].numbers == tuple(range(9))
    worse = compare(replace(record, diverged_error=400.0))  # no accuracy is below 0
    assert [row.mean for row in worse.rows] == [row.mean for row in compare(record).rows]
    chance = compare(replace(record, diverged_error=90.0))
    assert by_name(chance)["gradient"].low == pytest.approx(10)


def test_pairs_are_matched_by_run_and_corrected_together(record, compared):
    rows = by_name(compared)
    assert rows["naive"].difference is None
    plain = rows["naive"].accuracies
    names = [name for name in METHODS if name != "naive"]
    expected = paired_table([(rows[name].accuracies, plain[: rows[name].runs]) for name in names])
    for name, difference in zip(names, expected, strict=True):
        found = rows[name].difference
        assert replace(found, left_out=0) == difference
    assert rows["prediction"].difference.n == 9
    assert rows["prediction"].difference.left_out == 1
    assert any("prediction (9 pairs)" in note for note in compared.notes)


def test_a_run_that_the_reference_lacks_drops_its_pair_in_every_method(record):
    trials = record.trials
    lacking = (trials["method"] == "naive") & (trials["run"] == 0)
    rows = by_name(compare(with_trials(record, lambda t: t.loc.__setitem__((lacking, "state"), "lost"))))
    assert rows["naive"].numbers == tuple(range(1, 10))
    assert rows["prediction"].difference.n == 8
    assert rows["prediction"].difference.left_out == 2
    expected = rows["none"].accuracies[1:] - rows["naive"].accuracies
    assert rows["none"].difference.mean == pytest.approx(expected.mean())


def test_the_order_of_the_trials_does_not_matter(record, compared):
    shuffled = replace(record, trials=record.trials.sample(frac=1, random_state=0).reset_index(drop=True))
    for one, other in zip(compared.rows, compare(shuffled).rows, strict=True):
        np.testing.assert_array_equal(one.accuracies, other.accuracies)
        assert one.difference == other.difference


def test_a_complete_trial_without_a_finite_error_counts_as_diverged(record):
    chosen = (record.trials["method"] == "none") & (record.trials["run"] == 4)
    row = by_name(compare(with_trials(record, lambda t: t.loc.__setitem__((chosen, "error"), np.nan))))[
        "none"
    ]
    assert row.diverged == 1
    assert row.accuracies[4] == 0


def test_curves_end_at_the_means_of_the_table(compared):
    for row, curve in zip(compared.rows, compared.curves, strict=True):
        assert curve.method == row.name
        assert curve.runs == row.runs
        np.testing.assert_array_equal(curve.epochs, np.arange(1, 13))
        assert curve.mean[-1] == pytest.approx(row.mean)
        assert (curve.low[-1], curve.high[-1]) == pytest.approx(mean_interval(row.accuracies))
        assert ((curve.low <= curve.mean) & (curve.mean <= curve.high)).all()
        assert curve.low.min() >= 0


def test_a_diverged_run_counts_as_far_as_it_came(record, compared):
    numbers = finals(record, "random")["number"]
    told = record.curves[record.curves["metric"] == "test_error"]
    told = told[told["trial"].isin(numbers)].pivot_table(index="epoch", columns="trial", values="value")
    assert told.isna().sum().sum() == 6  # run 3 ended after epoch 6 of 12
    curve = compared.curves[list(METHODS).index("random")]
    np.testing.assert_allclose(curve.mean, 100 - told.fillna(100).mean(axis=1))


def test_one_run_has_neither_spread_nor_interval():
    compared = compare(comparison(runs=1, diverged=(), failed=(), missing=()))
    for row in compared.rows:
        assert row.spread is None
        assert row.difference is None or (row.difference.p, row.difference.low) == (None, None)
    assert all(np.isnan(curve.low).all() for curve in compared.curves)
    assert compared.equal_periods[0].low is None


def test_periods_are_ascending_and_the_method_itself_is_one_of_them(record, compared):
    assert [(point.e1, point.e2) for point in compared.equal_periods] == [(5, 5), (10, 10), (20, 20)]
    assert [(point.e1, point.e2) for point in compared.varied_e2] == [(10, 5), (10, 10), (10, 40)]
    own = by_name(compared)["prediction"]
    np.testing.assert_array_equal(compared.varied_e2[1].accuracies, own.accuracies)
    for point in (compared.equal_periods[0], compared.varied_e2[2]):
        trials = finals(record, f"prediction e1={point.e1} e2={point.e2}")
        assert point.method == "prediction"
        assert point.mean == pytest.approx((100 - trials["error"]).mean())
        assert (point.low, point.high) == pytest.approx(mean_interval(point.accuracies))
    without = compare(comparison(runs=2, periods=False, diverged=(), failed=(), missing=()))
    assert without.equal_periods == without.varied_e2 == ()


def test_trajectories_start_where_the_searcher_started(record, compared):
    found = {(path.method, path.metaparameter): path for path in compared.trajectories}
    assert list(found) == [(m, p) for m in ("gradient", "prediction") for p in ("lambda_1", "temperature")]
    path = found["gradient", "temperature"]
    trials = finals(record, "gradient")
    assert path.bounds == tuple(BOUNDS["temperature"])
    assert path.numbers == tuple(trials["number"])
    np.testing.assert_array_equal(path.epochs, np.arange(13))
    values = path.values  # noqa: PD011 - no frame
    np.testing.assert_allclose(values[:, 0], trials["temperature"])
    assert np.isnan(values[6]).sum() == 6  # run 6 failed after epoch 6
    last = record.curves[(record.curves["metric"] == "meta.temperature") & (record.curves["epoch"] == 12)]
    np.testing.assert_allclose(values[0, -1], last[last["trial"] == path.numbers[0]]["value"])


def test_trajectories_of_a_gradient_searcher_that_compares_nothing(record):
    alone = of_one_method(record, "gradient")
    assert compare(alone) is None
    found = trajectories(alone.trials, alone.curves)
    assert [(path.method, path.metaparameter) for path in found] == [
        ("gradient", "lambda_1"),
        ("gradient", "temperature"),
    ]
    assert len(found[0].values) == 10
    bare = alone.trials.drop(columns=["method", "run", "final"])
    np.testing.assert_array_equal(trajectories(bare, alone.curves)[0].values, found[0].values)


def test_metaparameters_that_only_some_trials_have_are_drawn_for_those(record):
    alone = of_one_method(record, "gradient")
    plan = alone.trials["plan"].iloc[0]
    optimiser = plan["optimiser"] | {"start": {"weight.2->1": 0.5}, "bounds": {"weight.2->1": [0, 1]}}
    trials = alone.trials.copy()
    trials["plan"] = [plan | {"optimiser": optimiser}, *trials["plan"].iloc[1:]]
    found = {path.metaparameter: path for path in trajectories(trials, alone.curves)}
    assert len(found["weight.2->1"].values) == 1
    assert len(found["lambda_1"].values) == 9


def test_costs_are_those_of_an_iteration_without_the_slow_first_epoch(compared):
    costs = {row.method: row for row in compared.costs}
    assert costs["naive"].ratio == 1
    assert costs["naive"].seconds == pytest.approx(0.010)  # with the first epoch it would be 0.0125
    greedy, prediction = costs["gradient"], costs["prediction"]
    assert (greedy.forward, greedy.backward, greedy.tangent) == pytest.approx((2, 2, 1))
    assert greedy.ratio == pytest.approx(3.4)
    assert (prediction.forward, prediction.backward, prediction.tangent) == pytest.approx((1.5, 1.5, 0.5))
    assert prediction.ratio == pytest.approx(2.2)


def test_costs_of_a_run_count_its_explorations_and_no_run_that_ended_early(record, compared):
    costs = {row.method: row for row in compared.costs}
    for name in ("naive", "tpe-optuna", "gradient"):
        trials = record.trials[record.trials["method"] == name]
        whole = trials.loc[trials["final"] & (trials["state"] == "complete"), "run"]
        seconds = trials.loc[trials["run"].isin(whole), "seconds"].sum() / len(whole)
        assert costs[name].run_seconds == pytest.approx(seconds)
        assert costs[name].run_ratio == pytest.approx(seconds / costs["naive"].run_seconds)
    assert costs["tpe-optuna"].run_ratio > 5


def test_packs_of_other_sizes_than_the_references_are_said(compared):
    costs = {row.method: row for row in compared.costs}
    assert (costs["naive"].members, costs["tpe-optuna"].members) == (5, 1)
    assert any("tpe-hyperopt with 1, tpe-optuna with 1" in note for note in compared.notes)


def test_a_trial_of_one_epoch_keeps_it():
    compared = compare(comparison(runs=2, epochs=1, diverged=(), failed=(), missing=(), periods=False))
    assert compared.costs[0].seconds == pytest.approx(0.040)


def test_validation_errors_are_taken_where_nothing_was_tested():
    compared = compare(comparison(runs=3, tested=False, diverged=(), failed=(), missing=(), periods=False))
    assert not compared.tested
    assert compared.curves[0].mean[-1] == pytest.approx(compared.rows[0].mean)


def test_a_comparison_without_its_reference_says_so(record):
    compared = compare(comparison(runs=3, methods=["none", "gradient"], diverged=(), failed=(), missing=()))
    assert all(row.difference is None for row in compared.rows)
    assert all(row.ratio is None for row in compared.costs)
    assert any("reference method naive" in note for note in compared.notes)


def test_a_sweep_that_has_just_begun_has_no_rows(record):
    def wait(trials):
        trials["state"] = "waiting"
        trials["error"] = np.nan

    began = compare(replace(with_trials(record, wait), curves=record.curves.iloc[:0]))
    assert began.rows == began.curves == began.costs == began.equal_periods == ()
    assert any("No run of none, naive" in note for note in began.notes)


def test_curves_with_categorical_metrics_as_the_database_gives_them(record, compared):
    categorical = replace(record, curves=record.curves.astype({"metric": "category"}))
    found = compare(categorical)
    assert found.costs == compared.costs
    np.testing.assert_array_equal(found.curves[0].mean, compared.curves[0].mean)


def test_other_sweeps_are_no_comparison(record):
    assert compare(synthetic.generic(trials=3)) is None
    assert compare(replace(record, trials=record.trials[~record.trials["final"]])) is None
    assert compare(replace(record, trials=record.trials.iloc[:0])) is None
    assert trajectories(pd.DataFrame({"number": []}), record.curves) == ()


def test_runs_that_all_end_alike_are_said_to_be_one_experiment():
    record = comparison()
    final = record.trials["final"] & (record.trials["method"] == "naive")
    trials = record.trials.assign(error=record.trials["error"].where(~final, 38.0))
    notes = compare(replace(record, trials=trials)).notes
    assert any("All runs of naive ended alike" in note for note in notes)
    assert not any("ended alike" in note for note in compare(record).notes)
