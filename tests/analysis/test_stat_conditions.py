from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdsearch.analysis.auc import auc
from kdsearch.analysis.comparison import auc_difference, holm
from kdsearch.analysis.conditions import PERMUTATION_LIMIT, condition_table
from kdsearch.analysis.permutation import permutation_p
from kdsearch.analysis.power import n_needed
from kdsearch.analysis.samples import StatisticsError
from kdsearch.spaces.errors import UnknownNameError

GROUPS = {"models": ["a", "b", "c"], "edges": ["p", "q"]}


def sample(n, rng, gain=0.0):
    """Errors and labels; condition models = a is better by `gain`."""
    labels = {
        "models": rng.choice(GROUPS["models"], n).tolist(),
        "edges": rng.choice(GROUPS["edges"], n).tolist(),
    }
    return rng.normal(40, 5, n) - gain * (np.array(labels["models"]) == "a"), labels


def test_a_row_says_what_its_parts_say():
    rng = np.random.default_rng(0)
    errors, labels = sample(60, rng)
    weights = rng.integers(1, 4, 60)
    rows = condition_table(errors, weights, labels, GROUPS, a=10, tau=60, seed=1)
    assert [(row.group, row.value) for row in rows] == [
        (g, v) for g, values in GROUPS.items() for v in values
    ]
    assert [row.p_holm for row in rows] == pytest.approx(holm([row.p for row in rows]))
    order = sorted(range(5), key=lambda i: rows[i].p)
    for row in rows:
        member = np.array(labels[row.group]) == row.value
        own, rest = (auc(errors[side], weights[side], a=10, tau=60) for side in (member, ~member))
        assert (row.auc, row.rest_auc, row.difference) == pytest.approx((own, rest, own - rest))
        assert (row.n, row.trials) == (weights[member].sum(), member.sum())
        assert row.low < row.auc < row.high
        scores = np.clip(60 - errors, 0, 50) / 50
        p = permutation_p(scores[member], scores[~member], weights[member], weights[~member], rng=rng)
        assert row.p == pytest.approx(p, abs=0.025)
        assert row.method == "permutation"
        welch = auc_difference(
            errors[member], errors[~member], weights[member], weights[~member], a=10, tau=60
        )
        level = 0.05 / (5 - order.index(rows.index(row)))
        if not row.decided and level != 0.025:  # the two rows of `edges` tie for their rank
            # the spread that p speaks of, where it is more than the standard error's
            spread = max(welch.standard_error, abs(welch.value) / stats.norm.isf(row.p / 2))
            assert row.n_needed == n_needed(welch.value, spread, weights.sum(), alpha=level)


def test_table_is_the_same_for_the_same_seed_and_rows_do_not_depend_on_other_rows():
    errors, labels = sample(50, np.random.default_rng(2))
    assert condition_table(errors, None, labels, GROUPS, seed=3) == condition_table(
        errors, None, labels, GROUPS, seed=3
    )
    alone = condition_table(errors, None, labels, {"edges": GROUPS["edges"]}, seed=3)
    both = condition_table(errors, None, labels, GROUPS, seed=3)[3:]
    assert [(r.auc, r.low, r.high) for r in alone] == [(r.auc, r.low, r.high) for r in both]


def test_a_clear_difference_is_decided_and_needs_nothing_more():
    errors, labels = sample(120, np.random.default_rng(4), gain=8)
    row = condition_table(errors, None, labels, GROUPS, seed=0)[0]
    assert row.decided
    assert row.difference > 0
    assert row.n_needed is None
    assert 0 < row.p <= row.p_holm <= 0.05


def test_conditions_without_enough_trials_have_no_interval_and_no_p():
    errors = [30.0, 31.0, 32.0, 33.0, 36.0]
    labels = {"models": ["a", "a", "a", "a", "b"]}
    a, b, c = condition_table(errors, [1, 1, 1, 1, 6], labels, {"models": ["a", "b", "c"]}, seed=0)
    assert (c.n, c.trials, c.auc, c.low, c.p, c.p_holm, c.n_needed, c.decided) == (0, 0) + (None,) * 5 + (
        False,
    )
    assert c.rest_auc == pytest.approx(auc(errors, [1, 1, 1, 1, 6]))
    assert (b.n, b.trials, b.auc, b.low, b.high, b.p) == (6, 1, 64, None, None, None)
    assert a.low is not None
    assert (a.p, a.n_needed) == (None, None)  # its rest is one trial


def test_an_empty_rest_leaves_nothing_to_compare():
    (row,) = condition_table([30.0, 40.0, 50.0], None, {"models": ["a"] * 3}, {"models": ["a"]}, seed=0)
    assert (row.auc, row.rest_auc, row.difference, row.p, row.decided) == (60, None, None, None, False)
    assert row.low < 60 < row.high
    assert condition_table([], None, {"models": []}, {"models": ["a"]}, seed=0)[0].auc is None


def test_equal_scores_everywhere_give_p_one():
    labels = {"models": ["a", "b"] * 20}
    for n_scores in ([35.1] * 40, [100.0] * 40):
        rows = condition_table(n_scores, None, labels, {"models": ["a", "b"]}, seed=0)
        assert [(row.p, row.p_holm, row.decided, row.n_needed) for row in rows] == [(1, 1, False, None)] * 2
        assert all(row.low == row.high == row.auc for row in rows)


def test_large_conditions_are_tested_without_shuffling():
    rng = np.random.default_rng(5)
    errors, labels = sample(4 * PERMUTATION_LIMIT, rng)
    rows = condition_table(errors, None, labels, GROUPS, seed=0)
    assert {row.method for row in rows} == {"welch-hall"}
    for row in rows:
        member = np.array(labels[row.group]) == row.value
        p = permutation_p(100 - errors[member], 100 - errors[~member], rng=rng)
        assert row.p == pytest.approx(p, abs=0.03)


def test_small_alpha_gets_the_shuffles_to_be_reached():
    errors, labels = sample(90, np.random.default_rng(6), gain=9)
    row = condition_table(errors, None, labels, GROUPS, seed=0, alpha=0.0005, resamples=999)[0]
    assert row.p < 1 / 1000
    assert row.decided


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([30.0, 40.0, 100.0]),
            st.integers(1, 3),
            st.sampled_from("ab"),
            st.sampled_from("pq"),
        ),
        max_size=14,
    ),
    st.integers(0, 2**32),
)
def test_any_table_is_consistent(trials, seed):
    errors, weights, models, edges = zip(*trials, strict=True) if trials else ((), (), (), ())
    labels = {"models": models, "edges": edges}
    rows = condition_table(errors, weights, labels, {"models": "ab", "edges": "pq"}, seed=seed, resamples=199)
    for row in rows:
        assert (row.auc is None) == (row.n == 0)
        assert (row.low is None) == (row.trials < 2)
        assert (row.p is None) == (min(row.trials, len(trials) - row.trials) < 2)
        if row.p is not None:
            assert 0 < row.p <= row.p_holm <= 1
            assert row.decided == (row.p_holm <= 0.05)
            assert not (row.decided and row.n_needed)
        if row.low is not None:
            assert 0 <= row.low <= row.high <= 100
    assert all(
        isinstance(value, str | int | float | bool | None) for row in rows for value in asdict(row).values()
    )


def test_what_does_not_fit_together_is_refused():
    labels = {"models": ["a", "b"]}
    with pytest.raises(UnknownNameError, match="condition group 'edges'"):
        condition_table([1.0, 2.0], None, labels, {"edges": ["p"]}, seed=0)
    with pytest.raises(UnknownNameError, match="value 'b' in models"):
        condition_table([1.0, 2.0], None, labels, {"models": ["a"]}, seed=0)
    with pytest.raises(StatisticsError, match="models: there are 3 errors"):
        condition_table([1.0, 2.0, 3.0], None, labels, {"models": ["a", "b"]}, seed=0)
    with pytest.raises(StatisticsError, match="min_n"):
        condition_table([1.0, 2.0], None, labels, {"models": ["a", "b"]}, seed=0, min_n=1)


@pytest.mark.simulation
def test_holm_keeps_the_error_rate_of_the_whole_table():
    rng = np.random.default_rng(7)
    groups = {**GROUPS, "label": list("uvwxyz")}

    def any_decided():
        errors, labels = sample(50, rng)
        errors[rng.random(50) < 0.08] = 100
        labels["label"] = rng.choice(groups["label"], 50).tolist()
        seed = int(rng.integers(2**31))
        return any(
            row.decided for row in condition_table(errors, None, labels, groups, seed=seed, resamples=1999)
        )

    wrong = sum(any_decided() for _ in range(300))
    assert stats.binomtest(wrong, 300, 0.05, alternative="greater").pvalue > 0.01
