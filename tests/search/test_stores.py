"""Where a sweep's files lie: chosen, remembered, and carried over."""

from __future__ import annotations

import pytest

from kdsearch.search.notices import CHECKPOINT, Notices, Unsaved
from kdsearch.search.stores import absolute, carried_over, keep_choice, known_store, new_store, note_of_gone
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.storage import Remote, StorageError


@pytest.fixture
def database(tmp_path, clock):
    with TrialDatabase.open(f"sqlite:///{tmp_path / 't.db'}", clock=clock) as opened:
        yield opened


def begin(database, store, clock, name="s"):
    database.create_sweep(
        name=name,
        kind="sweep",
        trainable="constant",
        settings={},
        seed=0,
        code_version="1",
        environment={},
        events=store.events(clock()),
    )


def test_without_a_choice_files_lie_beside_the_database(tmp_path, database, clock):
    store = new_store(None, tmp_path / "files", "s")
    assert (store.folder, store.checkpoints) == (tmp_path / "files", tmp_path / "files" / "checkpoints" / "s")
    begin(database, store, clock)
    assert database.events("s", kinds=["storage"]) == []
    assert known_store(database, None, tmp_path / "files", "s") == store
    assert not (tmp_path / "files").exists()  # nothing is tried


@pytest.mark.parametrize("url", [False, True])
def test_a_choice_is_remembered_with_a_key_of_its_own(tmp_path, database, clock, url):
    place = f"file://{tmp_path / 'shared'}" if url else str(tmp_path / "shared")
    store = new_store(place, tmp_path / "files", "s")
    other = new_store(place, tmp_path / "files", "s")
    assert store.checkpoints != other.checkpoints  # two databases, one storage
    begin(database, store, clock)
    again = known_store(database, None, tmp_path / "files", "s")
    assert (again.chosen, again.checkpoints) == (place, store.checkpoints)
    assert list((tmp_path / "shared").iterdir()) == []  # what was tried is gone


@pytest.mark.parametrize(
    ("before", "after"), [("", "url"), ("url", "folder"), ("folder", "url"), ("folder", "other")]
)
def test_checkpoints_are_carried_over_to_a_new_storage(tmp_path, database, clock, before, after):
    places = {
        "": None,
        "url": f"file://{tmp_path / 'a'}",
        "folder": str(tmp_path / "b"),
        "other": str(tmp_path / "c"),
    }
    old = new_store(places[before], tmp_path / "files", "s")
    begin(database, old, clock)
    path = old.checkpoints / "3-5.pt"
    old.storage.write(path, b"epoch 5")
    place = old.storage.place(path)
    assert carried_over(old, place) == path
    new = known_store(database, places[after], tmp_path / "files", "s")
    keep_choice(database, "s", new)
    found = carried_over(new, place)
    assert found is not None
    assert found == new.checkpoints / "3-5.pt"
    assert new.storage.read(found) == b"epoch 5"
    assert known_store(database, None, tmp_path / "files", "s").chosen == places[after]
    assert carried_over(new, place.replace("3-5", "4-5")) is None


def test_a_checkpoint_that_cannot_be_read_or_brought_over_is_not_gone(tmp_path, monkeypatch, clock):
    old = new_store(f"file://{tmp_path / 'a'}", tmp_path / "files", "s")
    path = old.checkpoints / "3-5.pt"
    old.storage.write(path, b"epoch 5")
    place = old.storage.place(path)
    new = new_store(str(tmp_path / "b"), tmp_path / "files", "s")

    def away(*_):
        raise StorageError("away")

    with monkeypatch.context() as patched:
        patched.setattr(Remote, "_size", away)
        with pytest.raises(StorageError, match="away"):
            carried_over(new, place)
    new.checkpoints.parent.mkdir(parents=True)
    new.checkpoints.touch()  # no folder can be made there
    with pytest.raises(StorageError, match=r"cannot write .*b/checkpoints/.*/3-5\.pt") as caught:
        carried_over(new, place)
    assert "kdsearch resume" in caught.value.hint


def test_checkpoints_that_are_gone_are_counted(tmp_path):
    assert note_of_gone({1: tmp_path}) == []
    (note,) = note_of_gone({n: None if n else tmp_path for n in range(13)})
    assert note.startswith(
        "The checkpoints of 12 unfinished trials (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...) are gone"
    )


def test_a_storage_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"the storage .*file/below cannot be used: "):
        new_store(str(tmp_path / "file" / "below"), tmp_path, "s")
    with pytest.raises(UsageError, match="holds a secret"):
        absolute("s3://a:b@c/d")


def test_checkpoints_that_are_not_written_are_told_once_and_when_it_is_over(clock):
    written = []
    notices = Notices("s", lambda operation: written.extend(operation.rows), clock)
    unsaved = Unsaved(notices)
    unsaved.take({}, [(3, 5, "disk full"), (4, 5, "disk full")])
    unsaved.take({}, [(3, 6, "disk full")])
    unsaved.take({}, [])  # nothing was due
    assert "3 checkpoints could not be written" in notices.texts[0]
    unsaved.take({3: "x"}, [])
    unsaved.take({3: "y"}, [])
    assert notices.texts == ()
    assert [(row.kind, row.data["what"]) for row in written] == [
        (CHECKPOINT, "not written"),
        (CHECKPOINT, "written again"),
    ]
    assert written[1].data["missed"] == 3
