"""What differs between a sweep and a sweep file, and what of it a sweep that has begun takes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kdsearch.search.changes import (
    change_events,
    check_accepted,
    check_unconfirmed,
    differences,
    extended,
)
from kdsearch.search.config import changed_sweep, parse_sweep
from kdsearch.spaces.errors import UsageError

SWEEP = {
    "name": "s",
    "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "trainable": {"kind": "constant", "epochs": 4},
    "searcher": {"kind": "random", "trials": 10},
    "scheduler": {"kind": "asha", "rungs": [1, 2]},
}


def sweep_of(*changes):
    return changed_sweep(parse_sweep(SWEEP, "a test"), changes)


def found(*changes, confirming=False):
    return {
        each.key: (each.stored, each.wanted, bool(each.refused))
        for each in differences(sweep_of(), sweep_of(*changes), confirming=confirming)
    }


def test_nothing_differs_from_itself_whatever_its_name():
    assert found("name=other") == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("title=Other", {"title": ("", "Other", False)}),
        ("run.pack=3", {"run.pack": (16, 3, False)}),
        ("run.max_concurrent=2", {"run.max_concurrent": (None, 2, False)}),
        ("run.checkpoint_every=1", {"run.checkpoint_every": (0, 1, False)}),
        ("searcher.trials=12", {"searcher.trials": (10, 12, False)}),
        ("searcher.trials=9", {"searcher.trials": (10, 9, True)}),
        ("searcher.confirm=2", {"searcher.confirm": (0, 2, True)}),
        ("seed=1", {"seed": (0, 1, True)}),
        ("trainable.epochs=5", {"trainable.epochs": (4, 5, True)}),
        ("trainable.noise=1", {"trainable.noise": (10.0, 1, True)}),
        ("scheduler.rungs=[1]", {"scheduler.rungs": ([1, 2], [1], True)}),
        ("statistics.alpha=0.1", {"statistics.alpha": (0.05, 0.1, True)}),
        ("space.parameters.x.high=2", {"space.parameters.x.high": (1, 2, True)}),
        (
            "configurations={a: {x: 1}}",
            {"configurations.a.x": (None, 1, True)},
        ),
    ],
)
def test_each_key_is_told_with_both_values_and_whether_it_can_be_taken(change, expected):
    assert {key: value for key, value in found(change).items() if key in expected} == expected


def test_a_scheduler_that_comes_or_goes_is_refused():
    assert all(refused for *_, refused in found("scheduler=none").values())
    assert set(found("scheduler=none")) >= {"scheduler.kind", "scheduler.rungs"}


def test_another_searcher_is_refused_even_where_it_has_more_trials():
    told = found("searcher={kind: tpe, trials: 20}")
    assert told["searcher.kind"] == ("random", "tpe", True)


def test_a_space_that_is_written_otherwise_is_the_same():
    one = parse_sweep({**SWEEP, "space": {**SWEEP["space"], "groups": []}}, "a test")
    two = parse_sweep({**SWEEP, "space": {**SWEEP["space"], "groups": [], "restrictions": []}}, "a test")
    assert differences(one, two) == ()


def test_what_is_so_anyway_makes_no_difference():
    space = {"kind": "ktg", "target": "resnet8w4", "auxiliary": {"count": 0}, "gates": ["through"]}
    short = {"kind": "ktg", "data": "digits"}
    long = {"kind": "ktg", "data": {"name": "digits", "augment": True}, "epochs": 100, "schedule": "cosine"}
    one, two, other = (
        parse_sweep({**SWEEP, "space": space, "trainable": each}, "a test")
        for each in (short, long, {**long, "momentum": 0.5})
    )
    assert differences(one, two) == differences(two, one) == ()
    assert [(each.key, each.stored, each.wanted) for each in differences(one, other)] == [
        ("trainable.momentum", 0.9, 0.5)
    ]


def test_more_trials_are_refused_once_the_best_configuration_is_being_confirmed():
    assert found("searcher.trials=12", confirming=True)["searcher.trials"] == (10, 12, True)
    check_unconfirmed("s", confirming=False)
    with pytest.raises(UsageError, match="look at the test part"):
        check_unconfirmed("s", confirming=True)


def test_an_extended_sweep_has_more_trials_and_nothing_else():
    more = extended(sweep_of(), 30)
    assert [each.key for each in differences(sweep_of(), more)] == ["searcher.trials"]
    assert extended(sweep_of(), 10) == sweep_of()
    with pytest.raises(UsageError, match="asked for 10 already"):
        extended(sweep_of(), 9)


@pytest.mark.parametrize(
    "searcher",
    [
        {"kind": "enumeration"},
        {"kind": "refinement"},
        {"kind": "named"},
        {"kind": "comparison", "reference": "a", "methods": {"a": {"kind": "random"}}},
    ],
)
def test_a_searcher_without_a_number_of_trials_cannot_be_extended(searcher):
    space = {"kind": "parameters", "parameters": {"c": {"type": "categorical", "values": [1, 2]}}}
    data = {**SWEEP, "space": space, "searcher": searcher, "configurations": {"a": {"c": 1}}}
    with pytest.raises(UsageError, match=r"--trials 20: .+") as caught:
        extended(parse_sweep({key: value for key, value in data.items() if key != "scheduler"}, "a test"), 20)
    assert "new sweep" in caught.value.hint


def test_changes_are_taken_only_if_they_are_accepted():
    free = differences(sweep_of(), sweep_of("run.pack=3", "title=Other"))
    with pytest.raises(UsageError, match=r"run\.pack: 16 -> 3") as caught:
        check_accepted("s", free, accepted=False, flag="--yes")
    assert "Give --yes" in caught.value.hint
    check_accepted("s", free, accepted=True, flag="--yes")
    check_accepted("s", (), accepted=False, flag="--yes")
    bound = differences(sweep_of(), sweep_of("run.pack=3", "seed=4"))
    for accepted in (True, False):
        with pytest.raises(UsageError, match=r"keeps seed \(the trials") as caught:
            check_accepted("s", bound, accepted=accepted, flag="--yes")
        assert "--yes" not in caught.value.hint


def test_a_change_is_kept_as_an_event_and_an_extension_as_a_note_too():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    told = differences(sweep_of(), sweep_of("run.pack=3", "searcher.trials=12"))
    change, note = change_events(told, command="kdsearch resume s", now=now)
    assert (change.kind, note.kind) == ("change", "note")
    assert change.data == {
        "changed": [
            {"key": "searcher.trials", "from": 10, "to": 12},
            {"key": "run.pack", "from": 16, "to": 3},
        ],
        "withdrawn": [],
        "command": "kdsearch resume s",
    }
    assert note.data["text"] == "The search was asked for 10 trials at first, and extended to 12 later."
