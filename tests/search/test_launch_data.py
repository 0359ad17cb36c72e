"""A sweep goes on with the data that it began with, and with no others. Nothing is trained: Ray is left out."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace

import pytest
import yaml

from kdsearch.analysis.bbm_study import MADE_UP
from kdsearch.search import launch as launching
from kdsearch.search.baselines import baselines_for
from kdsearch.search.cli import _run
from kdsearch.search.code_version import code_version
from kdsearch.search.config import parse_sweep
from kdsearch.search.found_data import check_data
from kdsearch.search.launch import Launch
from kdsearch.search.runner import Interrupted, Slots
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.record import read_record
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.images import ImageData
from kdsearch.trainables.data.loading import forget_loaded
from kdsearch.trainables.data.marker import MARKER_FILE
from kdsearch.trainables.data.samples import sample
from kdsearch.trainables.records import sample_records

HOURS = {
    "kind": "bbm",
    "method": "transformer",
    "data": {"name": "physionet2019", "or_sample": True},
    "student": {
        "network": "transformer",
        "units": 1,
        "width": 8,
        "heads": 2,
        "feed_forward": 8,
        "causal": True,
    },
    "warm_up": 0,
    "epochs": 1,
}
IMAGES = {
    "kind": "kd",
    "distillation": "soft",
    "data": {"name": "fashion-mnist", "train_size": 40, "val_size": 20},
    "student": "resnet8w4",
    "teacher": {"model": "resnet8w4", "epochs": 1, "batch_size": 8},
    "epochs": 1,
    "batch_size": 8,
}
RATE = {"kind": "parameters", "parameters": {"learning_rate": {"type": "float", "low": 0.01, "high": 0.1}}}


def sweep_of(trainable):
    given = {"name": "s", "space": RATE, "searcher": {"kind": "random", "trials": 1}, "trainable": trainable}
    return parse_sweep(given, "a test")


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Two data roots with other data of the same names."""
    found = []
    for seed in (1, 2):
        root = tmp_path_factory.mktemp(f"root-{seed}")
        sample_records("physionet2019", root, seed=seed)
        sample("fashion-mnist", root, seed=seed)
        found.append(root)
    return found


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A launch whose driver is interrupted before the first trial."""
    monkeypatch.delenv("KDSEARCH_DATA", raising=False)
    slots = Slots(concurrency=1, fits=1, cpus=1.0, gpus=0.0, gpus_per_pack=0.0)
    monkeypatch.setattr(launching, "_ray", lambda *_: contextlib.nullcontext(slots))

    def interrupted(*_):
        raise Interrupted("interrupted by a test")

    monkeypatch.setattr(launching, "run", interrupted)
    return Launch(db=f"sqlite:///{tmp_path / 'trials.db'}")


class Shown:
    def tick(self):
        """Nothing is shown."""


def shown(_coordinator):
    return contextlib.nullcontext(Shown())


def begin(sweep, launch):
    with pytest.raises(Interrupted):
        launching.start(sweep, "sweep", launch, shown)


def go_on(launch):
    """Resume, up to where trials would run."""
    with pytest.raises(Interrupted):
        launching.resume("s", launch, shown)


def kept(launch):
    with TrialDatabase.open(launch.db) as database:
        return database.events("s"), read_record(database, "s"), database.sweep("s").state


@pytest.mark.parametrize("trainable", [HOURS, IMAGES], ids=["records", "images"])
def test_a_sweep_goes_on_with_its_own_data_alone(here, roots, tmp_path, trainable):
    begin(sweep_of(trainable), replace(here, data_root=roots[0]))
    before = kept(here)
    content = next(event.data["content"] for event in before[0] if event.kind == "data")
    assert content == before[1].content != ""
    with pytest.raises(UsageError, match="not those that the sweep s began with") as caught:
        launching.resume("s", replace(here, data_root=roots[1]), shown)
    assert f"the data root in use is {roots[1]}, and it began with {roots[0]}" in caught.value.message
    assert "--data-root" in caught.value.hint
    assert "KDSEARCH_DATA" in caught.value.hint
    assert kept(here)[0] == before[0]
    moved = tmp_path / "moved"
    shutil.copytree(roots[0], moved)
    go_on(replace(here, data_root=moved))
    assert kept(here)[0] == before[0]  # nothing is said twice


def test_a_made_up_set_does_not_stand_in_for_the_data_of_a_sweep_that_goes_on(here, roots):
    begin(sweep_of(HOURS), replace(here, data_root=roots[0]))
    with pytest.raises(UsageError, match="no data root is given"):
        launching.resume("s", here, shown)


def test_a_sweep_that_began_with_a_made_up_set_says_that_it_had_no_data_root(
    here, roots, tmp_path, monkeypatch
):
    monkeypatch.setenv("KDSEARCH_CACHE", str(tmp_path / "cache"))
    begin(sweep_of(HOURS), here)
    with pytest.raises(UsageError, match=f"in use is {roots[0]}, and it began with none"):
        launching.resume("s", replace(here, data_root=roots[0]), shown)


def test_where_an_earlier_version_did_not_say_the_data_root_nothing_is_told_of_it(here, roots):
    sweep = sweep_of(HOURS)
    with TrialDatabase.open(here.db) as database:
        row = {"kind": "sweep", "trainable": "bbm", "settings": sweep.resolved(), "seed": 0}
        database.create_sweep("s", **row, code_version=code_version(), environment={})
        database.add_event("s", "data", {"content": "of others"})
    with pytest.raises(UsageError) as caught:
        launching.resume("s", replace(here, data_root=roots[0]), shown)
    assert caught.value.message.endswith(f"the data root in use is {roots[0]}")


def test_the_variable_of_the_data_root_is_told(here, roots, monkeypatch):
    begin(sweep_of(HOURS), replace(here, data_root=roots[0]))
    monkeypatch.setenv("KDSEARCH_DATA", str(roots[1]))
    with pytest.raises(UsageError, match=f"the data root in use is {roots[1]}"):
        launching.resume("s", here, shown)


def test_a_sweep_of_an_earlier_version_goes_on_and_says_what_it_found(here, roots):
    sweep = sweep_of(HOURS)
    with TrialDatabase.open(here.db) as database:
        row = {"kind": "sweep", "trainable": "bbm", "settings": sweep.resolved(), "seed": 0}
        database.create_sweep("s", **row, code_version=code_version(), environment={})
    go_on(replace(here, data_root=roots[1]))
    _, record, _ = kept(here)
    assert record.content == ""
    assert any("made-up sample" in note for note in record.notes)


def test_without_data_there_is_nothing_to_compare(here, roots):
    begin(sweep_of({"kind": "constant", "epochs": 1}), here)
    go_on(replace(here, data_root=roots[1]))
    assert kept(here)[1].content == ""


def test_images_are_hashed_once_a_command(roots, tmp_path, monkeypatch):
    hashed = []
    once = ImageData.digest.func
    digest = type(ImageData.digest)(lambda self: hashed.append(self) or once(self))
    digest.__set_name__(ImageData, "digest")
    monkeypatch.setattr(ImageData, "digest", digest)
    forget_loaded()
    sweep = sweep_of(IMAGES)
    found = check_data(sweep, roots[0])
    assert baselines_for(sweep, tmp_path, roots[0])
    assert found.content
    assert len(hashed) == 1


def test_the_report_knows_records_that_are_made_up_by_their_note(roots, tmp_path):
    """The words are written by the trainable and read by the analysis, which imports none."""
    data = {"name": "physionet2019", "elsewhere": "eicu"}
    notes = check_data(sweep_of({**HOURS, "data": data}), roots[0]).notes
    assert [note for note in notes if MADE_UP in note] == [
        "The records of PhysioNet/CinC 2019 (sepsis) are a made-up sample: the numbers are no results."
    ]
    shutil.copytree(roots[0] / "physionet2019", tmp_path / "physionet2019")
    (tmp_path / "physionet2019" / MARKER_FILE).unlink()  # as if real
    sample_records("eicu", tmp_path)
    notes = check_data(sweep_of({**HOURS, "data": data}), tmp_path).notes
    assert any("are made up" in note for note in notes)
    assert not any(MADE_UP in note for note in notes)


SWEEP = {
    "name": "s",
    "space": RATE,
    "searcher": {"kind": "random", "trials": 1},
    "trainable": {"kind": "constant", "epochs": 1},
}
RESUME = "Go on with: kdsearch resume s"


def interrupted_at(function, monkeypatch, *arguments):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(launching, function, interrupted)
    return _run(["sweep", "s.yaml", *arguments])


@pytest.mark.parametrize("function", ["drivers_data", "_ray", "run"])
def test_an_interrupt_names_resume_only_for_a_sweep_that_the_database_holds(
    here, tmp_path, monkeypatch, capsys, function
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    assert interrupted_at(function, monkeypatch, "--db", here.db) == 130
    told, held = capsys.readouterr().err, launching.holds(here.db, "s")
    assert held == (function == "run")
    assert (RESUME in told) == held
    assert ("Nothing was begun; run the command again." in told) != held


def test_an_interrupt_does_not_name_resume_for_an_older_sweep_of_that_name(
    here, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SWEEP))
    begin(parse_sweep(SWEEP, "a test"), here)
    assert interrupted_at("drivers_data", monkeypatch, "--db", here.db, "--name", "s") == 130
    assert "Nothing was begun" in capsys.readouterr().err
    assert _run(["resume", "s", "--db", here.db]) == 130
    assert RESUME in capsys.readouterr().err


def test_a_data_root_from_the_environment_is_not_called_an_option(here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**SWEEP, "trainable": HOURS}))
    monkeypatch.setenv("KDSEARCH_DATA", str(tmp_path / "none"))
    assert _run(["sweep", "s.yaml", "--db", here.db]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "(from KDSEARCH_DATA) does not exist" in told
