"""Proposals made usable: duplicates, exhausted spaces, what stands in for a proposal; the axes of a space."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsearch.search.config import parse_sweep
from kdsearch.search.searcher_settings import ProposingSettings
from kdsearch.search.searchers import make_searcher
from kdsearch.search.searchers.axes import axes_of, free, places, walk
from kdsearch.search.searchers.base import Draw, Note, Outcome
from kdsearch.search.searchers.cmaes import population
from kdsearch.search.searchers.kinds import Task
from kdsearch.search.searchers.proposing import TRIES, Proposals, ProposalSearch
from kdsearch.spaces import configuration_key, space_from_spec
from kdsearch.spaces.errors import UsageError

SMALL = {
    "kind": "parameters",
    "parameters": {
        "a": {"type": "categorical", "values": ["x", "y", "z"]},
        "b": {"type": "integer", "low": 1, "high": 2},
    },
}
GRAPHS = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 2, "models": ["s", "m"]},
    "gates": ["through", "cutoff", "linear"],
}


class Settings(ProposingSettings):
    kind: Literal["listed"] = "listed"


class Listed:
    """Proposes from a list, again and again, and remembers what it is told."""

    def __init__(self, *proposals):
        self.proposals, self.calls, self.kept, self.told = proposals, 0, [], []

    def propose(self):
        self.calls += 1
        return self.proposals[(self.calls - 1) % len(self.proposals)]

    def keep(self, configuration):
        self.kept.append(dict(configuration))

    def learn(self, index, outcome):
        self.told.append((index, outcome.error))


def search_of(proposer, space, *, trials=4, duplicates="replace", generation=1):
    task = Task(space=space, trainable=None, settings={}, statistics=None, seed=1, first_number=5)
    settings = Settings(trials=trials, duplicates=duplicates)
    return ProposalSearch(settings, task, proposer, generation=generation)


def run(search, *, at_a_time=10):
    asked = []
    while requests := search.ask(at_a_time):
        for request in requests:
            asked.append(dict(request.configuration))
            search.tell(request.number, Outcome(state="complete", error=float(request.number)))
    assert search.done
    return asked


def small():
    return space_from_spec(SMALL, name="A")


X1, Y2 = {"a": "x", "b": 1}, {"a": "y", "b": 2}


def test_answered_duplicates_are_draws_of_the_known_trial_and_are_learned_from():
    proposer = Listed(X1, X1, Y2)
    search = search_of(proposer, small(), trials=7, duplicates="answer", generation=2)
    assert run(search) == [X1, Y2]
    draws = [record.trial for record in search.drain() if isinstance(record, Draw)]
    assert draws == [5, 5, 6, 5, 5, 6, 5]
    # the second proposal of the first generation is told when the trial that answers it has ended, as all others
    assert proposer.told == [(0, 5), (1, 5), (2, 6), (3, 5), (4, 5), (5, 6)]
    assert search.overview().done == search.overview().planned == 2


def test_replaced_duplicates_leave_only_what_is_new():
    proposer = Listed(X1)
    search = search_of(proposer, small(), trials=4)
    asked = run(search)
    assert asked[0] == X1
    assert len({configuration_key(each) for each in asked}) == 4
    # what stands in for X1 is near it, as long as there is something near: one of two parameters is the same
    assert all(sum(each[name] == X1[name] for name in X1) == 1 for each in asked[1:3])
    # the proposer is told what it should have known, as often as it proposed it
    assert proposer.calls == 1 + 3 * TRIES
    assert proposer.told.count((0, 5.0)) == 1
    assert sum(error == 5.0 for _, error in proposer.told) == 1 + 3 * TRIES


def test_a_pending_duplicate_is_not_told():
    proposer = Listed(X1)
    search = search_of(proposer, small(), trials=3, generation=3)
    assert len(search.ask(10)) == 3
    assert proposer.kept[0] == X1
    assert len(proposer.kept) == 3
    assert not proposer.told


def test_trained_duplicates_are_trials_of_their_own():
    search = search_of(Listed(X1), small(), trials=3, duplicates="train")
    assert run(search) == [X1, X1, X1]


@pytest.mark.parametrize("generation", [1, 4, 20])
def test_an_exhausted_space_ends_the_search_and_says_so(generation):
    search = search_of(Listed(X1), small(), trials=20, generation=generation)
    asked = run(search)
    assert len({configuration_key(each) for each in asked}) == len(asked) == 6
    notes = [record.text for record in search.drain() if isinstance(record, Note)]
    assert len(notes) == 1
    assert "ends after 6 of 20 trials" in notes[0]


def test_a_space_whose_only_freedom_is_a_point_is_exhausted_too():
    """An interval of one point counts as a continuum; nothing new turns up in it all the same."""
    parameters = {
        "f": {"type": "float", "low": 2, "high": 2},
        "a": {"type": "categorical", "values": ["x", "y"]},
    }
    space = space_from_spec({"kind": "parameters", "parameters": parameters}, name="A")
    asked = run(search_of(Listed({"f": 2.0, "a": "x"}), space, trials=9))
    assert len(asked) == 2


def test_with_answers_a_tiny_space_ends_with_the_last_draw():
    search = search_of(Listed(X1), small(), trials=50, duplicates="answer")
    assert run(search) == [X1]
    assert sum(isinstance(record, Draw) for record in search.drain()) == 50


def test_mirror_images_are_one_graph():
    space = space_from_spec(GRAPHS, name="A")
    rng = np.random.default_rng(0)
    graph = next(g for _ in range(50) if space.orbit_size(g := space.sample(rng)) == 2)
    mirror = space.permuted(graph, (1, 0))
    assert mirror != graph
    proposer = Listed(graph, mirror)
    assert run(search_of(proposer, space, trials=6, duplicates="answer")) == [space.canonical(graph)]
    assert proposer.kept == [space.canonical(graph)] * 6


def test_what_is_no_configuration_is_never_tried_and_never_told():
    proposer = Listed({"a": "w", "b": 1}, {"a": "x"}, {})
    asked = run(search_of(proposer, small(), trials=6))
    assert len(asked) == 6
    assert all(each in small() for each in asked)
    assert len(proposer.told) == 5  # of the six that were drawn instead, the last one is told to nobody


def test_what_stands_in_for_an_invalid_proposal_is_near_it():
    parameters = {name: {"type": "float", "low": 0, "high": 1} for name in "abcd"}
    spec = {"kind": "parameters", "parameters": parameters, "constraints": [{"compare": ["a", "<", "b"]}]}
    space = space_from_spec(spec, name="A")
    proposed = {"a": 0.6, "b": 0.5, "c": 0.1, "d": 0.9}
    found = Proposals(space, Listed(proposed), seed=3).next()
    assert found in space
    assert sum(found[name] != proposed[name] for name in parameters) == 1


PARAMETERS = {
    "c": {"type": "categorical", "values": ["a", 1, True]},
    "n": {"type": "integer", "low": -3, "high": 9, "step": 3},
    "q": {"type": "quantised", "low": 0.1, "high": 0.7, "step": 0.1},
    "f": {"type": "float", "low": -1, "high": 1},
    "l": {"type": "log-uniform", "low": 0.001, "high": 10},
    "one": {"type": "integer", "low": 4, "high": 4},
    "m": {"type": "float", "low": 0, "high": 1, "when": {"c": [1, "a"]}},
    "k": {"type": "categorical", "values": [False, True], "when": {"m2": "u", "n": [0, 3]}},
    "m2": {"type": "categorical", "values": ["u", "v"], "when": {"c": True}},
}
SPECS = [
    {"kind": "parameters", "parameters": PARAMETERS},
    {"kind": "parameters", "parameters": PARAMETERS, "restrictions": [{"c": {"only": ["1", "true"]}}]},
    {
        "kind": "parameters",
        "parameters": PARAMETERS,
        "restrictions": [{"n": {"only": ["0", "9"]}}, {"c": ["true"]}],
    },
    {"kind": "parameters", "parameters": PARAMETERS, "restrictions": [{"m2": ["(inactive)"]}]},
    GRAPHS,
    {**GRAPHS, "restrictions": [{"label->auxiliary": ["through", "linear"]}]},
]


@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("spec", SPECS)
def test_places_and_values_are_two_sides_of_a_configuration(spec, seed):
    space = space_from_spec(spec, name="A")
    axes = axes_of(space)
    configuration = space.sample(np.random.default_rng(seed))
    found = places(axes, configuration)
    assert set(found) <= {axis.name for axis in free(axes)}
    walked = walk(axes, lambda axis: found[axis.name])
    assert walked == configuration
    assert [type(walked[name]) for name in configuration] == [type(each) for each in configuration.values()]


def test_places_beyond_the_ends_are_the_ends():
    n = next(axis for axis in axes_of(space_from_spec(SPECS[0], name="A")) if axis.name == "n")
    assert [n.value_of(place) for place in (-0.5, 0.4, 3.6, 4.5, 99)] == [-3, -3, 9, 9, 9]
    assert n.ordered


def sweep(searcher, space, **more):
    data = {"name": "s", "space": space, "trainable": {"kind": "constant"}, "searcher": searcher, **more}
    return parse_sweep(data, "here")


NUMBERS = {"x": {"type": "float", "low": 0, "high": 1}, "t": {"type": "log-uniform", "low": 0.1, "high": 10}}


@pytest.mark.parametrize(
    ("kind", "parameters", "word"),
    [
        (
            "cmaes",
            {**NUMBERS, "c": {"type": "categorical", "values": [1, 2]}},
            "and c has values without order",
        ),
        ("cmaes", {"x": NUMBERS["x"]}, "2 or more parameters that can move, and the space has 1"),
        (
            "cmaes",
            {**NUMBERS, "c": {**NUMBERS["x"], "when": {"n": 1}}, "n": SMALL["parameters"]["b"]},
            r"\(when\): c",
        ),
        (
            "qmc",
            {**NUMBERS, "c": {**NUMBERS["x"], "when": {"n": 1}}, "n": SMALL["parameters"]["b"]},
            r"\(when\): c",
        ),
    ],
)
def test_spaces_without_coordinates_are_refused(kind, parameters, word):
    with pytest.raises(UsageError, match=word) as error:
        sweep({"kind": kind, "trials": 4}, {"kind": "parameters", "parameters": parameters})
    assert error.value.message.startswith("here: ")
    assert "tpe" in error.value.hint


def test_graphs_are_refused_by_cma_es():
    with pytest.raises(UsageError, match=r"each of model\.2, .* has values without order"):
        sweep({"kind": "cmaes", "trials": 4}, GRAPHS)


def test_quasi_random_points_fill_every_bin_evenly():
    """Of 64 points of a scrambled Sobol' sequence each eighth of a parameter has 8; random ones would by chance."""
    parameters = {**NUMBERS, "c": {"type": "categorical", "values": list("abcdefgh")}}
    space = {"kind": "parameters", "parameters": parameters}
    search = make_searcher(sweep({"kind": "qmc", "trials": 64}, space, seed=4), first_number=0)
    found = [request.configuration for request in search.ask(1000)]
    assert len(found) == 64
    assert np.histogram([each["x"] for each in found], 8, (0, 1))[0].tolist() == [8] * 8
    assert np.histogram([np.log10(each["t"]) for each in found], 8, (-1, 1))[0].tolist() == [8] * 8
    assert sorted(each["c"] for each in found) == sorted("abcdefgh" * 8)


def test_cma_es_finds_the_least_of_a_bowl_and_moves_away_from_what_is_lost():
    # 4 + 3 ln 2 = 6.08, 4 + 3 ln 10 = 10.9
    assert (population(2), population(10)) == (6, 10)
    bowl = {name: {"type": "float", "low": 0, "high": 1} for name in ("x", "y")}
    search = make_searcher(
        sweep({"kind": "cmaes", "trials": 90}, {"kind": "parameters", "parameters": bowl}), first_number=0
    )
    errors = []
    while not search.done:
        requests = search.ask(1000)
        assert len(requests) == 6
        for request in requests:
            x, y = request.configuration["x"], request.configuration["y"]
            lost = x > 0.7
            errors.append(100.0 if lost else 100 * ((x - 0.3) ** 2 + (y - 0.6) ** 2))
            search.tell(request.number, Outcome(state="diverged" if lost else "complete", error=errors[-1]))
    # a random point has an error of about 30 in the mean
    assert np.mean(errors[-12:]) < 1


SCRIPT = """
import sys
from kdsearch.search.config import parse_sweep
from kdsearch.search.searchers import make_searcher
from kdsearch.search.searchers.base import Outcome
from kdsearch.spaces import configuration_key

parameters = {
    "o": {"type": "categorical", "values": ["a", "b", "c"]},
    **{name: {"type": "float", "low": 0, "high": 1, "when": {"o": value}}
       for name, value in zip("pqrs", ["a", "b", ["a", "b"], "c"])},
}
for library in ("optuna", "hyperopt"):
    sweep = parse_sweep({"name": "s", "space": {"kind": "parameters", "parameters": parameters},
        "trainable": {"kind": "constant"},
        "searcher": {"kind": "tpe", "library": library, "trials": 20, "startup": 8}}, "here")
    search = make_searcher(sweep, first_number=0)
    while requests := search.ask(100):
        for request in requests:
            print(configuration_key(request.configuration))
            error = 100 * sum(value for value in request.configuration.values() if not isinstance(value, str))
            search.tell(request.number, Outcome(state="complete", error=error))
"""


def test_another_process_proposes_the_same():
    """Sets of texts are in another order in every process; nothing may depend on it."""
    told = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(told[0].split()) == 40
