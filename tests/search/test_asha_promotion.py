"""ASHA that promotes against a naive reading of Algorithm 2 (Li et al. 2020); brackets and random promotion."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest

from kdsearch.search.schedulers.asha import Asha
from kdsearch.search.schedulers.chances import Chances
from kdsearch.search.schedulers.promotion import PromotingAsha


class AlgorithmTwo:
    """Algorithm 2, line by line and as slowly as it stands there; rung k is the k-th of the list."""

    def __init__(self, rungs, eta):
        self.losses = [{} for _ in rungs]
        self.promoted = [set() for _ in rungs]
        self.eta = eta

    def get_job(self):
        """The trial to promote and the rung that it comes from; None: draw a new configuration."""
        for k in reversed(range(len(self.losses))):
            candidates = self.top_k(k, len(self.losses[k]) // Fraction(str(self.eta)))
            promotable = [t for t in candidates if t not in self.promoted[k] and self.losses[k][t] < inf]
            if promotable:
                self.promoted[k].add(promotable[0])
                return promotable[0], k
        return None

    def top_k(self, k, many):
        ranked = sorted(self.losses[k].items(), key=lambda item: (item[1], item[0]))
        return [trial for trial, _ in ranked[: int(many)]]


def jobs_on_a_stream(seed, *, rungs, eta, last, trials, workers):
    """Both on one stream of results: what each free worker is given, until nothing is left."""
    draw = np.random.default_rng(seed)
    levels, coarse = draw.uniform(10, 90, trials), draw.random() < 0.4
    lost = set(draw.choice(trials, 3, replace=False).tolist())
    paper, ours = AlgorithmTwo(rungs, eta), PromotingAsha(rungs, eta)
    reach = [*rungs, last]
    new, time, events, given = iter(range(trials)), 0.0, [], []

    def give(now):
        theirs = paper.get_job()
        mine = next(ours.promotable(), None)
        given.append((theirs, None if mine is None else (mine.trial, rungs.index(mine.place.rung))))
        if mine is not None:
            ours.promote(mine.trial)
        if theirs is None:
            trial, target = next(new, None), 0
            if trial is None:
                return
        else:
            trial, target = theirs[0], theirs[1] + 1
        heapq.heappush(events, (now + draw.exponential(), trial, target))

    for _ in range(workers):
        give(0.0)
    while events:
        time, trial, target = heapq.heappop(events)
        if target < len(rungs):
            error = levels[trial] / (1 + target) + draw.normal(0, 4)
            error = float(round(error / 8)) if coarse else float(error)
            error = inf if trial in lost and target == 1 else error
            paper.losses[target][trial] = error
            verdict = ours.report(trial, reach[target], nan if error == inf else error)
            assert verdict.leaves
            assert verdict.stopped is (error == inf)
        idle = workers - len(events)
        for _ in range(idle):  # also workers that found nothing before
            give(time)
    return given, ours


@pytest.mark.parametrize(
    ("rungs", "eta", "last", "workers"),
    [((1, 3, 9), 3, 27, 4), ((2, 4, 6, 8), 2, 10, 1), ((1, 4), 4, 16, 9), ((5,), 1.1, 7, 3)],
)
def test_free_workers_are_given_what_algorithm_2_gives_them(rungs, eta, last, workers):
    promotions = 0
    for seed in range(12):
        given, ours = jobs_on_a_stream(seed, rungs=rungs, eta=eta, last=last, trials=40, workers=workers)
        assert [mine for _, mine in given] == [theirs for theirs, _ in given]
        promotions += sum(mine is not None for _, mine in given)
        left = [trial for trial in range(40) if ours.is_paused(trial)]
        assert left
        for trial in left:
            assert ours.settle(trial).stopped
        assert not any(ours.is_paused(trial) for trial in range(40))
        assert list(ours.promotable()) == []
    assert promotions > 100


def test_a_trial_waits_until_it_is_among_the_best_and_the_highest_rung_goes_first():
    asha = PromotingAsha([1, 2], 2)
    first = asha.report(0, 1, 50.0)
    assert (first.paused, first.stopped, first.recorded, first.cutoff) == (True, False, 0, None)
    assert first.reason == "50 % waits to be promoted"
    assert list(asha.promotable()) == []  # floor(1 / 2) of one
    asha.report(1, 1, 60.0)
    assert [found.trial for found in asha.promotable()] == [0]
    up = asha.promote(0)
    assert (up.paused, up.stopped, up.late, up.recorded, up.cutoff) == (False, False, True, 1, 50.0)
    assert up.reason == "promoted: 50 % is number 1 of 2, of which the best 1 go on"
    asha.report(2, 1, 40.0)
    asha.report(3, 1, 30.0)
    asha.report(0, 2, 45.0)
    assert [found.trial for found in asha.promotable()] == [3, 2]
    asha.promote(3)
    asha.report(3, 2, 20.0)
    assert [found.trial for found in asha.promotable()] == [3, 2]  # at the higher rung, then at the lower
    ended = asha.settle(1)
    assert ended.reason == "not promoted: 60 % is number 4 of 4 when nothing else was left to train"
    with pytest.raises(KeyError):
        asha.promote(1)


def test_equal_errors_are_promoted_by_number():
    asha = PromotingAsha([1], 2)
    for trial in (3, 1, 2, 0):
        asha.report(trial, 1, 7.0)
    assert [found.trial for found in asha.promotable()] == [0, 1]


def test_what_diverges_counts_and_is_never_promoted():
    asha = PromotingAsha([1, 4], 2)
    assert asha.report(0, 1, nan).stopped
    assert asha.diverged(1, 3).rung == 4
    assert asha.report(2, 1, 90.0).paused
    assert [found.trial for found in asha.promotable()] == [2]  # best of two
    asha.report(3, 1, inf)
    asha.promote(2)
    assert list(asha.promotable()) == []


def test_a_promoted_trial_that_comes_again_goes_on_and_its_error_is_replaced():
    asha = PromotingAsha([1], 2)
    for trial, error in enumerate((10.0, 20.0, 30.0)):
        asha.report(trial, 1, error)
    asha.promote(0)
    again = asha.report(0, 1, 25.0)
    assert not again.leaves
    assert (again.value, again.late) == (25.0, False)
    assert [found.trial for found in asha.promotable()] == [1]  # the best of three now


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_what_was_decided_brings_the_state_back(epsilon):
    draw = np.random.default_rng(5)
    chances = Chances(seed=2, brackets=2, epsilon=epsilon)
    whole, told, cuts = PromotingAsha([1, 2, 4], 2, chances), [], {}

    def standing(asha):
        return [tuple(found) for found in asha.promotable()], [n for n in range(60) if asha.is_paused(n)]

    going = {}
    for step in range(400):
        if step in {50, 200, 399}:
            cuts[step] = len(told), standing(whole)
        up = next(whole.promotable(), None)
        if up is not None and draw.random() < 0.5:
            verdict = whole.promote(up.trial)
            going[up.trial] = verdict.rung
            told.append(("", verdict))
            continue
        trial = int(draw.integers(60))
        if whole.is_paused(trial) or going.get(trial) == 9:
            continue
        epoch = going.get(trial, 0) + 1
        going[trial] = epoch
        verdict = whole.report(trial, epoch, float(draw.uniform(0, 100)))
        if verdict is not None:
            told.append(("", verdict))
            going[trial] = 9 if verdict.stopped else epoch
    assert cuts[399][0] > 80
    for n, expected in cuts.values():
        again = PromotingAsha([1, 2, 4], 2, chances)
        again.restore(told[:n])
        assert standing(again) == expected


# -- brackets --------------------------------------------------------------------------------------------------------


def test_brackets_are_drawn_as_ray_draws_them_but_from_the_seed():
    chances = Chances(seed=11, brackets=3)
    found = Counter(chances.bracket(trial) for trial in range(6000))
    weights = np.exp(-np.arange(3))
    expected = 6000 * weights / weights.sum()
    assert all(abs(found[s] - expected[s]) < 4 * math.sqrt(expected[s]) for s in range(3))
    assert [Chances(seed=11, brackets=3).bracket(n) for n in range(50)] == [
        chances.bracket(n) for n in range(50)
    ]
    assert [Chances(seed=12, brackets=3).bracket(n) for n in range(50)] != [
        chances.bracket(n) for n in range(50)
    ]
    assert {Chances(seed=1).bracket(n) for n in range(50)} == {0}


@pytest.mark.parametrize("kind", [Asha, PromotingAsha])
def test_trials_of_different_brackets_do_not_meet_and_later_brackets_have_fewer_rungs(kind):
    chances = Chances(seed=0, brackets=2)
    asha = kind([1, 3], 2, chances)
    of = {s: [n for n in range(40) if chances.bracket(n) == s] for s in (0, 1)}
    assert asha.report(of[1][0], 1, 50.0) is None  # its first rung is the second one
    assert asha.report(of[0][0], 1, 50.0).bracket == 0
    assert asha.report(of[1][0], 3, 50.0).bracket == 1
    assert asha.report(of[0][0], 3, 10.0).recorded == 0
    assert asha.diverged(of[1][1], 1).rung == 3


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_bracket_decides_as_rays_of_the_same_number():
    from ray.tune.schedulers.async_hyperband import _Bracket

    draw = np.random.default_rng(4)
    chances = Chances(seed=3, brackets=3)
    ours = Asha([1, 2, 4, 8, 16], 2, chances)
    rays = [_Bracket(min_t=1, max_t=32, reduction_factor=2, s=s) for s in range(3)]
    stops = 0
    for trial in range(300):
        bracket = rays[chances.bracket(trial)]
        level = draw.uniform(10, 90)
        for epoch in range(1, 32):
            error = float(level / epoch**0.3 + draw.normal(0, 5))
            theirs = bracket.on_result(_Named(str(trial)), epoch, -error)
            verdict = ours.report(trial, epoch, error)
            assert (verdict is not None and verdict.stopped) is (theirs == "STOP")
            if theirs == "STOP":
                stops += 1
                break
    assert stops > 100


class _Named:
    def __init__(self, trial_id):
        self.trial_id = trial_id


@pytest.mark.parametrize(("rungs", "brackets"), [([1], 2), ([1, 2], 0)])
def test_a_bracket_without_rungs_is_refused(rungs, brackets):
    with pytest.raises(ValueError, match="brackets"):
        Asha(rungs, 2, Chances(brackets=brackets))


# -- random promotion ------------------------------------------------------------------------------------------------


def test_chance_lets_go_on_what_the_rule_would_stop_and_says_so():
    chances = Chances(seed=0, epsilon=0.25)
    plain, spared = Asha([1], 2), Asha([1], 2, chances)
    draw = np.random.default_rng(0)
    through = 0
    for trial in range(2000):
        error = float(draw.uniform(0, 100))
        rule, verdict = plain.report(trial, 1, error), spared.report(trial, 1, error)
        assert (verdict.cutoff, verdict.recorded) == (rule.cutoff, rule.recorded)
        if not rule.stopped:
            assert verdict == replace(rule, probability=1.0)
            continue
        assert verdict.probability == 0.25
        assert verdict.stopped is not chances.spared(trial, 1)
        assert verdict.reason.endswith("goes on by chance (probability 0.25)") is not verdict.stopped
        through += not verdict.stopped
    assert abs(through / 1000 - 0.25) < 0.06
    assert plain.inclusion(0) is None  # no chance is known where the rule alone decides


@pytest.mark.parametrize("kind", [Asha, PromotingAsha])
def test_the_probability_of_the_end_is_the_product_over_the_rungs(kind):
    chances = Chances(seed=1, epsilon=0.5)
    asha = kind([1, 2], 2, chances)
    assert asha.inclusion(0) == 1.0  # it came to no rung
    spared = next(n for n in range(99) if chances.spared(n, 1) and chances.spared(n, 2))
    for epoch in (1, 2):
        for other in (100, 101, 102, 103):
            asha.report(other, epoch, 1.0 + other / 1000)
        assert not asha.report(spared, epoch, 90.0).leaves
        assert asha.inclusion(spared) == 0.5**epoch
    lost = next(n for n in range(99) if chances.spared(n, 1) and n != spared)
    assert not asha.report(lost, 1, nan).stopped  # a trial that may diverge is a draw as any other
    assert asha.inclusion(lost) == 0.5


def test_who_is_promoted_later_has_no_known_probability():
    chances = Chances(seed=1, epsilon=0.01)
    asha = PromotingAsha([1], 2, chances)
    late = [n for n in range(9) if not chances.spared(n, 1)]
    waits = asha.report(late[0], 1, 50.0)
    assert (waits.paused, waits.probability) == (True, 0.01)
    assert not asha.report(late[1], 1, 40.0).paused  # the best of two, on arrival
    assert asha.inclusion(late[1]) == 1.0
    asha.report(late[2], 1, 60.0)
    asha.report(late[3], 1, 70.0)
    assert [found.trial for found in asha.promotable()] == [late[0]]
    assert asha.promote(late[0]).probability is None
    assert asha.inclusion(late[0]) is None
