"""Gradient search: what a trial's optimiser is handed, for parameters of a space and for the gates of a graph."""

from __future__ import annotations

import numpy as np
import pytest

from kdsearch.search.config import parse_sweep
from kdsearch.search.searcher_settings import GradientOptions
from kdsearch.search.searchers import make_searcher
from kdsearch.search.searchers.base import Draw, Outcome
from kdsearch.search.searchers.descent import Descent
from kdsearch.search.searchers.plans import shared_part
from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.metaparameters.settings import OptimiserSettings
from kdsearch.trainables.registry import trainable_kind

PARAMETERS = {
    "alpha": {"type": "float", "low": 0.2, "high": 0.9},
    "temperature": {"type": "log-uniform", "low": 0.1, "high": 10},
}
DECLARED = {"alpha": [0, 1], "temperature": [0.01, 100]}
RATE = {"rate": {"type": "float", "low": 0.1, "high": 1}}


def sweep_of(parameters=PARAMETERS, declared=DECLARED, **searcher):
    return parse_sweep(
        {
            "name": "s",
            "space": {"kind": "parameters", "parameters": parameters},
            "trainable": {"kind": "constant", "metaparameters": declared},
            "searcher": {"kind": "gradient", "trials": 4, **searcher},
        },
        "test",
    )


def graphs(**searcher):
    return parse_sweep(
        {
            "name": "g",
            "space": {
                "kind": "ktg",
                "target": "resnet8w4",
                "auxiliary": {"count": 2, "models": ["resnet8w4", "resnet8w8"]},
                "gates": ["through", "cutoff", "learned"],
            },
            "trainable": {"kind": "ktg", "data": "digits"},
            "searcher": {"kind": "gradient", "trials": 30, **searcher},
        },
        "test",
    )


def requests_of(sweep):
    return make_searcher(sweep, first_number=2).ask(1000)


def test_a_trial_starts_at_its_configuration_and_stays_where_loss_and_space_are():
    requests = requests_of(sweep_of({**PARAMETERS, **RATE}, metaparameters=["alpha"]))
    assert [request.number for request in requests] == [2, 3, 4, 5]
    assert len({request.configuration["rate"] for request in requests}) == 4
    for request in requests:
        optimiser = OptimiserSettings.from_mapping(request.plan["optimiser"])
        assert optimiser.start == {"alpha": request.configuration["alpha"]}
        assert optimiser.bounds == {"alpha": (0.2, 0.9)}
        assert (request.plan["optimised"], request.design, request.probability) == (True, "gradient", None)


def test_settings_of_the_sweep_file_reach_the_trial():
    given = {
        "rate": 0.25,
        "e1": 3,
        "e2": 7,
        "fit": "increment",
        "clip": 0.01,
        "hypergradient": "finite-difference",
    }
    for request in requests_of(sweep_of(**given)):
        assert given.items() <= request.plan["optimiser"].items()
        assert set(request.plan["optimiser"]["start"]) == {"alpha", "temperature"}


def test_all_trials_share_a_pack_and_are_drawn_like_random_ones():
    requests = requests_of(sweep_of({"temperature": PARAMETERS["temperature"]}))
    assert len({shared_part(request.plan) for request in requests}) == 1
    drawn = sweep_of({"temperature": PARAMETERS["temperature"]}, kind="random")
    assert [r.configuration for r in requests] == [r.configuration for r in requests_of(drawn)]


def test_every_trial_answers_a_draw_and_the_search_ends_with_the_last_outcome():
    search = make_searcher(sweep_of(), first_number=0)
    requests = search.ask(3) + search.ask(3)
    assert [record.trial for record in search.drain() if isinstance(record, Draw)] == [0, 1, 2, 3]
    for request in requests:
        assert not search.done
        search.tell(request.number, Outcome(state="complete", error=1.0))
    assert search.done


def test_the_learned_gates_of_each_graph_start_anywhere_in_their_interval():
    starts = []
    for request in requests_of(graphs()):
        learned = {f"weight.{name}" for name, value in request.configuration.items() if value == "learned"}
        optimiser = OptimiserSettings.from_mapping(request.plan["optimiser"])
        assert set(optimiser.start) == set(optimiser.bounds) == learned
        assert set(optimiser.bounds.values()) <= {(0.0, 1.0)}
        starts += optimiser.start.values()
    assert len(starts) > 50
    assert abs(np.mean(starts) - 0.5) < 0.15
    # which gates are learned differs, and does not keep graphs of one shape apart
    assert len({shared_part(request.plan) for request in requests_of(graphs())}) == 1


def test_learned_gates_are_optimised_together():
    with pytest.raises(UsageError, match="optimised together"):
        graphs(metaparameters=["weight.label->1"])


@pytest.mark.parametrize(
    ("parameters", "declared", "named", "words"),
    [
        ({**PARAMETERS, **RATE}, DECLARED, None, "rate is not differentiable"),
        (
            PARAMETERS,
            DECLARED,
            ["rate"],
            "rate is not a differentiable metaparameter of the trainable constant",
        ),
        (RATE, DECLARED, ["alpha"], "alpha is no parameter of the space"),
        (RATE, {}, None, "no differentiable metaparameter"),
        ({"alpha": {"type": "integer", "low": 0, "high": 1}}, DECLARED, None, "alpha is a whole number"),
        ({"alpha": {"type": "float", "low": 0, "high": 3}}, DECLARED, None, r"alpha is anywhere in \[0, 3\]"),
        (
            {
                "alpha": {**PARAMETERS["alpha"], "when": {"kind": "soft"}},
                "kind": {"type": "categorical", "values": ["soft", "hard"]},
            },
            DECLARED,
            ["alpha"],
            "alpha is active in some configurations only",
        ),
    ],
)
def test_what_no_gradient_can_optimise_is_refused(parameters, declared, named, words):
    with pytest.raises(UsageError, match=words):
        sweep_of(parameters, declared, metaparameters=named)


def test_a_constraint_on_a_metaparameter_is_refused():
    rule = {"compare": ["alpha", "<=", "temperature"]}
    spec = {"kind": "parameters", "parameters": PARAMETERS, "constraints": [rule]}
    descent = Descent(
        space=space_from_spec(spec, name="A"),
        kind=trainable_kind("constant"),
        settings={"metaparameters": DECLARED},
        options=GradientOptions(kind="gradient"),
    )
    with pytest.raises(UsageError, match="does not keep the constraint"):
        descent.check()
