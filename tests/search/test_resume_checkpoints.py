"""Checkpoints on a resume: gone, out of reach, or named by rows that wait in a spool. Ray is left out."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest

from kdsearch.search import launch as launching
from kdsearch.search.config import parse_sweep
from kdsearch.search.launch import Launch
from kdsearch.search.progress import Quiet
from kdsearch.search.runner import Interrupted, Slots
from kdsearch.search.trialdb import TrialDatabase, Writer, read_record
from kdsearch.search.trialdb.errors import DatabaseAwayError, RowsSpooledError
from kdsearch.trainables.constant import ConstantPack
from kdsearch.trainables.storage import Remote, StorageError

SWEEP = {
    "name": "s",
    "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "trainable": {"kind": "constant", "epochs": 3},
    "searcher": {"kind": "random", "trials": 1},
    "run": {"pack": 1, "checkpoint_every": 1},
}


def one_epoch(coordinator, *_):
    """Train one trial for an epoch and write its checkpoint."""
    job, storage = coordinator.next_job(), coordinator.storage
    pack = ConstantPack(SWEEP["trainable"], job.members)
    reports = pack.run_epoch()
    path = coordinator.checkpoints / "0-1.pt"
    storage.save(path, partial(pack.save, 0))
    coordinator.on_result(job.id, reports, None, {0: storage.place(path)})


def cut(coordinator, *_):
    one_epoch(coordinator)
    raise Interrupted("interrupted by a test")


@pytest.fixture
def here(tmp_path, monkeypatch):
    slots = Slots(concurrency=1, fits=1, cpus=1.0, gpus=0.0, gpus_per_pack=0.0)
    monkeypatch.setattr(launching, "_ray", lambda *_: contextlib.nullcontext(slots))
    monkeypatch.setattr(launching, "run", cut)
    return Launch(db=f"sqlite:///{tmp_path / 't.db'}", storage=f"file://{tmp_path / 'there'}")


def shown(_coordinator):
    return contextlib.nullcontext(Quiet())


def begin(launch):
    with pytest.raises(Interrupted):
        launching.start(parse_sweep(SWEEP, "a test"), "sweep", launch, shown)


def files(tmp_path):
    return [path.name for path in (tmp_path / "there").rglob("*.pt")]


def resumed_from(launch, monkeypatch, said):
    """The checkpoint that the trial goes on from, in a resume that is interrupted at once."""
    found = []

    def look(coordinator, *_):
        found.extend(each.checkpoint for each in coordinator.next_job().members)
        raise Interrupted("interrupted by a test")

    monkeypatch.setattr(launching, "run", look)
    with pytest.raises(Interrupted):
        launching.resume(
            "s", Launch(db=launch.db, storage=launch.storage, data_root=None, say=said.append), shown
        )
    return found[0]


def test_a_storage_that_cannot_be_asked_refuses_the_resume_and_loses_nothing(here, tmp_path, monkeypatch):
    begin(here)
    with TrialDatabase.open(here.db) as database:
        before = database.events("s"), database.attempts("s")
    with monkeypatch.context() as patched:

        def away(*_):
            raise OSError("the server is away")

        patched.setattr(Remote, "_size", away)
        patched.setattr(Remote, "_check", lambda *_: None)
        with pytest.raises(
            StorageError, match=r"cannot look for file://.*0-1\.pt: the server is away"
        ) as caught:
            launching.resume("s", here, shown)
    assert "Nothing is lost" in caught.value.hint
    with TrialDatabase.open(here.db) as database:
        assert (database.events("s"), database.attempts("s")) == before
    said = []
    assert resumed_from(here, monkeypatch, said).name == "0-1.pt"
    assert said == []


def test_checkpoints_that_are_gone_are_noted(here, tmp_path, monkeypatch):
    begin(here)
    for path in (tmp_path / "there").rglob("*.pt"):
        path.unlink()
    said = []
    assert resumed_from(here, monkeypatch, said) is None
    note = "The checkpoints of 1 unfinished trial (0) are gone: what goes on of them begins anew."
    assert said == [note]
    with TrialDatabase.open(here.db) as database:
        assert note in read_record(database, "s").notes


def test_what_waits_in_a_spool_deletes_no_checkpoint(here, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:

        def away(*_, **__):
            raise DatabaseAwayError("the database is away")

        def away_at_the_end(coordinator, *_):
            one_epoch(coordinator)
            patched.setattr(TrialDatabase, "apply", away)

        patched.setattr(launching, "Writer", partial(Writer, patience_s=0.01))
        patched.setattr(launching, "run", away_at_the_end)  # and the sweep counts as complete
        with pytest.raises(RowsSpooledError):
            launching.start(parse_sweep(SWEEP, "a test"), "sweep", here, shown)
    assert files(tmp_path) == ["0-1.pt"]
    assert launching.resume("s", here, shown) is False
    assert files(tmp_path) == []
