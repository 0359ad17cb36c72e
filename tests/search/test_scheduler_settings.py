from __future__ import annotations

import pytest

from kdsearch.search.config import load_sweep, parse_sweep
from kdsearch.search.schedulers import make_scheduler
from kdsearch.spaces.errors import UsageError

SWEEP = {
    "name": "s",
    "space": {
        "kind": "ktg",
        "target": "s",
        "auxiliary": {"count": 2, "models": ["s", "w"]},
        "gates": ["through", "cutoff"],
    },
    "trainable": {"kind": "constant", "epochs": 100},
    "searcher": {"kind": "random", "trials": 4},
}


def sweep_of(scheduler, **changes):
    return parse_sweep({**SWEEP, "scheduler": scheduler, **changes}, "test")


def asha(**keys):
    return {"kind": "asha", **keys}


@pytest.mark.parametrize("nothing", [None, "none", {"kind": "none"}])
def test_without_a_scheduler_there_are_no_rungs(nothing):
    assert sweep_of(nothing).rungs() == ()
    assert sweep_of(nothing) == parse_sweep(SWEEP, "test")


@pytest.mark.parametrize(
    ("keys", "rungs"),
    [
        ({"rungs": [20, 40, 60, 80]}, (20, 40, 60, 80)),
        ({"every": 20}, (20, 40, 60, 80)),
        ({"every": 20, "max": 60}, (20, 40)),
        ({"grace": 1}, (1, 2, 4, 8, 16, 32, 64)),
        ({"grace": 4, "reduction_factor": 4, "max": 17}, (4, 16)),
    ],
)
def test_rungs_are_a_list_or_steps_or_geometric(keys, rungs):
    sweep = sweep_of(asha(**keys))
    assert sweep.rungs() == rungs
    assert sweep.scheduler.reduction_factor == keys.get("reduction_factor", 2)
    assert parse_sweep(sweep.resolved(), "test") == sweep


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        ("asha", ["scheduler: must be a section of keys (found 'asha')"]),
        ({"every": 3}, ["key 'scheduler.kind' is missing"]),
        ({"kind": "hyperband", "every": 3}, ["unknown scheduler; known: asha, none", "'hyperband'"]),
        (asha(), ["scheduler: needs either rungs, or every, or grace (found none of them)"]),
        (asha(every=3, rungs=[3]), ["found rungs and every"]),
        (asha(every=20, mode="wait"), ["scheduler.mode: Input should be 'stop' or 'promote' (found 'wait')"]),
        (asha(every=20, epsilon=1), ["scheduler.epsilon: Input should be less than 1 (found 1)"]),
        (asha(every=20, epsilon=-0.1), ["scheduler.epsilon"]),
        (asha(every=20, brackets=0), ["scheduler.brackets"]),
        (
            asha(every=40, brackets=3),
            ["scheduler.brackets: 3 brackets need 3 rungs, and there are 2 (after epochs 40, 80)"],
        ),
        (asha(rungs=[3], max=9), ["max goes with every or grace"]),
        (asha(evry=3), ["unknown key 'scheduler.evry', did you mean 'every'?"]),
        (asha(every=0), ["scheduler.every", "greater than or equal to 1"]),
        (asha(grace=0), ["scheduler.grace", "greater than or equal to 1"]),
        (asha(rungs=[]), ["scheduler.rungs", "at least 1"]),
        (asha(rungs=[0, 5]), ["scheduler.rungs", "counted from 1"]),
        (asha(rungs=[5, 5]), ["scheduler.rungs: rungs must rise (found [5, 5])"]),
        (asha(rungs=[40, 20]), ["scheduler.rungs: rungs must rise"]),
        (asha(every=3, reduction_factor=1), ["scheduler.reduction_factor", "greater than 1"]),
        (asha(rungs=[20, 100]), ["a trial has 100 epochs, so nothing can be stopped at 100"]),
        (asha(every=100), ["scheduler.every: the first rung, 100, does not lie before epoch 100"]),
        (asha(grace=50, max=50), ["scheduler.grace: the first rung, 50, does not lie before epoch 50"]),
        (asha(every=3, max=200), ["scheduler.max is 200, and a trial has 100 epochs"]),
    ],
)
def test_what_is_wrong_is_named(scheduler, words):
    with pytest.raises(UsageError) as caught:
        sweep_of(scheduler)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_steps_need_an_end():
    with pytest.raises(UsageError, match=r"how long a trial lasts") as caught:
        sweep_of(asha(every=3), trainable={"kind": "constant"})
    assert "scheduler.max" in caught.value.hint
    assert sweep_of(asha(every=3, max=9), trainable={"kind": "constant"}).rungs() == (3, 6)
    assert sweep_of(asha(rungs=[3]), trainable={"kind": "constant"}).rungs() == (3,)


def test_where_nothing_is_searched_nothing_is_judged():
    space = {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}}
    named = {"configurations": {"one": {"x": 0.5}}, "searcher": {"kind": "named"}, "space": space}
    sweep = sweep_of(asha(every=20), trainable={"kind": "constant", "epochs": 4}, **named)
    assert sweep.rungs() == ()
    assert make_scheduler(sweep) is None


def test_a_refinement_takes_no_scheduler():
    with pytest.raises(UsageError, match="a refinement compares the errors of fully trained trials"):
        sweep_of(asha(every=20), searcher={"kind": "refinement", "draws": 20})


def test_a_change_on_the_command_line_can_set_and_remove_it():
    change = ["searcher={kind: random, trials: 3}", "scheduler={kind: asha, every: 3}", "trainable.epochs=9"]
    assert load_sweep("ktg-digits", change).rungs() == (3, 6)
    assert load_sweep("ktg-digits", [*change, "scheduler.every=2"]).rungs() == (2, 4, 6, 8)
    assert load_sweep("ktg-digits", [*change, "scheduler=none"]).rungs() == ()


def test_mode_brackets_and_epsilon_make_the_scheduler():
    sweep = sweep_of(asha(every=20, mode="promote", brackets=2, epsilon=0.1), seed=5)
    made = make_scheduler(sweep).asha
    assert type(made).__name__ == "PromotingAsha"
    assert (made.rungs, made.reduction_factor) == ((20, 40, 60, 80), 2)
    assert (made.chances.seed, made.chances.brackets, made.chances.epsilon) == (5, 2, 0.1)
    assert make_scheduler(sweep).save_at == (20, 40, 60, 80)
    assert make_scheduler(sweep_of(asha(every=20))).save_at == ()
