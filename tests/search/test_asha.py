from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from kdsearch.search.schedulers.asha import Asha, cutoff
from kdsearch.search.schedulers.rungs import equal_rungs, geometric_rungs


class Trial:
    """All that Ray's scheduler looks at in a trial."""

    def __init__(self, number):
        self.trial_id = str(number)


def ray_scheduler(*, grace, factor, last):
    from ray.tune.schedulers import AsyncHyperBandScheduler

    return AsyncHyperBandScheduler(
        metric="error", mode="min", grace_period=grace, reduction_factor=factor, max_t=last
    )


def decisions_on_a_stream(seed, *, grace, factor, last, trials=40, workers=6):
    """Both schedulers on one stream: trials begin and report in a random order, as workers come to it."""
    draw = np.random.default_rng(seed)
    ray, ours = (
        ray_scheduler(grace=grace, factor=factor, last=last),
        Asha(geometric_rungs(grace, factor, last), factor),
    )
    waiting, running, decisions = list(range(trials)), {}, []
    levels = [draw.uniform(10, 90) for _ in range(trials)]
    coarse = draw.random() < 0.5  # many equal errors
    while waiting or running:
        while waiting and len(running) < workers:
            running[waiting[0]] = 0
            ray.on_trial_add(None, Trial(waiting.pop(0)))
        number = int(draw.choice(sorted(running)))
        running[number] += 1
        epoch = running[number]
        error = levels[number] / epoch**0.3 + draw.normal(0, 5)
        error = float(round(error / 10)) if coarse else error
        result = {"training_iteration": epoch, "error": error}
        theirs = ray.on_trial_result(None, Trial(number), result)
        if epoch == last:  # Ray says stop; here the trial is complete and nobody is asked
            del running[number]
            continue
        verdict = ours.report(number, epoch, error)
        stopped = verdict is not None and verdict.stopped
        decisions.append((number, epoch, stopped, theirs == "STOP"))
        if stopped:
            del running[number]
    return decisions


@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize(
    ("grace", "factor", "last"), [(1, 2, 40), (1, 3, 81), (2, 4, 64), (1, 1.5, 30), (5, 2, 100)]
)
def test_the_decisions_are_rays_on_the_same_streams(grace, factor, last):
    stops = 0
    for seed in range(12):
        decisions = decisions_on_a_stream(seed, grace=grace, factor=factor, last=last)
        assert [ours for *_, ours, _ in decisions] == [theirs for *_, theirs in decisions]
        stops += sum(ours for *_, ours, _ in decisions)
    assert stops > 100


@pytest.mark.parametrize("factor", [1.1, 1.5, 2, 2.7, 3, 4, 16])
def test_the_cutoff_is_numpys_percentile_to_the_last_bit(factor):
    rng = np.random.default_rng(1)
    for n in range(1, 60):
        for errors in (rng.uniform(0, 100, n), rng.integers(0, 5, n).astype(float)):
            rewards = sorted(float(-error) for error in errors)
            assert cutoff(rewards, factor) == -np.percentile(rewards, (1 - 1 / factor) * 100)


def test_the_first_at_a_rung_goes_on_and_the_others_meet_those_before_them():
    asha = Asha([3], 2)
    first = asha.report(0, 3, 60.0)
    assert (first.stopped, first.cutoff, first.recorded) == (False, None, 0)
    worse, equal, better = asha.report(1, 3, 70.0), asha.report(2, 3, 65.0), asha.report(3, 3, 10.0)
    assert (worse.stopped, worse.cutoff, worse.recorded) == (True, 60.0, 1)
    assert (equal.stopped, equal.cutoff) == (False, 65.0)  # the median of 60 and 70
    assert (better.stopped, better.cutoff) == (False, 65.0)  # of 60, 65, 70
    assert worse.reason == "70 % is not within the best 1/2 of 1 (up to 60 %)"
    assert better.reason == "10 % is within the best 1/2 of 3 (up to 65 %)"


def test_there_is_nothing_to_decide_between_rungs():
    asha = Asha([2, 4], 2)
    assert [asha.report(0, epoch, nan) is None for epoch in (1, 2, 3, 4, 5)] == [
        True,
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("error", [nan, inf])
def test_an_error_that_is_not_finite_is_the_worst_there_is(error):
    asha = Asha([1], 2)
    lost = asha.report(0, 1, error)
    assert (lost.stopped, lost.value) == (True, None)
    assert not asha.report(1, 1, 99.0).stopped  # above the only one, who diverged
    again = asha.report(2, 1, 50.0)
    assert (again.stopped, again.cutoff) == (False, inf)  # half of those before diverged
    assert asha.report(3, 1, 99.5).cutoff == 99.0


def test_a_trial_that_diverges_on_its_way_counts_at_the_next_rung():
    asha = Asha([5, 10], 2)
    verdict = asha.diverged(0, 6)
    assert (verdict.rung, verdict.value, verdict.stopped) == (10, None, False)
    assert asha.report(1, 5, 50.0).recorded == 0
    assert asha.report(1, 10, 50.0).recorded == 1
    assert asha.diverged(2, 11) is None
    again = asha.report(
        0, 10, 90.0
    )  # a further attempt that did not diverge is judged, and not against itself
    assert (again.recorded, again.cutoff, again.stopped) == (1, 50.0, True)


def test_a_second_attempt_replaces_its_error_and_keeps_its_decision():
    asha = Asha([1], 2)
    asha.report(0, 1, 50.0)
    asha.report(1, 1, 40.0)
    again = asha.report(0, 1, 52.0)  # would be stopped by the rule: the other one has 40
    assert (again.stopped, again.value, again.recorded) == (False, 52.0, 0)
    after = asha.report(2, 1, 99.0)
    assert (after.recorded, after.cutoff) == (2, 46.0)  # of 40 and 52: nobody stands there twice
    stopped = asha.report(2, 1, 1.0)
    assert stopped.stopped  # others were judged by what it was
    assert asha.report(0, 1, nan).stopped


def test_searches_that_are_apart_do_not_meet():
    asha = Asha([1], 2)
    assert not asha.report(0, 1, 10.0, search="a").stopped
    assert not asha.report(1, 1, 90.0, search="b").stopped
    assert asha.report(2, 1, 90.0, search="a").stopped


def test_what_was_decided_brings_the_state_back():
    draw = np.random.default_rng(3)
    reports = [
        (n, epoch, float(draw.choice([nan, *[draw.uniform(0, 100)] * 9])))
        for n in range(40)
        for epoch in (2, 5)
    ]
    reports = [reports[i] for i in draw.permutation(len(reports))]
    for cut in (0, 7, 40, 79):
        whole = Asha([2, 5], 3)
        told = [("", whole.report(*report)) for report in reports[:cut]]
        again = Asha([2, 5], 3)
        again.restore(told[i] for i in draw.permutation(cut))
        assert [again.report(*r) for r in reports[cut:]] == [whole.report(*r) for r in reports[cut:]]


def test_rungs_at_equal_steps_are_the_bbm_papers():
    assert equal_rungs(20, 100) == (20, 40, 60, 80)
    assert equal_rungs(30, 500) == tuple(range(30, 500, 30))  # 16 of them, the last at 480
    assert equal_rungs(100, 100) == ()


def test_geometric_rungs_are_those_of_the_ktg_paper_and_rise_whatever_the_factor():
    assert geometric_rungs(1, 2, 100) == (1, 2, 4, 8, 16, 32, 64)
    assert geometric_rungs(1, 2, 64) == (1, 2, 4, 8, 16, 32)
    assert geometric_rungs(3, 1.2, 9) == (3, 4, 5, 6, 7, 8)
    assert geometric_rungs(1, 1 + 1e-9, 50) == tuple(range(1, 50))


@pytest.mark.parametrize(
    ("rungs", "factor"), [([], 2), ([0, 1], 2), ([2, 2], 2), ([3, 1], 2), ([1], 1), ([1], inf)]
)
def test_rungs_that_do_not_rise_are_refused(rungs, factor):
    with pytest.raises(ValueError, match="must"):
        Asha(rungs, factor)
