"""EDFs from sweeps that ASHA cut short, with random promotion: coverage, bias, and who speaks for nobody."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdsearch.analysis.auc import auc
from kdsearch.analysis.edf import edf, edf_band
from kdsearch.analysis.intervals import auc_interval
from kdsearch.analysis.random_promotion import LEAST_SPARED, random_promotion
from kdsearch.analysis.record import RUNG_COLUMNS
from kdsearch.search.schedulers.asha import Asha
from kdsearch.search.schedulers.chances import Chances
from kdsearch.search.schedulers.promotion import PromotingAsha

LAW = stats.norm(40, 10)  # of final errors, per cent; the AUC is 60


def record_of(verdicts, epsilon):
    """All that the probabilities are made of."""
    rows = [{key: row[key] for key in RUNG_COLUMNS} for row in map(asdict, verdicts)]
    return SimpleNamespace(
        settings={"scheduler": {"epsilon": epsilon}}, rungs=pd.DataFrame(rows, columns=list(RUNG_COLUMNS))
    )


def sweep(kind, n, *, epsilon, rungs, seed):
    """A sweep of n random draws, one after the other: errors and numbers of those trained to their end, and verdicts.

    What a trial shows at a rung is its final error, more of it the sooner, and noise that shrinks with the rungs.
    """
    draw = np.random.default_rng(seed)
    final = LAW.rvs(n, random_state=draw)
    asha, verdicts, ended = kind(rungs, 2, Chances(seed=seed, epsilon=epsilon)), [], []

    def train(trial, first):
        for k, rung in enumerate(rungs[first:], first):
            error = final[trial] + 20 / (k + 1) + draw.normal(0, 10 / (k + 1))
            verdicts.append(asha.report(trial, rung, float(error)))
            if verdicts[-1].leaves:
                return
        ended.append(trial)

    for trial in range(n):
        train(trial, 0)
        while (found := next(asha.promotable(), None)) is not None:
            verdicts.append(asha.promote(found.trial))
            train(found.trial, rungs.index(found.place.rung) + 1)
    return final[ended], ended, verdicts


def estimates(kind, n, *, epsilon, rungs, seed):
    """What a report would say: band holds F everywhere, interval holds the AUC, AUC; None if it is refused."""
    errors, ended, verdicts = sweep(kind, n, epsilon=epsilon, rungs=rungs, seed=seed)
    chance = random_promotion(record_of(verdicts, epsilon))
    if chance.unrepresented() is not None:
        return None
    p = np.array([chance.probability(trial) for trial in ended], dtype=np.float64)
    errors, p = errors[np.isfinite(p)], p[np.isfinite(p)]
    curve = edf(errors, 1 / p)
    band, truth = edf_band(curve), LAW.cdf(curve.errors)
    holds = bool((truth <= band.high_below + 1e-12).all() and (truth >= band.low - 1e-12).all())
    inside = 60.0 in auc_interval(errors, 1 / p, rng=np.random.default_rng(seed))
    return holds, inside, auc(errors, 1 / p)


def rates(kind, n, repeats, **keys):
    """(share that is not refused, coverage of the band, of the interval, mean AUC)."""
    found = [estimates(kind, n, seed=seed, **keys) for seed in range(repeats)]
    kept = np.array([each for each in found if each is not None])
    return len(kept) / repeats, *kept.mean(axis=0)


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("kind", "n", "epsilon", "rungs"),
    [
        (Asha, 100, 0.1, (1,)),
        (Asha, 100, 0.3, (1,)),
        (Asha, 400, 0.3, (1, 3)),
        (PromotingAsha, 100, 0.1, (1,)),
        (PromotingAsha, 400, 0.3, (1, 3)),
    ],
)
def test_bands_hold_the_distribution_of_all_draws(kind, n, epsilon, rungs):
    kept, band, interval, mean = rates(kind, n, 200, epsilon=epsilon, rungs=rungs)
    assert kept > 0.8
    assert band >= 0.92  # 0.95 less two standard deviations of 200 repeats
    assert interval >= 0.85
    assert abs(mean - 60) < 0.6


@pytest.mark.simulation
def test_without_weights_the_same_trials_are_far_off():
    kept = [sweep(Asha, 100, epsilon=0.1, rungs=(1,), seed=seed)[0] for seed in range(100)]
    assert np.mean([auc(errors) for errors in kept]) > 63


@pytest.mark.simulation
@pytest.mark.parametrize("kind", [Asha, PromotingAsha])
def test_weights_of_one_over_p_are_unbiased_over_all_draws(kind):
    """Horvitz and Thompson's sum over the draws, with the scheduler's own probabilities: no post-stratification."""
    sums = []
    for seed in range(600):
        draw = np.random.default_rng(seed)
        asha = kind((1, 3), 2, Chances(seed=seed, epsilon=0.2))
        errors, weighted = draw.uniform(0, 100, 60), 0.0
        for trial, error in enumerate(errors):
            for rung in (1, 3):
                if asha.report(trial, rung, float(error + draw.normal(0, 20))).leaves:
                    break
            else:
                weighted += (error < 50) / asha.inclusion(trial)
        sums.append(weighted / 60)
    assert abs(np.mean(sums) - 0.5) < 3 * np.std(sums) / np.sqrt(len(sums))


def test_the_weights_add_up_to_the_draws():
    _, ended, verdicts = sweep(Asha, 300, epsilon=0.3, rungs=(1, 3), seed=1)
    chance = random_promotion(record_of(verdicts, 0.3))
    assert chance.unrepresented() is None
    assert sum(1 / chance.probability(trial) for trial in ended) == pytest.approx(300)


def test_a_part_of_the_space_for_which_few_speak_is_refused_with_what_would_help():
    *_, verdicts = sweep(Asha, 30, epsilon=0.05, rungs=(2,), seed=3)
    chance = random_promotion(record_of(verdicts, 0.05))
    cell = chance.cells[(2,)]
    assert cell.spared < LEAST_SPARED <= cell.decided
    told = chance.unrepresented()
    assert (
        f"of the {cell.decided} that its rule would have stopped after epoch 2, chance (epsilon 0.05)" in told
    )
    assert (
        f"let {cell.spared} go on, and at least {LEAST_SPARED} are needed. More draws, a larger epsilon"
        in told
    )


def test_trials_that_were_promoted_late_have_no_probability():
    _, ended, verdicts = sweep(PromotingAsha, 200, epsilon=0.2, rungs=(1,), seed=0)
    late = {v.trial for v in verdicts if v.late and not v.stopped}
    chance = random_promotion(record_of(verdicts, 0.2))
    assert late
    assert {trial for trial in ended if chance.probability(trial) is None} == late
    assert chance.probability(10_000) == 1  # it came to no rung


def test_without_random_promotion_nothing_is_known():
    *_, verdicts = sweep(Asha, 20, epsilon=0.0, rungs=(1,), seed=0)
    assert random_promotion(record_of(verdicts, 0.0)) is None
    assert random_promotion(SimpleNamespace(settings={}, rungs=pd.DataFrame())) is None
