"""`kdsearch resume` on the command line: as it stands, extended, changed. Packs run in this process, without Ray."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kdsearch.search import launch as launching
from kdsearch.search.cli import _run, resume, run
from kdsearch.search.config import parse_sweep
from kdsearch.search.runner import Slots
from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.search.trialdb.leases import new_lease

_SPEC = importlib.util.spec_from_file_location("standing", Path(__file__).with_name("standing.py"))
STANDING = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(STANDING)
_SPEC = importlib.util.spec_from_file_location("inline", Path(__file__).with_name("inline.py"))
INLINE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(INLINE)

SWEEP = {
    "name": "s",
    "seed": 5,
    "space": {
        "kind": "parameters",
        "parameters": {
            "x": {"type": "float", "low": 0, "high": 1},
            "c": {"type": "categorical", "values": ["a", "b", "c"]},
        },
    },
    "trainable": {"kind": "constant", "epochs": 3, "curve": 20, "wobble": 10},
    "searcher": {"kind": "random", "trials": 6},
    "run": {"pack": 1},
}
NUMBERS = {
    "kind": "parameters",
    "parameters": {name: {"type": "float", "low": 0, "high": 1} for name in ("x", "y")},
}
URL = "sqlite:///kdsearch.db"


@pytest.fixture
def worker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDSEARCH_DB", raising=False)
    monkeypatch.delenv("KDSEARCH_DATA", raising=False)
    slots = Slots(concurrency=1, fits=1, cpus=1.0, gpus=0.0, gpus_per_pack=0.0)
    monkeypatch.setattr(launching, "_ray", lambda *_: contextlib.nullcontext(slots))
    worker = INLINE.Worker()
    monkeypatch.setattr(launching, "run", worker.run)
    for module in (run, resume):  # a report takes longer than all trials
        monkeypatch.setattr(module, "report", lambda *_, **__: None)
    return worker


def write(path="s.yaml", **changes):
    Path(path).write_text(yaml.safe_dump({**SWEEP, **changes}))
    return path


def told(capsys):
    out = capsys.readouterr()
    assert "Traceback" not in out.err + out.out
    return " ".join(out.err.split())


def events(kind, name="s"):
    with TrialDatabase.open(URL, create=False, read_only=True) as database:
        return [event.data for event in database.events(name, kinds=[kind])]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scheduler": {"kind": "asha", "rungs": [1, 2]}},
        {"searcher": {"kind": "tpe", "trials": 6, "startup": 3, "generation": 4}},
        {"searcher": {"kind": "tpe", "trials": 6, "library": "hyperopt", "startup": 3, "generation": 4}},
        {"searcher": {"kind": "qmc", "trials": 6}},
        {"searcher": {"kind": "cmaes", "trials": 6, "generation": 4}, "space": NUMBERS},
        {
            "searcher": {"kind": "gradient", "trials": 6},
            "space": NUMBERS,
            "trainable": {**SWEEP["trainable"], "metaparameters": {"x": [0, 1], "y": [0, 1]}},
        },
    ],
    ids=["random", "asha", "tpe", "hyperopt", "qmc", "cmaes", "gradient"],
)
@pytest.mark.parametrize("before", [None, 4], ids=["finished", "interrupted"])
def test_an_extended_sweep_equals_one_that_was_asked_for_as_many_from_the_start(
    worker, capsys, changes, before
):
    whole = {**SWEEP, **changes, "name": "whole"}
    whole["searcher"] = {**whole["searcher"], "trials": 11}
    assert _run(["sweep", write("whole.yaml", **whole), "--json"]) == 0
    worker.ran, worker.before = [], before
    assert _run(["sweep", write(**changes), "--json"]) == (0 if before is None else 130)
    worker.before = None
    assert _run(["resume", "s", "--trials", "11", "--json"]) == 0
    found, expected = STANDING.standing("kdsearch.db"), STANDING.standing("kdsearch.db", "whole")
    settings = json.loads(found["sweep"][0][2])
    assert settings == {**json.loads(expected["sweep"][0][2]), "name": "s"}
    assert [kind for kind, _ in found["events"] if kind == "change"] == ["change"]
    for table in ("spaces", "trials", "draws", "metrics"):
        assert found[table] == expected[table]
    verdicts = [[data for kind, data in each["events"] if kind == "scheduler"] for each in (found, expected)]
    assert verdicts[0] == verdicts[1]
    assert STANDING.broken("kdsearch.db", epochs=3) == []
    assert sorted(worker.ran) == list(range(len(found["trials"])))  # each ran once
    capsys.readouterr()


def test_extending_is_written_down_once_and_a_plain_resume_goes_on_with_it(worker, capsys):
    assert _run(["sweep", write(), "--json"]) == 0
    worker.before = 8
    assert _run(["resume", "s", "--trials", "10", "--json"]) == 130
    assert "Go on with: kdsearch resume s" in told(capsys)
    worker.before = None
    assert _run(["resume", "s", "--trials", "10", "--json"]) == 0
    assert _run(["resume", "s", "--trials", "10"]) == 0
    assert "s is complete: nothing was run." in told(capsys)
    assert len(worker.ran) == 10
    (change,) = events("change")
    assert change["changed"] == [{"key": "searcher.trials", "from": 6, "to": 10}]
    assert [data["text"] for data in events("note")] == [
        "The search was asked for 6 trials at first, and extended to 10 later."
    ]
    assert _run(["resume", "s", "--trials", "9"]) == 2
    assert "was asked for 10 already" in told(capsys)


def test_a_note_that_an_extension_makes_wrong_is_withdrawn(worker, capsys):
    path = write(searcher={"kind": "tpe", "trials": 3, "startup": 4})
    assert _run(["sweep", path, "--json"]) == 0
    with TrialDatabase.open(URL, create=False, read_only=True) as database:
        assert any("the best of random draws" in note for note in read_record(database, "s").notes)
    assert _run(["resume", "s", "--trials", "6", "--json"]) == 0
    with TrialDatabase.open(URL, create=False, read_only=True) as database:
        notes = read_record(database, "s").notes
    assert notes == ("The search was asked for 3 trials at first, and extended to 6 later.",)


def test_a_sweep_that_is_being_confirmed_is_not_extended(worker, capsys):
    path = write(searcher={"kind": "random", "trials": 4, "confirm": 2})
    worker.before = 3
    assert _run(["sweep", path, "--json"]) == 130
    worker.before = 5
    assert _run(["resume", "s", "--trials", "5", "--json"]) == 130  # none of its trainings has begun
    capsys.readouterr()
    worker.before = 6
    assert _run(["resume", "s", "--json"]) == 130
    capsys.readouterr()
    assert _run(["resume", "s", "--trials", "9"]) == 2
    assert "look at the test part" in told(capsys)
    assert _run(["resume", "s", "--set", "searcher.trials=9", "--accept-changes"]) == 2
    assert "trials that confirm the best configuration have begun" in told(capsys)
    worker.before = None
    assert _run(["resume", "s", "--trials", "5", "--json"]) == 0  # no more than there are


@pytest.mark.parametrize("kind", ["enumeration", "refinement"])
def test_what_has_no_number_of_trials_is_told(worker, capsys, kind):
    space = {"kind": "parameters", "parameters": {"c": {"type": "categorical", "values": [1, 2, 3]}}}
    assert _run(["sweep", write(space=space, searcher={"kind": kind}), "--json"]) == 0
    capsys.readouterr()
    assert _run(["resume", "s", "--trials", "9"]) == 2
    assert "--trials 9: " in told(capsys)


def test_a_resume_with_the_same_file_is_a_resume(worker, capsys):
    worker.before = 2
    assert _run(["sweep", write(), "--json"]) == 130
    worker.before = None
    assert _run(["resume", "s", "--file", write(name="other"), "--json"]) == 0  # the name given counts
    assert events("change") == []
    assert len(worker.ran) == 6


def test_a_changed_file_is_shown_and_refused_unless_it_is_accepted(worker, capsys):
    worker.before = 2
    assert _run(["sweep", write(), "--json"]) == 130
    worker.before = None
    capsys.readouterr()
    path = write(run={"pack": 4, "attempts": 1}, title="Other")
    assert _run(["resume", "s", "--file", path]) == 2
    error = told(capsys)
    for words in ("run.pack 1 4", "run.attempts 3 1", "title Other", "Give --accept-changes"):
        assert words in error.replace("(not given)", "").replace("  ", " ")
    assert len(worker.ran) == 2
    assert events("change") == []
    assert _run(["resume", "s", "--file", path, "--accept-changes", "--json"]) == 0
    (change,) = events("change")
    assert {each["key"]: (each["from"], each["to"]) for each in change["changed"]} == {
        "run.pack": (1, 4),
        "run.attempts": (3, 1),
        "title": ("", "Other"),
    }
    with TrialDatabase.open(URL, create=False, read_only=True) as database:
        assert database.sweep("s").settings["run"]["pack"] == 4
    assert STANDING.broken("kdsearch.db", epochs=3) == []


@pytest.mark.parametrize(
    "change",
    [
        "trainable.epochs=9",
        "seed=6",
        "space.parameters.x.high=2",
        "searcher={kind: tpe, trials: 6}",
        "statistics.a=1",
    ],
)
def test_what_results_depend_on_is_never_changed(worker, capsys, change):
    worker.before = 2
    assert _run(["sweep", write(), "--json"]) == 130
    capsys.readouterr()
    before = STANDING.standing("kdsearch.db")
    for more in ([], ["--accept-changes"], ["--trials", "12"]):
        assert _run(["resume", "s", "--set", change, *more]) == 2
        error = told(capsys)
        assert "A sweep that has begun keeps" in error
        assert "cannot change" in error
    assert STANDING.standing("kdsearch.db") == before
    assert len(worker.ran) == 2


def test_a_search_that_asks_a_person_takes_changes_like_any_other(worker, capsys, monkeypatch):
    space = {
        "kind": "ktg",
        "target": "s",
        "auxiliary": {"count": 1, "models": ["s", "w"]},
        "gates": ["through", "cutoff", "linear"],
    }
    searcher = {"kind": "refinement", "policy": "interactive", "draws": 8, "limit": 6, "min_draws": 2}
    sweep = parse_sweep({**SWEEP, "space": space, "searcher": searcher}, "a test")
    with TrialDatabase.open(URL) as database:
        database.create_sweep(
            "s",
            kind="refine",
            trainable="constant",
            settings=sweep.resolved(),
            seed=5,
            code_version="",
            environment={},
        )
    monkeypatch.setattr(resume, "check_person", lambda _: None)
    worker.before = 0
    assert _run(["resume", "s", "--set", "title=Other", "--accept-changes", "--json"]) == 130
    assert "unexpected" not in told(capsys)
    with TrialDatabase.open(URL, create=False, read_only=True) as database:
        assert database.sweep("s").settings["title"] == "Other"


def test_changes_of_a_finished_sweep_are_kept_and_nothing_runs(worker, capsys):
    assert _run(["sweep", write(), "--json"]) == 0
    assert _run(["resume", "s", "--set", "title=A better one", "--accept-changes"]) == 0
    assert "s is complete: nothing was run." in told(capsys)
    with TrialDatabase.open(URL, create=False, read_only=True) as database:
        assert database.sweep("s").state == "complete"
        assert database.sweep("s").settings["title"] == "A better one"
    assert len(worker.ran) == 6


def test_more_trials_with_a_changed_file_need_one_acceptance(worker, capsys):
    assert _run(["sweep", write(), "--json"]) == 0
    path = write(run={"pack": 2})
    assert _run(["resume", "s", "--file", path, "--trials", "8"]) == 2
    assert "run.pack: 1 -> 2" in told(capsys)
    assert _run(["resume", "s", "--file", path, "--trials", "8", "--accept-changes", "--json"]) == 0
    assert sorted(worker.ran) == list(range(8))


def test_the_file_that_an_extended_sweep_began_with_is_told_how_to_go_on(worker, capsys):
    assert _run(["sweep", write(), "--json"]) == 0
    assert _run(["resume", "s", "--file", write(searcher={"kind": "random", "trials": 5})]) == 2
    error = told(capsys)
    assert "this is not the sweep that s is now: searcher.trials: 6 -> 5" in error
    assert "extended from" not in error
    assert _run(["resume", "s", "--trials", "8", "--json"]) == 0
    assert _run(["resume", "s", "--trials", "9", "--json"]) == 0
    assert _run(["resume", "s", "--file", write()]) == 2
    error = told(capsys)
    assert "extended from 6 to 9 trials since it began. Give `--trials 9` with the file" in error
    assert "new sweep" not in error
    assert _run(["resume", "s", "--file", write(), "--trials", "9", "--json"]) == 0
    assert _run(["resume", "s", "--file", write(seed=6)]) == 2
    assert "Run it as a new sweep" in told(capsys)


def test_accepting_without_a_comparison_is_told(worker, capsys):
    assert _run(["sweep", write(), "--json"]) == 0
    for more in ([], ["--trials", "8"]):
        assert _run(["resume", "s", "--accept-changes", *more]) == 2
        assert "--accept-changes: there is nothing to accept without --file or --set" in told(capsys)
    assert len(worker.ran) == 6


def test_a_second_driver_is_refused_before_anything_with_the_first_ones_name(worker, capsys):
    worker.before = 2
    assert _run(["sweep", write(), "--json"]) == 130
    with TrialDatabase.open(URL) as database:
        lease = database.claim("s")
        capsys.readouterr()
        assert _run(["resume", "s"]) == 1
        error = told(capsys)
        assert f"process {lease.pid} on host {lease.host!r}" in error.replace('"', "'")
        assert "ago" in error or "old" in error
        database.release(lease)
    worker.before = None
    assert _run(["resume", "s", "--json"]) == 0


def test_a_driver_that_is_dead_on_this_machine_is_replaced_at_once(worker, capsys):
    worker.before = 2
    assert _run(["sweep", write(), "--json"]) == 130
    claim = (
        "from kdsearch.search.trialdb import TrialDatabase; import os\n"
        f"TrialDatabase.open({URL!r}).claim('s'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", claim], check=True)
    with TrialDatabase.open(URL) as database:
        assert database.driver_state("s") == "gone"
    worker.before = None
    assert _run(["resume", "s", "--json"]) == 0


def test_what_a_killed_driver_left_in_its_spool_is_known_before_anything_is_decided(
    worker, capsys, monkeypatch
):
    """The spool holds the end of the sweep: it is complete, and nothing runs."""
    from kdsearch.search.trialdb import operations as op
    from kdsearch.search.trialdb import spool
    from kdsearch.search.trialdb.states import SweepState

    assert _run(["sweep", write(), "--json"]) == 0
    with TrialDatabase.open(URL) as database:
        database.update_sweep_state("s", SweepState.RUNNING)
        end = op.StateChange(state=SweepState.COMPLETE, at=database.clock())
        spool.append(
            spool.spool_path(database, "s"), [op.SetSweepState("s", (end,))], 2**20, spool.Owner(sweep="s")
        )
    worker.ran = []
    assert _run(["resume", "s"]) == 0
    assert worker.ran == []
    assert "nothing was run" in told(capsys)
    assert new_lease("s").pid == os.getpid()
