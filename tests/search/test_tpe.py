"""TPE through Optuna and Hyperopt: proposals, what they learn, and that nothing but seed and settings decides them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from kdsearch.search.config import parse_sweep
from kdsearch.search.schedulers import make_scheduler
from kdsearch.search.searcher_settings import TpeSettings
from kdsearch.search.searchers.axes import axes_of
from kdsearch.search.searchers.base import Draw, Note, Outcome, Stage
from kdsearch.search.searchers.kinds import Task
from kdsearch.search.searchers.proposing import Proposals
from kdsearch.search.searchers.tpe import KIND, make_proposer
from kdsearch.search.trialdb import operations as op
from kdsearch.spaces import configuration_key, space_from_spec

_SPEC = importlib.util.spec_from_file_location("driver", Path(__file__).with_name("driver.py"))
_DRIVER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_DRIVER)
Driver = _DRIVER.Driver

LIBRARIES = ["optuna", "hyperopt"]
PARAMETERS = {
    "x": {"type": "float", "low": 0, "high": 1},
    "t": {"type": "log-uniform", "low": 0.1, "high": 10},
    "n": {"type": "integer", "low": 2, "high": 10, "step": 2},
    "q": {"type": "quantised", "low": 0, "high": 0.3, "step": 0.05},
    "c": {"type": "categorical", "values": ["a", "b", 3]},
    "fixed": {"type": "float", "low": 2, "high": 2},
}


def space_of(parameters=PARAMETERS, **more):
    return space_from_spec({"kind": "parameters", "parameters": parameters, **more}, name="A")


def error_of(configuration):
    far = (configuration["x"] - 0.3) ** 2 + (np.log10(configuration["t"]) - 0.5) ** 2 / 4
    return 100 * min(1.0, far + 0.1 * (configuration["c"] != "b"))


def search_of(library, *, space=None, seed=1, trials=24, generation=4, startup=5, **more):
    settings = TpeSettings(
        kind="tpe", library=library, trials=trials, generation=generation, startup=startup, **more
    )
    return KIND.build(settings, task_of(space or space_of(), seed=seed))


def task_of(space, *, seed=1):
    return Task(space=space, trainable=None, settings={}, statistics=None, seed=seed, first_number=3)


def play(search, *, at_a_time=100, shuffle=None):
    """Ask, train and tell to the end; return the configurations by number."""
    asked, waiting = {}, []
    while not search.done:
        requests = search.ask(at_a_time)
        asked |= {request.number: request.configuration for request in requests}
        waiting += requests
        if shuffle is not None:
            shuffle.shuffle(waiting)
        assert waiting
        # with fewer than all asked for at a time, results come back before the rest is handed out
        request = waiting.pop()
        search.tell(request.number, Outcome(state="complete", error=error_of(request.configuration)))
    return asked


@pytest.mark.parametrize("library", LIBRARIES)
def test_proposals_are_configurations_of_the_space_and_come_without_a_word(library, capfd):
    space = space_of()
    search = search_of(library, space=space)
    asked = play(search)
    assert list(asked) == list(range(3, 27))
    assert all(configuration in space for configuration in asked.values())
    assert all(type(configuration["n"]) is int for configuration in asked.values())
    assert {c["c"] for c in asked.values()} == {"a", "b", 3}
    records = search.drain()
    assert isinstance(records[0], Stage)
    assert [r.trial for r in records if isinstance(r, Draw)] == list(asked)
    assert not [r for r in records if isinstance(r, Note)]
    out, err = capfd.readouterr()
    assert not out + err


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_order_of_results_and_the_number_of_workers_change_nothing(library):
    whole = play(search_of(library))
    assert play(search_of(library), at_a_time=1, shuffle=np.random.default_rng(0)) == whole
    assert play(search_of(library, seed=2)) != whole


@pytest.mark.parametrize("library", LIBRARIES)
def test_later_proposals_are_better_than_random_ones(library):
    # each search against its own random draws; without learning, the chance of 6 in 6 is 0.016
    better = 0
    for seed in range(6):
        errors = [error_of(c) for c in play(search_of(library, seed=seed, trials=30, startup=10)).values()]
        better += np.mean(errors[-10:]) < np.mean(errors[:10])
    assert better == 6


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_outermost_whole_numbers_have_their_full_share(library):
    space = space_of({"n": {"type": "integer", "low": 1, "high": 3}})
    search = search_of(library, space=space, trials=300, generation=300, startup=300, duplicates="train")
    drawn = [request.configuration["n"] for request in search.ask(300)]
    counts = [drawn.count(value) for value in (1, 2, 3)]
    assert min(counts) > 70  # 100 each; 70 is 3.7 standard deviations below


def test_a_search_that_ends_before_anything_is_estimated_says_so():
    for library, startup in (("optuna", 10), ("hyperopt", 20)):
        notes = [r.text for r in search_of(library, trials=5, startup=None).drain() if isinstance(r, Note)]
        assert len(notes) == 1
        assert f"the library {library} draws its first {startup} trials at random" in notes[0]


def test_a_restriction_is_searched_as_what_it_leaves():
    space = space_from_spec(
        {
            "kind": "parameters",
            "parameters": PARAMETERS,
            "restrictions": [{"c": {"only": ["b", "3"]}}],
        },
        name="A",
    )
    assert {c["c"] for c in play(search_of("optuna", space=space)).values()} == {"b", 3}


KTG = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 2, "models": ["s", "m"]},
    "gates": ["through", "cutoff", "linear"],
}


def graph_error(configuration):
    """The best graphs have three medium edges; symmetric graphs have one error."""
    good = {"label->1": "through", "2->1": "linear", "3->1": "linear"}
    return 100 - 20 * sum(configuration[name] == gate for name, gate in good.items())


@pytest.mark.parametrize("library", LIBRARIES)
def test_graphs_are_searched_canonical_and_each_once(library):
    space = space_from_spec(KTG, name="A")
    search = search_of(library, space=space, trials=60, generation=5, startup=20)
    asked, errors = {}, []
    while not search.done:
        for request in search.ask(5):
            assert request.configuration == space.canonical(request.configuration)
            assert request.configuration in space
            assert request.orbit_size == space.orbit_size(request.configuration)
            asked[request.number] = configuration_key(request.configuration)
            errors.append(graph_error(request.configuration))
            search.tell(request.number, Outcome(state="complete", error=errors[-1]))
    assert len(set(asked.values())) == len(asked) == 60
    # a random graph has an error of 80 in the mean; its standard deviation is 16, that of the mean of 30 is 3
    assert np.mean(errors[-30:]) < 70


@pytest.mark.parametrize("library", LIBRARIES)
def test_restricted_graphs_are_searched_within_the_restriction(library):
    space = space_from_spec({**KTG, "restrictions": [{"auxiliary models": ["m", "s"]}]}, name="A")
    search = search_of(library, space=space, trials=30)
    while not search.done:
        for request in search.ask(5):
            assert request.configuration in space
            search.tell(request.number, Outcome(state="complete", error=graph_error(request.configuration)))
    assert len(search.ledger.requests) == 30


@pytest.mark.parametrize("library", LIBRARIES)
def test_conditional_parameters_exist_where_their_conditions_hold(library):
    parameters = {
        "optimiser": {"type": "categorical", "values": ["sgd", "adam"]},
        "layers": {"type": "integer", "low": 1, "high": 3},
        "momentum": {"type": "float", "low": 0, "high": 1, "when": {"optimiser": "sgd"}},
        "nesterov": {"type": "categorical", "values": [True, False], "when": {"optimiser": "sgd"}},
        "warm": {"type": "float", "low": 0, "high": 1, "when": {"nesterov": True, "layers": [2, 3]}},
    }
    space = space_of(parameters)
    search = search_of(library, space=space, trials=60, startup=20, generation=4)
    seen = set()
    while not search.done:
        for request in search.ask(4):
            found = request.configuration
            assert found in space
            seen.add(tuple(sorted(found)))
            # the branch with momentum is better, and in it a momentum near 0.8
            error = 50 * abs(found["momentum"] - 0.8) if "momentum" in found else 60
            search.tell(request.number, Outcome(state="complete", error=error))
    assert len(seen) == 3  # adam; sgd; sgd with warm
    late = [search.ledger.requests[number].configuration for number in range(43, 63)]
    assert sum("momentum" in found for found in late) > 12
    near = [found["momentum"] for found in late if "momentum" in found]
    assert np.mean(np.abs(np.array(near) - 0.8)) < 0.25  # of uniform ones 0.34


@pytest.mark.parametrize("library", LIBRARIES)
def test_constraints_are_kept(library):
    space = space_of(
        {"a": {"type": "float", "low": 0, "high": 1}, "b": {"type": "float", "low": 0, "high": 1}},
        constraints=[{"compare": ["a", "<", "b"]}],
    )
    search = search_of(library, space=space, trials=40)
    while not search.done:
        for request in search.ask(4):
            found = request.configuration
            assert found["a"] < found["b"]
            search.tell(request.number, Outcome(state="complete", error=100 * (1 - found["a"])))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_space_where_hardly_any_proposal_is_valid_is_still_searched(library):
    parameters = {
        name: {"type": "categorical", "values": ["x", "y", "z"]} for name in ("a", "b", "c", "d", "e", "f")
    }
    # all six are equal: 3 of 729
    pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f")]
    constraints = [
        {"forbid": {left: value, right: [other for other in ("x", "y", "z") if other != value]}}
        for left, right in pairs
        for value in ("x", "y", "z")
    ]
    space = space_of(parameters, constraints=constraints)
    search = search_of(library, space=space, trials=10, duplicates="train")
    while not search.done:
        for request in search.ask(4):
            assert len(set(request.configuration.values())) == 1
            search.tell(request.number, Outcome(state="complete", error=50))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_stopped_trial_is_told_with_its_curve_and_a_lost_one_as_failed(library):
    proposals = make_proposer(TpeSettings(kind="tpe", library=library, trials=9), axes_of(space_of()), 7)
    valid = Proposals(space_of(), proposals, seed=7)
    for _ in range(4):
        valid.next()
    valid.learn(0, Outcome(state="complete", error=10))
    valid.learn(1, Outcome(state="stopped", error=30, curve=((1, 40.0), (2, float("nan")), (4, 30.0))))
    valid.learn(2, Outcome(state="diverged", error=100))
    valid.learn(3, Outcome(state="stopped", error=20))
    if library == "optuna":
        told = proposals._study.trials
        assert [trial.state.name for trial in told] == ["COMPLETE", "PRUNED", "FAIL", "PRUNED"]
        assert list(told[1].intermediate_values) == [1, 2, 4]
        assert told[3].intermediate_values == {0: 20}
    else:
        results = [trial["result"] for trial in proposals._trials.trials]
        assert [result.get("loss") for result in results] == [10, 30, None, 20]
        assert [result["status"] for result in results] == ["ok", "ok", "fail", "ok"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_pending_trials_keep_the_proposals_of_a_generation_apart(library):
    """Of 729 configurations, with all but the pending ones alike: proposals differ though nothing is told of them."""
    parameters = {name: {"type": "categorical", "values": list("xyz")} for name in "abcdef"}
    search = search_of(
        library, space=space_of(parameters), trials=40, generation=20, startup=10, duplicates="train"
    )
    for request in search.ask(20):
        error = 10.0 * sum(value != "x" for value in request.configuration.values())
        search.tell(request.number, Outcome(state="complete", error=error))
    second = [configuration_key(request.configuration) for request in search.ask(20)]
    assert len(set(second)) > 5


def test_what_asha_stops_is_known_to_optuna_with_its_curve(clock, tmp_path):
    sweep = parse_sweep(
        {
            "name": "asha",
            "space": {"kind": "parameters", "parameters": PARAMETERS},
            "trainable": {"kind": "constant", "epochs": 6, "noise": 50},
            "searcher": {"kind": "tpe", "trials": 24, "generation": 8},
            "scheduler": {"kind": "asha", "rungs": [1, 3]},
        },
        "here",
    )
    driver = Driver(sweep, clock, tmp_path, scheduler=make_scheduler(sweep)).run()
    states = {row.number: str(row.state) for row in driver.rows(op.FinishTrials)}
    told = driver.coordinator.searcher._proposals._proposer._study.trials
    stopped = 0
    for number, trial in enumerate(told[:16]):  # the last generation is told to nobody
        if states[number] == "stopped":
            stopped += 1
            assert trial.state.name == "PRUNED"
            assert list(trial.intermediate_values) in ([1], [1, 2, 3])
        else:
            assert trial.state.name == "COMPLETE"
    assert stopped > 4
