"""After a search its best configuration is trained anew; configurations that a file names are trained by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from kdsearch.search.config import load_sweep, parse_sweep
from kdsearch.search.searchers import make_searcher
from kdsearch.search.searchers.base import Note, Outcome
from kdsearch.search.trialdb import operations as op
from kdsearch.spaces.errors import UsageError

_SPEC = importlib.util.spec_from_file_location("driver", Path(__file__).with_name("driver.py"))
_DRIVER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_DRIVER)
Driver, history_of = _DRIVER.Driver, _DRIVER.history_of

SPACE = {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}}
NAMED = {"low": {"x": 0.25}, "high": {"x": 0.75}}


def sweep_of(searcher, **keys):
    return parse_sweep(
        {"name": "s", "space": SPACE, "trainable": {"kind": "constant"}, "searcher": searcher, **keys}, "test"
    )


def confirmed(**keys):
    return sweep_of({"kind": "random", "trials": 6, "confirm": 2, **keys})


def searched(errors, *, states=None):
    """A search whose trials ended so; the best of it is to be confirmed."""
    searcher = make_searcher(confirmed(), first_number=10)
    asked = searcher.ask(100)
    for request, error, state in zip(asked, errors, states or ["complete"] * 6, strict=True):
        assert not searcher.done
        searcher.tell(request.number, Outcome(state=state, error=error))
    return searcher, asked


def test_the_best_is_trained_with_seeds_of_its_own():
    searcher, asked = searched([5.0, 3.0, 9.0, 3.0, 7.0, 8.0])
    assert not searcher.done
    final = searcher.ask(100)
    assert [request.number for request in final] == [16, 17]
    assert all(
        request.configuration == asked[1].configuration for request in final
    )  # of equal ones the first
    assert [request.seed_key for request in final] == [("run", 0), ("run", 1)]
    assert [request.plan["run"] for request in final] == [0, 1]
    assert all(
        request.plan["final"] and request.plan["evaluate"] and request.plan["objective"] == "test_error"
        for request in final
    )
    for request in final:
        searcher.tell(request.number, Outcome(state="complete", error=1.0))
    assert searcher.done
    assert not searcher.ask(1)


def test_trainings_that_follow_are_planned_from_the_start():
    def stands(searcher):
        return searcher.overview().done, searcher.overview().planned

    searcher, asked = searched([5.0, 3.0, 9.0, 3.0, 7.0, 8.0])
    assert stands(make_searcher(confirmed(), first_number=10)) == (0, 8)
    assert stands(searcher) == (6, 8)
    for done, request in enumerate(searcher.ask(100), start=7):
        searcher.tell(request.number, Outcome(state="complete", error=1.0))
        assert stands(searcher) == (done, 8)
    searcher, _ = searched([5.0] * 6, states=["failed"] * 6)
    assert searcher.done
    assert stands(searcher) == (6, 6)
    assert len(asked) == 6


def test_the_best_error_on_show_is_that_of_the_search(clock, tmp_path):
    driver = Driver(confirmed(trials=2, confirm=60), clock, tmp_path).run()
    errors = {row.number: row.error for row in driver.rows(op.FinishTrials)}
    best = min(range(2), key=lambda number: errors[number])
    assert min(errors.values()) < errors[best]  # a test error of one of the 60 is lower
    tally = driver.coordinator.tally
    assert (tally.best_number, tally.best_error, tally.finished) == (best, errors[best], 62)


def test_the_search_itself_never_sees_the_test_part():
    _, asked = searched([5.0] * 6)
    assert not any(request.plan.get("evaluate") for request in asked)


def test_a_trial_that_was_stopped_or_diverged_is_not_the_best():
    searcher, asked = searched(
        [5.0, 1.0, 2.0, 6.0, 7.0, 8.0],
        states=["complete", "stopped", "diverged", "complete", "complete", "failed"],
    )
    assert searcher.ask(1)[0].configuration == asked[0].configuration


def test_nothing_to_confirm_is_said():
    searcher, _ = searched([5.0] * 6, states=["failed"] * 6)
    assert searcher.done
    notes = [record for record in searcher.drain() if isinstance(record, Note)]
    assert any("no best configuration" in note.text for note in notes)


def test_telling_of_an_unknown_trial_is_refused():
    searcher, _ = searched([5.0] * 6)
    with pytest.raises(KeyError):
        searcher.tell(99, Outcome(state="complete", error=0.0))


def test_a_resumed_search_confirms_the_same(clock, tmp_path):
    sweep = confirmed()
    whole = Driver(sweep, clock, tmp_path).run()
    rows = whole.rows(op.AddTrials)
    assert [row.number for row in rows] == list(range(8))
    for upto in (3, len(whole.operations) - 2):
        history = history_of(whole.operations, upto=upto)
        again = Driver(sweep, clock, tmp_path, history=history).run()
        assert again.rows(op.AddTrials)[-1].configuration == rows[-1].configuration
        assert again.coordinator.done


def test_a_search_of_graphs_keeps_away_from_the_test_part_until_its_best_is_confirmed():
    sweep = load_sweep("ktg-digits", ["searcher={kind: random, trials: 5, confirm: 2}"])
    searcher = make_searcher(sweep, first_number=0)
    asked = searcher.ask(100)
    assert [dict(request.plan) for request in asked] == [{}] * 5
    for request in asked:
        searcher.tell(request.number, Outcome(state="complete", error=50.0 + request.number))
    assert [request.plan["final"] and request.plan["evaluate"] for request in searcher.ask(100)] == [True] * 2


def test_named_configurations_are_trained_by_name():
    searcher = make_searcher(sweep_of({"kind": "named", "runs": 2}, configurations=NAMED), first_number=0)
    asked = searcher.ask(100)
    assert [(each.plan["method"], each.plan["run"], each.configuration["x"]) for each in asked] == [
        ("low", 0, 0.25),
        ("low", 1, 0.25),
        ("high", 0, 0.75),
        ("high", 1, 0.75),
    ]
    assert asked[0].seed_key == asked[2].seed_key != asked[1].seed_key


def test_a_name_alone_is_a_searcher(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "name: s\nspace: {kind: parameters, parameters: {x: {type: float, low: 0, high: 1}}}\n"
        "trainable: {kind: constant}\nconfigurations: {chosen: {x: 0.5}}\nsearcher: {kind: random, trials: 9}\n"
    )
    named = load_sweep(str(path), ["searcher=chosen", "searcher.runs=3"]).searcher
    assert (named.kind, named.names, named.runs) == ("named", ["chosen"], 3)
    assert load_sweep(str(path), ["searcher=random", "searcher.trials=4"]).searcher.trials == 4


@pytest.mark.parametrize(
    ("searcher", "configurations", "word"),
    [
        ({"kind": "named"}, {}, "names none"),
        ({"kind": "named", "names": ["chosn"]}, NAMED, "'chosn'.*low, high"),
        ({"kind": "named", "runs": 0}, NAMED, "runs"),
        ({"kind": "random", "trials": 5, "confirm": -1}, {}, "confirm"),
    ],
)
def test_what_cannot_be_named_or_confirmed(searcher, configurations, word):
    with pytest.raises(UsageError, match=word):
        sweep_of(searcher, configurations=configurations)
