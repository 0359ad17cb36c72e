import pickle

import numpy as np
import pytest

from kdsearch.analysis.auc import auc
from kdsearch.analysis.edf import edf
from kdsearch.analysis.population import (
    PopulationError,
    Proposal,
    Schedule,
    TrialDesign,
    chance_error,
    count_outcomes,
    require_known_inclusion,
)
from kdsearch.analysis.samples import StatisticsError
from kdsearch.spaces.errors import UnknownNameError


def design(number, proposal=Proposal.RANDOM, schedule=Schedule.FULL_BUDGET, probability=1.0):
    return TrialDesign(number=number, proposal=proposal, schedule=schedule, probability=probability)


def test_random_draws_and_enumeration_weigh_one_and_random_promotion_one_over_p():
    designs = [
        design(0),
        design(1, Proposal.ENUMERATION),
        design(2, schedule=Schedule.RANDOM_PROMOTION, probability=0.1),
        design(3, schedule=Schedule.RANDOM_PROMOTION),
    ]
    assert require_known_inclusion(designs) == pytest.approx([1, 1, 10, 1])
    assert require_known_inclusion([]).size == 0


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (design(7, Proposal.TPE), "TPE proposes where errors were low before"),
        (design(7, schedule=Schedule.ASHA), "ASHA trains to the end only what led early on"),
        (design(7, Proposal.QMC), "quasi-random points depend on one another"),
        (design(7, Proposal.CMA_ES), "CMA-ES moves where errors were low before"),
        (design(7, Proposal.OTHER), "a searcher of another package proposed them"),
        (design(7, Proposal.GRADIENT), "gradient steps walk downhill"),
        (design(7, Proposal.PERSON), "a person chose"),
    ],
)
def test_trials_of_unknown_inclusion_are_refused_with_the_reason(bad, why):
    with pytest.raises(
        PopulationError, match=f"1 of 3 trials \\(7\\) do not belong in an EDF: {why}"
    ) as caught:
        require_known_inclusion([design(0), bad, design(1)])
    assert "searcher: {kind: random" in caught.value.hint
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_every_reason_is_told_and_numbers_are_cut_short():
    designs = [design(i, Proposal.TPE, Schedule.ASHA) for i in range(9)]
    with pytest.raises(PopulationError, match=r"9 of 9 trials \(0, 1, 2, 3, 4, \.\.\.\)") as caught:
        require_known_inclusion(designs)
    assert "TPE" in caught.value.message
    assert "ASHA" in caught.value.message


@pytest.mark.parametrize(
    "bad",
    [
        design(4, probability=0.5),
        design(4, schedule=Schedule.RANDOM_PROMOTION, probability=0.0),
        design(4, schedule=Schedule.RANDOM_PROMOTION, probability=float("nan")),
    ],
)
def test_impossible_probabilities_are_refused(bad):
    with pytest.raises(PopulationError, match="trial 4"):
        require_known_inclusion([bad])


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'tpe'"):
        require_known_inclusion([design(0, "tpee")])
    with pytest.raises(UnknownNameError, match="trial state 'done'"):
        count_outcomes(["done"], [1.0])


def test_outcomes_are_counted_and_failures_are_never_dropped():
    states = ["complete", "diverged", "failed", "running", "complete", "stopped"]
    found = count_outcomes(states, [30.0, 12.0, np.nan, 50.0, np.nan, 40.0])
    assert found.errors.tolist() == [30, 100, 100, 100]
    assert found.finished.tolist() == [True, True, True, False, True, False]
    assert found.counts == {"complete": 1, "diverged": 2, "failed": 1, "running": 1, "stopped": 1}
    assert found.failures == 3
    assert str(found) == (
        "1 complete, 2 diverged, 1 failed, 1 running, 1 stopped; diverged and failed trials count as 100 %"
    )


def test_failures_may_count_as_chance():
    found = count_outcomes(["diverged"], [np.nan], failure_error=chance_error(10))
    assert found.errors.tolist() == [90]
    assert str(count_outcomes([], [])) == "no trials"
    with pytest.raises(StatisticsError, match="errors of shape"):
        count_outcomes(["complete"], [])
    with pytest.raises(StatisticsError, match="guessing"):
        chance_error(0)


@pytest.mark.simulation
def test_random_promotion_with_weights_is_unbiased_where_survivors_are_not():
    # One rung: the best ninth by an early error that correlates .8 with the last one is promoted, and of the others
    # each with probability .1. F at the median, over 400 sweeps of 450 trials.
    rng = np.random.default_rng(0)
    survivors, weighted, aucs = [], [], []
    for _ in range(400):
        late = rng.normal(40, 5, 450)
        early = 40 + 0.8 * (late - 40) + rng.normal(0, 3, 450)
        top = early <= np.sort(early)[450 // 9 - 1]
        survivors.append(float(edf(late[top])(40)))
        kept = top | (rng.random(450) < 0.1)
        designs = [
            design(i, schedule=Schedule.RANDOM_PROMOTION, probability=1.0 if top[i] else 0.1)
            for i in np.flatnonzero(kept).tolist()
        ]
        weights = require_known_inclusion(designs)
        weighted.append(float(edf(late[kept], weights)(40)))
        aucs.append(auc(late[kept], weights))
    assert np.mean(survivors) - 0.5 > 0.28  # the reference's range for survivors is +.28 to +.49
    assert np.mean(weighted) == pytest.approx(0.5, abs=4 * np.std(weighted) / 20)
    assert np.mean(aucs) == pytest.approx(60, abs=4 * np.std(aucs) / 20)
