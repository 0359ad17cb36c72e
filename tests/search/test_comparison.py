"""A comparison of methods: pairs, numbers, rounds, what each trial is told, and resume."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdsearch.search.config import parse_sweep
from kdsearch.search.searchers import make_searcher
from kdsearch.search.searchers.base import Note, Outcome, Stage
from kdsearch.search.searchers.plans import shared_part
from kdsearch.search.trialdb import operations as op
from kdsearch.spaces import configuration_key
from kdsearch.spaces.errors import KdsearchError
from kdsearch.trainables.ray_adapter import describe_member, read_member

_SPEC = importlib.util.spec_from_file_location("driver", Path(__file__).with_name("driver.py"))
_DRIVER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_DRIVER)
Driver, history_of = _DRIVER.Driver, _DRIVER.history_of

RUNS = 3
METHODS = {
    "none": {"kind": "fixed", "values": {"lambda_1": 1, "temperature": 1}, "train_on": "all"},
    "naive": {"kind": "fixed", "values": {"lambda_1": 0.5}},
    "random": {"kind": "random", "parameters": {"temperature": {"type": "float", "low": 0.1, "high": 10}}},
    "hyperopt": {"kind": "tpe", "library": "hyperopt", "trials": 4, "startup": 2},
    "optuna": {"kind": "tpe", "library": "optuna", "trials": 4, "startup": 2},
    "greedy": {"kind": "gradient", "rate": 0.25},
    "proposed": {"kind": "gradient", "e1": 10, "e2": 10},
}
PERIODS = {"method": "proposed", "equal": [5, 10], "e1": 10, "e2": [0, 5, 10]}


def sweep_of(methods=METHODS, *, periods=PERIODS, seed=0, parameters=None, run=None, **trainable):
    return parse_sweep(
        {
            "name": "s",
            "seed": seed,
            "space": {
                "kind": "parameters",
                "parameters": {
                    "lambda_1": {"type": "float", "low": 0, "high": 1},
                    "temperature": {"type": "log-uniform", "low": 0.1, "high": 10},
                    **(parameters or {}),
                },
            },
            "trainable": {
                "kind": "constant",
                "metaparameters": {"lambda_1": [0, 1], "temperature": [0.01, 100]},
                **trainable,
            },
            "searcher": {
                "kind": "comparison",
                "runs": RUNS,
                "reference": "naive" if "naive" in methods else next(iter(methods)),
                "methods": methods,
                "periods": periods if "proposed" in methods else None,
            },
            "run": {"pack": 8, **(run or {})},
        },
        "test",
    )


def error_of(request):
    return 100 * abs(request.configuration["lambda_1"] - 0.3)


def play(search, *, at_a_time=1000, shuffle=None):
    """Ask, train and tell to the end; return all requests by number."""
    asked, waiting = {}, []
    while not search.done:
        requests = search.ask(at_a_time)
        asked |= {request.number: request for request in requests}
        waiting += requests
        if shuffle is not None:
            shuffle.shuffle(waiting)
        request = waiting.pop()
        search.tell(request.number, Outcome(state="complete", error=error_of(request)))
    return asked


def finals(asked):
    return {(r.plan["method"], r.plan["run"]): r for r in asked.values() if r.plan["final"]}


def test_every_method_has_one_final_trial_a_run_and_tpe_its_own_before():
    asked = play(make_searcher(sweep_of(), first_number=1))
    assert sorted(asked) == list(range(1, 1 + RUNS * (5 + 2 * 5 + 3)))
    names = [*METHODS, "proposed e1=5 e2=5", "proposed e1=10 e2=0", "proposed e1=10 e2=5"]
    assert Counter(method for method, _ in finals(asked)) == dict.fromkeys(names, RUNS)
    explored = Counter(r.plan["method"] for r in asked.values() if not r.plan["final"])
    assert explored == {"hyperopt": 4 * RUNS, "optuna": 4 * RUNS}


def test_run_r_of_every_method_has_one_seed_and_no_other_trial_has_it():
    asked = play(make_searcher(sweep_of(), first_number=0))
    keys = {(method, run): request.seed_key for (method, run), request in finals(asked).items()}
    assert all(key == ("run", run) for (_, run), key in keys.items())
    explored = [request.seed_key for request in asked.values() if not request.plan["final"]]
    assert len(set(explored)) == len(explored)
    assert not set(explored) & set(keys.values())


def test_the_draw_of_a_run_is_the_same_for_every_method():
    asked = finals(
        play(
            make_searcher(
                sweep_of(
                    parameters={"decay": {"type": "float", "low": 0, "high": 1}},
                    methods={
                        **{name: each for name, each in METHODS.items() if each["kind"] != "gradient"},
                        "greedy": {"kind": "gradient", "metaparameters": ["lambda_1", "temperature"]},
                    },
                ),
                first_number=0,
            )
        )
    )
    for run in range(RUNS):
        naive, random, greedy = (asked[name, run].configuration for name in ("naive", "random", "greedy"))
        assert random["lambda_1"] == greedy["lambda_1"]
        assert len({naive["decay"], random["decay"], greedy["decay"]}) == 1
        # U(0.1, 10) and the log-uniform law: the same random number, by two laws
        share = np.log(greedy["temperature"] / 0.1) / np.log(100)
        assert random["temperature"] == pytest.approx(0.1 + 9.9 * share)
        assert naive["temperature"] == greedy["temperature"]
        assert naive["lambda_1"] == 0.5
    assert len({asked["greedy", run].configuration["lambda_1"] for run in range(RUNS)}) == RUNS


def test_only_final_trials_see_the_test_part_and_what_they_train_on_is_said():
    for request in play(make_searcher(sweep_of(), first_number=0)).values():
        plan = request.plan
        assert plan["evaluate"] == plan["final"]
        assert plan["objective"] == ("test_error" if plan["final"] else "val_error")
        optimises = METHODS[plan["method"].split(" e1=")[0]]["kind"] in {"tpe", "gradient"}
        assert plan["optimised"] == optimises
        assert plan["train_on"] == ("all" if plan["method"] == "none" else "training")
        assert ("optimiser" in plan) == (request.design == "gradient")
        assert request.probability is None


def test_the_final_trial_of_tpe_has_the_best_values_of_its_own_run():
    asked = play(make_searcher(sweep_of(), first_number=0))
    for (method, run), final in finals(asked).items():
        if METHODS.get(method, {}).get("kind") != "tpe":
            continue
        own = [r for r in asked.values() if (r.plan["method"], r.plan["run"]) == (method, run)]
        best = min((r for r in own if not r.plan["final"]), key=error_of)
        assert final.configuration == best.configuration
        assert max(r.number for r in own) == final.number
    optuna = [r for r in asked.values() if r.plan["method"] == "optuna" and not r.plan["final"]]
    chains = {configuration_key(request.configuration) for request in optuna}
    assert len(chains) == 4 * RUNS  # each run has a search of its own


def test_a_search_of_nothing_but_failures_still_has_its_final_trial():
    search = make_searcher(sweep_of({"t": METHODS["optuna"]}), first_number=0)
    first = None
    while not search.done:
        requests = search.ask(100)
        first = first or requests[0]
        for request in requests:
            search.tell(request.number, Outcome(state="diverged", error=100.0))
    assert search._requests[4 * RUNS].configuration == first.configuration


def test_points_of_the_study_of_periods_are_trained_once():
    settings = sweep_of().searcher.all_methods()
    pairs = {name: (m.e1, m.e2) for name, m in settings.items() if name.startswith("proposed")}
    assert pairs == {
        "proposed": (10, 10),
        "proposed e1=5 e2=5": (5, 5),
        "proposed e1=10 e2=0": (10, 0),
        "proposed e1=10 e2=5": (10, 5),
    }


def test_numbers_and_proposals_do_not_depend_on_the_order_of_results():
    def told(asked):
        return {n: (r.configuration, r.plan, r.seed_key) for n, r in asked.items()}

    whole = told(play(make_searcher(sweep_of(), first_number=0)))
    shuffled = play(make_searcher(sweep_of(), first_number=0), at_a_time=4, shuffle=np.random.default_rng(1))
    assert told(shuffled) == whole
    assert told(play(make_searcher(sweep_of(seed=1), first_number=0))) != whole


def test_the_overview_and_the_records_tell_how_methods_stand():
    search = make_searcher(
        sweep_of({"none": METHODS["none"], "t": {"kind": "tpe", "trials": 3}}), first_number=0
    )
    stage, note = search.drain()
    assert isinstance(stage, Stage)
    assert isinstance(note, Note)
    assert "t: the library optuna draws its first 10 trials at random" in note.text
    assert (search.overview().done, search.overview().planned, search.overview().conditions) == (0, 15, [])
    for request in search.ask(100):
        search.tell(request.number, Outcome(state="complete", error=30.0))
    shown = search.overview()
    assert shown.done == 2 * RUNS
    assert [(row.value, row.n, row.auc) for row in shown.conditions] == [("none", RUNS, 70.0)]


def test_packs_hold_trials_of_one_plan_and_rounds_of_tpe_stay_together(clock, tmp_path):
    driver = Driver(sweep_of(epochs=2), clock, tmp_path).run()
    for job in driver.jobs:
        assert len({shared_part(member.plan) for member in job.members}) == 1
    rounds = Counter()
    for job in driver.jobs:
        plan = job.members[0].plan
        rounds[plan["method"], plan["final"]] += 1
    # two workers: at most two packs for the three runs of a round
    assert all(
        packs <= 2 * (1 if final or "e1" in method else 4) for (method, final), packs in rounds.items()
    )
    assert driver.coordinator.done


def test_trials_are_stored_with_their_plans_and_judged_by_them(clock, tmp_path):
    driver = Driver(sweep_of(epochs=2), clock, tmp_path).run()
    rows = {row.number: row for row in driver.rows(op.AddTrials)}
    seeds = {(row.plan["run"], row.seed) for row in rows.values() if row.plan["final"]}
    assert len(seeds) == len({seed for _, seed in seeds}) == RUNS
    measured = {}
    for row in driver.rows(op.RecordMetrics):
        measured[row.number] = row.values
    for row in driver.rows(op.FinishTrials):
        plan, values = rows[row.number].plan, measured[row.number]
        assert row.error == values["1/test_error" if plan["final"] else "1/val_error"]
        assert ("1/val_error" in values) == (plan["train_on"] == "training")
        if "optimiser" in plan:
            assert values["meta.lambda_1"] == plan["optimiser"]["start"]["lambda_1"]
    best = min(row.error for row in driver.rows(op.FinishTrials) if rows[row.number].plan["final"])
    assert driver.coordinator.tally.best_error == best  # trials that TPE learns from are of another part


@pytest.mark.parametrize("share", [0.0, 0.2, 0.45, 0.6, 0.8, 1.0])
def test_a_resumed_comparison_equals_an_uninterrupted_one(clock, tmp_path, share):
    sweep = sweep_of(diverge=[7])
    whole = Driver(sweep, clock, tmp_path).run()
    cut = int(share * len(whole.operations))
    history = history_of(whole.operations, upto=cut)
    # two workers and smaller packs end in another order
    again = Driver(sweep_of(diverge=[7], run={"pack": 2}), clock, tmp_path, history=history).run()

    def trials(driver):
        return {row.number: (row.configuration, row.plan, row.seed) for row in driver.rows(op.AddTrials)}

    def results(driver, past):
        known = {n: (t.state, t.error) for n, t in past.items() if t.state in {"complete", "diverged"}}
        return known | {row.number: (str(row.state), row.error) for row in driver.rows(op.FinishTrials)}

    assert trials(again) == trials(whole)
    assert results(again, history) == results(whole, {})
    finished = {n for n, t in history.items() if t.state == "complete"}
    assert not finished & {row.number for row in again.rows(op.StartAttempts)}


def test_a_resume_refuses_a_database_whose_trials_were_told_something_else(clock, tmp_path):
    sweep = sweep_of({"naive": METHODS["naive"]})
    history = history_of(Driver(sweep, clock, tmp_path).run().operations, upto=None)
    other = {n: replace(past, plan={**past.plan, "train_on": "all"}) for n, past in history.items()}
    with pytest.raises(KdsearchError, match="another plan"):
        Driver(sweep, clock, tmp_path, history=other).run()


def test_a_plan_travels_to_the_worker(clock, tmp_path):
    driver = Driver(sweep_of({"greedy": METHODS["greedy"]}), clock, tmp_path)
    member = driver.coordinator.next_job().members[0]
    assert member.plan["optimiser"]["rate"] == 0.25
    assert read_member(describe_member(member)) == member


def test_fixed_values_may_lie_outside_the_space_and_are_written_as_the_space_writes_them():
    methods = {"naive": {"kind": "fixed", "values": {"lambda_1": 2, "extra": "x"}}}
    (request, *_) = make_searcher(sweep_of(methods), first_number=0).ask(10)
    assert request.configuration["lambda_1"] == 2.0
    assert type(request.configuration["lambda_1"]) is float
    assert request.configuration["extra"] == "x"
    assert request.design == "fixed"
