import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdsearch.analysis.conditions import condition_table
from kdsearch.analysis.samples import StatisticsError
from kdsearch.analysis.sequential import AlphaPlan

plans = st.builds(
    AlphaPlan,
    alpha=st.floats(0.001, 0.5),
    steps=st.integers(1, 8),
    looks=st.integers(1, 12),
    rho=st.floats(0.5, 4),
)


@given(plans)
def test_levels_of_all_looks_at_all_steps_sum_to_alpha(plan):
    assert sum(plan.levels) * plan.steps == pytest.approx(plan.alpha)
    assert all(level > 0 for level in plan.levels)


def test_even_spending_gives_every_look_the_same_and_rho_saves_for_later():
    assert AlphaPlan(alpha=0.06, steps=3, looks=4).levels == pytest.approx([0.005] * 4)
    # (l / 3)^2 spends 1/9, 4/9, 9/9
    assert AlphaPlan(alpha=0.09, looks=3, rho=2).levels == pytest.approx([0.01, 0.03, 0.05])
    assert AlphaPlan().level(1) == 0.05


def test_unplanned_looks_are_refused():
    plan = AlphaPlan(looks=2)
    for look in (0, 3):
        with pytest.raises(StatisticsError, match="not planned"):
            plan.level(look)
    with pytest.raises(StatisticsError, match="cannot be divided"):
        AlphaPlan(steps=0)


@pytest.mark.simulation
def test_looking_at_a_fixed_level_decides_too_often_and_spending_does_not():
    # One comparison, no true difference, five looks at 40, 80, ..., 200 trials a side; 20,000 repeats.
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 1, (2, 20_000, 200))
    ends = np.arange(40, 201, 40)
    p = np.stack([stats.ttest_ind(x[:, :n], y[:, :n], axis=1).pvalue for n in ends], axis=1)
    naive = np.mean((p <= 0.05).any(axis=1))
    assert naive == pytest.approx(0.142, abs=0.01)  # Armitage, McPherson & Rowe 1969, table 2: 5 looks at .05
    for rho in (1, 2):
        spent = np.mean((p <= AlphaPlan(looks=5, rho=rho).levels).any(axis=1))
        assert 0.02 < spent < 0.05


GROUPS = {"models": ["a", "b", "c"], "label": list("uvwxyz"), "edges": ["p", "q", "r"], "target": ["0", "1"]}
SHARES = {"models": [1, 2, 1], "label": [1, 2, 2, 1, 2, 1], "edges": [1, 1, 1], "target": [1, 1]}


def deciding_refinements(plan, draws, rng, repeats, resamples=999):
    """Share of refinements, without any true difference, in which some look at some step decides something.

    At each look the step has draws more trials; 8 per cent of them diverge. A step ends at its first decision; the
    next one starts with fresh draws, which is the harder case for the level.
    """

    def step_decides():
        size = plan.looks * draws
        errors = np.where(rng.random(size) < 0.08, 100.0, rng.normal(35, 4, size))
        labels = {g: rng.choice(v, size, p=np.array(SHARES[g]) / sum(SHARES[g])) for g, v in GROUPS.items()}
        for look in range(1, plan.looks + 1):
            upto = slice(look * draws)
            rows = condition_table(
                errors[upto],
                None,
                {g: v[upto] for g, v in labels.items()},
                GROUPS,
                alpha=plan.level(look),
                seed=int(rng.integers(2**31)),
                resamples=resamples,
            )
            if any(row.decided for row in rows):
                return True
        return False

    return np.mean([any(step_decides() for _ in range(plan.steps)) for _ in range(repeats)])


@pytest.mark.simulation
def test_a_whole_refinement_decides_wrongly_no_more_often_than_alpha():
    found = deciding_refinements(AlphaPlan(alpha=0.1, steps=2, looks=3), 40, np.random.default_rng(2), 60)
    assert stats.binomtest(round(60 * found), 60, 0.1, alternative="greater").pvalue > 0.01
