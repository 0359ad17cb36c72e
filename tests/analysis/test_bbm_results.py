"""Block-by-block matching: what is worked out of trials, before anything is drawn or written."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import synthetic_bbm
from scipy import stats

from kdsearch.analysis.bbm_layers import best_match, is_causal, over_equal, uniform_reach
from kdsearch.analysis.bbm_methods import mean_over_seeds
from kdsearch.analysis.bbm_scores import GIVEN, VALIDATION, last_values, table_trials
from kdsearch.analysis.bbm_search import search_result
from kdsearch.analysis.bbm_story import MAIN
from kdsearch.analysis.bbm_study import MADE_UP, Study, analyse_bbm
from kdsearch.analysis.bbm_tables import layer_arrays
from kdsearch.analysis.paired import paired_table
from kdsearch.analysis.record import SweepRecord


def study_of(*records: SweepRecord) -> Study:
    studies = analyse_bbm(records).studies
    assert len(studies) == 1
    return studies[0]


def scores(record: SweepRecord, method: str, metric: str = "test_challenge") -> list[float]:
    """Last values of a method's complete final trials by run, straight from trials and curves."""
    trials = record.trials
    own = trials[(trials["method"] == method) & (trials["state"] == "complete")].sort_values("run")
    curves = record.curves
    found = []
    for number, last in zip(own["number"], own["last_epoch"], strict=True):
        rows = curves[(curves["trial"] == number) & (curves["metric"] == metric) & (curves["epoch"] == last)]
        found.append(float(rows["value"].iloc[0]))
    return found


@pytest.fixture(scope="module")
def record() -> SweepRecord:
    return synthetic_bbm.study(seeds=4)


@pytest.fixture(scope="module")
def study(record) -> Study:
    return study_of(record)


def test_a_mean_has_students_interval():
    found = mean_over_seeds([0.5, 0.6, np.nan, 0.7], alpha=0.05)
    assert (found.n, found.mean, found.spread) == (3, pytest.approx(0.6), pytest.approx(0.1))
    half = stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert (found.low, found.high) == (pytest.approx(0.6 - half), pytest.approx(0.6 + half))


@pytest.mark.parametrize(
    ("values", "n", "mean", "spread"),
    [
        *[([], 0, None, None), ([np.nan], 0, None, None), ([0.5], 1, 0.5, None), ([0.5, 0.5], 2, 0.5, 0.0)],
        ([0.25, 0.75], 2, 0.5, pytest.approx(np.sqrt(0.125))),
        ([0.5] * 3, 3, 0.5, 0.0),
    ],
)
def test_a_mean_of_too_few_or_equal_values_has_no_interval(values, n, mean, spread):
    found = mean_over_seeds(values, alpha=0.05)
    assert (found.n, found.mean, found.spread, found.low, found.high) == (n, mean, spread, None, None)


def test_rows_are_in_the_papers_order_with_the_given_teacher_last(study):
    assert [row.name for row in study.rows] == ["transformer", "teacher", "deit", "bbm", GIVEN]
    assert [row.given for row in study.rows] == [False] * 4 + [True]


def test_means_are_of_the_last_epochs_of_final_trials(record, study):
    for row in study.rows[:4]:
        own = scores(record, row.name)
        assert row.scores[MAIN].tolist() == own
        assert row.mean(MAIN).mean == pytest.approx(np.mean(own))
        assert row.mean(MAIN).spread == pytest.approx(np.std(own, ddof=1))
        judged = 1 - np.array(scores(record, row.name, "val_error")) / 100
        assert row.mean("val_objective").mean == pytest.approx(judged.mean())


def test_test_scores_of_earlier_epochs_and_of_trials_that_search_are_never_used(record):
    number = int(record.trials.loc[record.trials["method"] == "bbm", "number"].iloc[0])
    early = pd.DataFrame(
        {"trial": [number], "node": 1, "metric": "test_challenge", "epoch": 3, "value": 0.99}
    )
    curves = record.curves
    late = curves[~((curves["trial"] == number) & (curves["metric"] == "test_challenge"))]
    moved = replace(record, curves=pd.concat([late, early], ignore_index=True))
    bbm = next(row for row in study_of(moved).rows if row.name == "bbm")
    assert bbm.mean(MAIN).n == 3
    assert 0.99 not in bbm.scores[MAIN]

    unsure = record.trials.assign(final=record.trials["final"] & (record.trials["number"] != number))
    bbm = next(row for row in study_of(replace(record, trials=unsure)).rows if row.name == "bbm")
    assert bbm.runs == (1, 2, 3)


def test_differences_are_paired_by_run_and_corrected_over_both_references(record, study):
    found = {(one.method, one.reference): one.paired for one in study.differences if one.score == MAIN}
    assert list(found) == [
        ("teacher", "transformer"),
        ("deit", "transformer"),
        ("bbm", "transformer"),
        ("deit", "teacher"),
        ("bbm", "teacher"),
    ]
    pairs = [(scores(record, method), scores(record, base)) for method, base in found]
    assert list(found.values()) == list(paired_table(pairs, alpha=0.05, seed=record.seed))
    assert found["bbm", "transformer"].p == 2 / 2**4
    assert found["bbm", "transformer"].p_holm == 5 * 2 / 2**4


def test_runs_that_one_of_two_methods_lacks_are_left_out_of_their_pairs():
    endings = {("bbm", 0): "diverged", ("transformer", 2): "running"}
    study = study_of(synthetic_bbm.study(seeds=4, endings=endings, lost={("teacher", 3): ["test_challenge"]}))
    found = {
        (one.method, one.reference): (one.paired.n, one.paired.left_out)
        for one in study.differences
        if one.score == MAIN
    }
    assert found["bbm", "transformer"] == (2, 2)
    assert found["bbm", "teacher"] == (2, 2)
    assert found["deit", "transformer"] == (3, 1)
    rows = {row.name: row for row in study.rows}
    assert rows["bbm"].unlucky == {"diverged": 1}
    assert rows["transformer"].unlucky == {"running": 1}
    assert (rows["teacher"].n, rows["teacher"].mean(MAIN).n, rows["teacher"].mean("test_f1").n) == (4, 3, 4)


def test_sweeps_on_the_same_records_stand_in_one_table():
    apart = [synthetic_bbm.study(name=name, methods=(name,), seed=7) for name in ("transformer", "bbm")]
    study = study_of(*apart)
    assert [row.name for row in study.rows][:2] == ["transformer", "bbm"]
    assert next((one.method, one.reference, one.paired.n) for one in study.differences) == (
        "bbm",
        "transformer",
        3,
    )
    assert [row.name for row in study.rows][2:] == [GIVEN]


def test_chosen_and_best_are_told_by_what_they_train():
    records = []
    for name in ("transformer", "bbm"):
        record = synthetic_bbm.study(name=f"ehr-{name}", methods=(name,), given=False)
        records.append(replace(record, trials=record.trials.assign(method="chosen")))
    assert [row.name for row in study_of(*records).rows] == ["transformer", "bbm"]


def test_one_method_of_two_sweeps_is_told_apart_and_other_seeds_are_said():
    one, other = (synthetic_bbm.study(name=name, methods=("bbm",), given=False) for name in ("a", "b"))
    other = replace(other, trials=other.trials.assign(seed=other.trials["seed"] + 50))
    study = study_of(one, other)
    assert [row.name for row in study.rows] == ["bbm (a)", "bbm (b)"]
    assert "do not all have the same training seed" in study.notes[0]
    assert not study_of(one).notes


@pytest.mark.parametrize("other", [{"data": "physionet2021"}, {"notes": (f"The records of X {MADE_UP}.",)}])
def test_sweeps_on_other_records_are_studies_of_their_own(record, other):
    report = analyse_bbm([record, synthetic_bbm.study(name="other", methods=("bbm",), **other)])
    assert [len(study.records) for study in report.studies] == [1, 1]


def test_sweeps_on_other_files_of_the_same_name_are_studies_of_their_own():
    """Of 4,000 patients and of 40,000, say."""
    few, many, more = (
        replace(synthetic_bbm.study(name=name, methods=(name,), seeds=2), content=content)
        for name, content in (("transformer", "few"), ("bbm", "many"), ("deit", "many"))
    )
    report = analyse_bbm([few, many, more])
    assert [study.records for study in report.studies] == [(few,), (many, more)]
    assert [study.title for study in report.studies] == ["PhysioNet 2019, set 1", "PhysioNet 2019, set 2"]
    names = np.load(io.BytesIO(layer_arrays(report))).files
    assert {name.split("/")[0] for name in names} == {study.title for study in report.studies}
    assert study_of(many, more).title == "PhysioNet 2019"


def reused(record: SweepRecord, **changes) -> SweepRecord:
    """The same sweep, whose teacher was found trained: it has its result, but no epochs."""
    trials = record.trials
    first = trials["role"] == "pretrain"
    told = {"message": "reused: trained as trial 0 of sweep transformer", **changes}
    trials = trials.assign(**{key: trials[key].mask(first, value) for key, value in told.items()})
    return replace(record, trials=trials, curves=record.curves[record.curves["trial"] != 0])


def test_a_teacher_of_several_sweeps_has_one_row_that_of_its_training():
    one, other = (synthetic_bbm.study(name=name, methods=(name,)) for name in ("transformer", "bbm"))
    expected = study_of(one).rows[-1]
    for records in ((one, reused(other)), (reused(other), one)):
        study = study_of(*records)
        (row,) = [row for row in study.rows if row.given]
        assert (row.name, row.mean(VALIDATION)) == (GIVEN, expected.mean(VALIDATION))
        assert study.teachers == 1


@pytest.mark.parametrize("changes", [{"seed": 8}, {"error": 36.0}])
def test_teachers_that_differ_have_a_row_each(changes):
    one, other = (synthetic_bbm.study(name=name, methods=(name,)) for name in ("transformer", "bbm"))
    other = replace(other, trials=reused(other, **changes).trials)
    study = study_of(one, other)
    assert [row.name for row in study.rows][2:] == [f"{GIVEN} ({name})" for name in ("transformer", "bbm")]
    assert study.teachers == 2


def test_a_teacher_without_a_value_has_no_row_but_counts(record):
    study = study_of(reused(record))
    assert not any(row.given for row in study.rows)
    assert study.teachers == 1


def test_a_teacher_that_failed_keeps_its_row(record):
    rows = study_of(reused(record, state="failed")).rows
    assert [row.unlucky for row in rows if row.given] == [{"failed": 1}]


def test_blocks_are_compared_with_the_fewest():
    blocks = {"bbm 1": 1, "bbm": 3}
    record = synthetic_bbm.study(methods=("transformer", "bbm", "bbm 1"), blocks=blocks)
    found = study_of(record).blocks
    assert [row.name for row in found.rows] == ["1 block", "3 blocks"]
    assert found.alike
    first = found.differences[0]
    assert (first.method, first.reference, first.score) == ("3 blocks", "1 block", MAIN)
    gain = np.mean(scores(record, "bbm")) - np.mean(scores(record, "bbm 1"))
    assert first.paired.mean == pytest.approx(gain)
    rates = record.trials["number"].to_numpy() * 1e-3
    assert not study_of(replace(record, trials=record.trials.assign(learning_rate=rates))).blocks.alike


def test_one_number_of_blocks_is_no_ablation(study):
    assert study.blocks is None


def test_layers_are_averaged_over_runs_without_what_is_not_finite(record):
    numbers = record.trials.loc[record.trials["method"] == "bbm", "number"].tolist()
    arrays = {key: values.copy() for key, values in record.arrays.items()}
    arrays[numbers[0], "cka"][0, 0] = np.nan
    arrays[numbers[1], "cka"] = np.ones((2, 5), dtype=np.float32)  # another shape
    arrays[numbers[2], "cka"][:] = np.nan
    found = next(one for one in study_of(replace(record, arrays=arrays)).cka if one.method == "bbm")
    assert (found.runs, found.left_out) == (2, 2)
    assert found.mean[0, 0] == pytest.approx(float(arrays[numbers[3], "cka"][0, 0]))
    assert np.isnan(found.spread[0, 0])
    pair = np.stack([arrays[numbers[0], "cka"], arrays[numbers[3], "cka"]]).astype(np.float64)
    np.testing.assert_allclose(found.mean[1:], pair.mean(axis=0)[1:])
    np.testing.assert_allclose(found.spread[1:], pair.std(axis=0, ddof=1)[1:])


def test_best_match_is_the_highest_of_each_row():
    found = best_match(np.array([[0.1, 0.9], [np.nan, 0.2], [np.nan, np.nan]]))
    np.testing.assert_array_equal(found, [0.9, 0.2, np.nan])


def test_uniform_attention_reaches_as_far_as_its_formula():
    places = np.arange(40)
    assert uniform_reach(40) == pytest.approx(np.abs(np.subtract.outer(places, places)).mean())


def test_causal_attention_is_recognised():
    full = np.full((2, 5, 5), 0.2)
    assert not is_causal(full)
    assert is_causal(np.tril(full))


def test_equal_attention_is_one_wherever_a_query_may_look():
    np.testing.assert_allclose(over_equal(np.full((2, 5, 5), 0.2)), 1.0)
    causal = np.tril(np.ones((5, 5))) / np.arange(1, 6)[:, None]
    found = over_equal(causal[None])[0]
    np.testing.assert_allclose(found[np.tril_indices(5)], 1.0)
    assert np.isnan(found[np.triu_indices(5, 1)]).all()


def test_reach_is_by_unit_of_the_last_epoch(record, study):
    values = last_values(record)
    numbers = record.trials.loc[record.trials["method"] == "bbm", "number"]
    found = next(one for one in study.reach if one.method == "bbm")
    for unit, block in enumerate(found.blocks, start=1):
        assert block.mean == pytest.approx(values.loc[numbers, f"attention_distance.{unit}"].mean())
    assert found.mean == pytest.approx(np.mean([block.mean for block in found.blocks]))
    elsewhere = next(one for one in study.reach_elsewhere if one.method == "bbm")
    assert elsewhere.mean == pytest.approx(1.2 * found.mean)


def test_units_are_ordered_by_number_not_by_name():
    record = synthetic_bbm.study(methods=("bbm",), seeds=1)
    number = int(record.trials["number"].iloc[-1])
    told = [(number, 0, f"attention_distance.{unit}", 12, float(unit)) for unit in range(1, 13)]
    curves = pd.DataFrame(told, columns=record.curves.columns)
    kept = record.curves[~record.curves["metric"].str.startswith("attention")]
    (reach,) = study_of(replace(record, curves=pd.concat([kept, curves]))).reach
    assert [block.mean for block in reach.blocks] == [float(unit) for unit in range(1, 13)]


def test_curves_are_means_and_ranges_of_runs_that_ended():
    record = synthetic_bbm.study(methods=("bbm",), endings={("bbm", 1): "failed"})
    (curve,) = [one for one in study_of(record).curves if one.method == "bbm"]
    numbers = record.trials.loc[record.trials["method"] == "bbm", "number"].tolist()
    rows = record.curves[(record.curves["metric"] == "val_error") & (record.curves["epoch"] == 4)]
    own = 1 - rows[rows["trial"].isin([numbers[0], numbers[2]])]["value"] / 100
    at = curve.epochs.tolist().index(4)
    assert (curve.runs, curve.n[at]) == (2, 2)
    assert curve.mean[at] == pytest.approx(own.mean())
    assert (curve.low[at], curve.high[at]) == (pytest.approx(own.min()), pytest.approx(own.max()))


def test_a_search_finds_the_best_of_those_that_ended():
    record = synthetic_bbm.search(trials=24)
    found = search_result(record)
    done = record.trials[record.trials["state"] == "complete"]
    done = done[done["role"] == "search"]
    ends = last_values(record, ["val_error"])["val_error"].reindex(done["number"])
    assert [one.number for one in found.best] == ends.sort_values().index[:5].tolist()
    assert found.best[0].error == pytest.approx(ends.min())
    assert set(found.best[0].parameters) == set(synthetic_bbm.SPACE["parameters"])
    assert found.logarithmic == {"learning_rate", "lambda"}
    assert sum(found.states.values()) == found.trials == 24


def test_rungs_count_what_was_judged_and_stopped():
    record = synthetic_bbm.search(trials=24)
    found = search_result(record)
    for rung in found.rungs:
        own = record.rungs[record.rungs["rung"] == rung.epoch]
        assert (rung.reached, rung.stopped) == (len(own), int(own["stopped"].sum()))
        assert rung.best == own["value"].min()
        assert rung.cutoff == own["cutoff"].iloc[-1]
    kept = search_result(synthetic_bbm.search(trials=24, decisions=False))
    stopped = {rung.epoch: rung.stopped for rung in found.rungs if rung.stopped}
    assert {rung.epoch: rung.stopped for rung in kept.rungs} == stopped
    assert all(rung.reached is None for rung in kept.rungs)


def test_a_trial_that_is_judged_again_at_a_rung_counts_once():
    record = synthetic_bbm.search(trials=10)
    again = pd.concat([record.rungs, record.rungs.iloc[:1]], ignore_index=True)
    assert search_result(replace(record, rungs=again)).rungs[0].reached == 10


def test_final_trials_are_no_search(record):
    assert search_result(record) is None


def test_scores_that_nobody_reported_are_nothing(record):
    bare = record.curves[record.curves["metric"].isin(["train_loss"])]
    table = table_trials(replace(record, curves=bare))
    assert table["test_challenge"].isna().all()
    study = study_of(replace(record, curves=bare, arrays={}))
    assert all(row.mean(MAIN).n == 0 for row in study.rows)
    assert (study.differences, study.curves, study.cka, study.reach) == ((), (), (), ())
