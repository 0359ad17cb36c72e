"""`--dry-run`: what a sweep would do is what it does, and nothing is written to find it out."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path

import pytest
import yaml

from kdsearch.search import runner
from kdsearch.search.cli import _run
from kdsearch.search.config import parse_sweep
from kdsearch.search.dry_run import dry_run
from kdsearch.search.launch import Launch
from kdsearch.search.runner import RayOptions, Slots, local_slots
from kdsearch.search.searchers import make_searcher
from kdsearch.search.trialdb import TrialDatabase

GRAPHS = {
    "kind": "ktg",
    "target": "resnet8w4",
    "auxiliary": {"count": 1, "models": ["resnet8w4"]},
    "gates": ["through", "cutoff"],
}
RATES = {"kind": "parameters", "parameters": {"learning_rate": {"type": "float", "low": 0.01, "high": 0.1}}}
DIGITS = {"kind": "ktg", "data": {"name": "digits", "train_size": 64, "val_size": 60}, "epochs": 5}
SWEEP = {
    "name": "s",
    "seed": 3,
    "space": GRAPHS,
    "trainable": DIGITS,
    "searcher": {"kind": "random", "trials": 30},
    "scheduler": {"kind": "asha", "every": 1, "brackets": 2, "epsilon": 0.1},
    "run": {"pack": 4},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDSEARCH_DATA", raising=False)
    monkeypatch.delenv("KDSEARCH_DB", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture(autouse=True)
def two_workers(monkeypatch):
    """Nobody starts Ray here."""
    slots = Slots(concurrency=2, fits=2, cpus=2.0, gpus=0.0, gpus_per_pack=0.0)
    monkeypatch.setattr("kdsearch.search.dry_run.local_slots", lambda _: slots)
    monkeypatch.setattr(runner, "_start", lambda _: pytest.fail("Ray was started"))


def found(**changes):
    sweep = parse_sweep({**SWEEP, **changes}, "a test")
    return sweep, dry_run(sweep, Launch(db="sqlite:///kdsearch.db"), name=None)


def test_it_shows_what_will_be_asked_for_and_writes_nothing(here):
    sweep, ran = found()
    assert ran.problems == []
    assert list(here.iterdir()) == []
    searcher = make_searcher(sweep, first_number=1)  # behind the pre-training of resnet8w4
    requests = searcher.ask(1000)
    assert ran.found["trials"] == {"least": len(requests), "most": len(requests), "pretraining": 1}
    assert [each["configuration"] for each in ran.found["first"]] == [
        dict(r.configuration) for r in requests[:5]
    ]
    assert [each["number"] for each in ran.found["first"]] == [1, 2, 3, 4, 5]
    assert ran.found["first"][0]["text"].startswith("1=resnet8w4 2=resnet8w4; ")
    # 2^4 gates of label->1, 2->1, label->2, 1->2; without those where nothing reaches the target
    assert ran.found["space"]["searched"] == {
        "encodings": 16,
        "classes": 16,
        "valid_encodings": 12,
        "valid_classes": 12,
    }
    assert ran.found["scheduler"] == {
        "kind": "asha",
        "mode": "stop",
        "reduction_factor": 2.0,
        "epsilon": 0.1,
        "rungs": [1, 2, 3, 4],
        "brackets": [[1, 2, 3, 4], [2, 3, 4]],
    }
    resources = ran.found["resources"]
    assert resources["packs_at_once"] == 2
    assert resources["trials_at_once"] == sum(resources["first_packs"]) <= 8
    assert ran.found["settings"]["trainable"]["learning_rate"] == 0.1  # a default
    assert ran.found["data"] == {"found": True, "notes": []}


@pytest.mark.parametrize(
    ("searcher", "space", "expected"),
    [
        ({"kind": "enumeration", "repeats": 2}, GRAPHS, (24, 24)),  # 12 valid graphs twice
        (
            {"kind": "refinement", "draws": 10, "limit": 100, "repeats": 3},
            GRAPHS,
            (36, 36),
        ),  # the space is the last
        # at most 10 draws of each of as many spaces as there are groups (3), and 8 classes thrice
        ({"kind": "refinement", "draws": 10, "limit": 8, "repeats": 3}, GRAPHS, (None, 3 * 10 + 24)),
        (
            {
                "kind": "refinement",
                "policy": "significant",
                "draws": 10,
                "budget": 30,
                "limit": 8,
                "repeats": 1,
            },
            GRAPHS,
            (None, 3 * 30 + 8),
        ),
    ],
)
def test_trials_are_counted_where_nothing_depends_on_results(here, searcher, space, expected):
    sweep, ran = found(searcher=searcher, space=space, scheduler=None)
    least, most = expected
    if least is None:  # the distinct graphs among the draws of the first space
        least = len(make_searcher(sweep, first_number=0).ask(1000))
    assert (ran.found["trials"]["least"], ran.found["trials"]["most"]) == (least, most)


def test_trials_of_methods_and_of_a_search_by_results(here):
    kd = {"kind": "constant"}
    space = {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}}
    _, ran = found(
        space=space, trainable=kd, searcher={"kind": "tpe", "trials": 9, "confirm": 2}, scheduler=None
    )
    assert ran.found["trials"] == {"least": None, "most": 11, "pretraining": 0}
    methods = {"a": {"kind": "fixed", "values": {"x": 0.5}}, "b": {"kind": "tpe", "trials": 3}}
    comparison = {"kind": "comparison", "runs": 4, "reference": "a", "methods": methods}
    _, ran = found(space=space, trainable=kd, searcher=comparison, scheduler=None)
    assert ran.found["trials"]["most"] == 4 + 4 * (3 + 1)
    assert ran.found["first"][0]["plan"]["method"] == "b"  # the method with most rounds goes first


def test_a_search_that_asks_a_person_is_shown_without_one(here, capsys):
    searcher = {"kind": "refinement", "policy": "interactive", "draws": 6, "limit": 4, "min_draws": 2}
    _, ran = found(searcher=searcher, scheduler="none")
    assert ran.found["trials"]["least"] >= 1
    (here / "s.yaml").write_text(yaml.safe_dump({**SWEEP, "searcher": searcher, "scheduler": "none"}))
    assert _run(["refine", "s.yaml", "--dry-run"]) == 0
    assert "first configurations" in capsys.readouterr().out


def test_the_commands_print_it(here, capsys):
    (here / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    assert _run(["sweep", "s.yaml", "--dry-run"]) == 0
    out = capsys.readouterr().out
    for words in (
        "no restriction",
        "searcher: {kind: random, trials: 30, confirm: 0}",
        "trials, and 1 pre-training before them",
        "1=resnet8w4 2=resnet8w4; ",
        "bracket 1: rungs after epochs 2, 3, 4",
        "with probability 0.1 a trial goes on",
        "a pack of up to 4 trials takes 1 CPU core, GPUs: 0",
        "2 packs at once",
        "Nothing was written, and no trial ran.",
    ):
        assert words in out
    assert all(line == line.rstrip() for line in out.partition("settings")[2].splitlines())
    assert _run(["sweep", "s.yaml", "--dry-run", "--json", "--set", "searcher.trials=3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["searcher"]["trials"] == 3
    assert told["problems"] == []
    assert _run(["refine", "ktg-digits", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"]["pretraining"] == 2
    assert sorted(path.name for path in here.iterdir()) == ["s.yaml"]


def test_the_name_is_the_one_that_a_run_would_get(here, capsys):
    (here / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    with TrialDatabase.open("sqlite:///kdsearch.db") as database:
        row = {
            "kind": "sweep",
            "trainable": "ktg",
            "settings": {},
            "seed": 0,
            "code_version": "",
            "environment": {},
        }
        database.create_sweep("s", **row)
    before = (here / "kdsearch.db").read_bytes()
    assert _run(["sweep", "s.yaml", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "s-2"
    assert _run(["sweep", "s.yaml", "--dry-run", "--json", "--name", "s"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["problems"][0]["what"] == "database"
    assert "already has a sweep 's'" in err
    assert (here / "kdsearch.db").read_bytes() == before


def test_a_database_that_cannot_be_made_is_told_behind_all_else_as_a_run_tells_it(here, capsys, monkeypatch):
    (here / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    for more in ([], ["--dry-run"]):
        if not more:
            slots = contextlib.nullcontext(
                Slots(concurrency=1, fits=1, cpus=1.0, gpus=0.0, gpus_per_pack=0.0)
            )
            monkeypatch.setattr("kdsearch.search.launch._ray", lambda *_, found=slots: found)
        assert _run(["sweep", "s.yaml", "--db", "sqlite:///nodir/x.db", *more]) == 1
        out, err = capsys.readouterr()
        assert "the folder" in err
        assert "does not exist" in err
    assert "first configurations" in out
    assert _run(["sweep", "ktg-cifar10", "--db", "sqlite:///nodir/x.db", "--dry-run"]) == 2
    assert "does not exist" in " ".join(
        capsys.readouterr().err.split()
    )  # beside the data, for which a run ends
    (here / "closed").mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "closed")
    assert _run(["sweep", "s.yaml", "--db", "sqlite:///closed/x.db", "--dry-run", "--json"]) == 1
    out, err = capsys.readouterr()
    assert "no permission to write" in json.loads(out)["problems"][0]["message"]
    assert list((here / "closed").iterdir()) == []


@pytest.mark.parametrize("arguments", [["--out", "papers"], ["--name", "papers"]])
def test_a_folder_that_a_report_may_not_go_to_is_told(here, capsys, arguments):
    (here / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    for folder in ("papers", "papers-report"):
        (here / folder).mkdir()
        (here / folder / "notes.txt").touch()
    assert _run(["sweep", "s.yaml", *arguments, "--dry-run"]) == 2
    out, err = capsys.readouterr()
    assert "first configurations" in out
    assert "holds no report of kdsearch" in " ".join(err.split())


def test_a_database_that_cannot_be_written_is_told(here, capsys, monkeypatch):
    TrialDatabase.open("sqlite:///kdsearch.db").close()
    (here / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "kdsearch.db")
    assert _run(["sweep", "s.yaml", "--dry-run"]) == 1
    assert "no permission to write" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("preset", ["ktg-cifar10", "kd-cifar10", "bbm-ehr"])
def test_data_that_is_missing_is_told_behind_all_else(here, capsys, preset):
    assert _run(["sweep", preset, "--dry-run"]) == 2
    out, err = capsys.readouterr()
    assert "first configurations" in out
    assert "missing or broken" in out
    assert "needs a data root" in err
    assert list(here.iterdir()) == []


def test_a_made_up_sample_is_announced_and_not_written(here, capsys, monkeypatch):
    monkeypatch.setenv("KDSEARCH_CACHE", str(here / "cache"))
    assert _run(["sweep", "bbm-ehr-demo", "--dry-run"]) == 0
    assert "a made-up sample would stand in" in " ".join(capsys.readouterr().out.split())
    assert list(here.iterdir()) == []


def test_a_pack_that_fits_nowhere_is_told_behind_all_else(here, capsys, monkeypatch):
    monkeypatch.setattr("kdsearch.search.dry_run.local_slots", local_slots)
    (here / "s.yaml").write_text(yaml.safe_dump({**SWEEP, "run": {"cpus": 100_000}}))
    assert _run(["sweep", "s.yaml", "--dry-run"]) == 2
    out, err = capsys.readouterr()
    assert "first configurations" in out
    assert "a pack takes 100000 CPU cores" in err


def test_an_address_where_nobody_listens_is_told(here, capsys):
    (here / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkey = pytest.MonkeyPatch()
    monkey.setattr(runner, "_start", lambda options: runner._probe(options.address))
    monkey.setattr("ray.is_initialized", lambda: False)
    try:
        assert _run(["sweep", "s.yaml", "--dry-run", "--address", f"127.0.0.1:{port}"]) == 1
    finally:
        monkey.undo()
    assert "no Ray cluster answers" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_this_machine_has_what_ray_finds_on_it(ray_slots):
    options = RayOptions(address=None, cpus=1, gpus="auto", max_concurrent=None, data_root=None)
    assert local_slots(options).cpus == ray_slots.cpus
    assert local_slots(options).gpus == ray_slots.gpus
