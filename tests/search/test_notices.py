"""What still holds of a sweep's troubles, read back from its events."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from kdsearch.search.cli.status import row_of
from kdsearch.search.notices import ANEW, CLUSTER, standing
from kdsearch.search.trialdb import TrialDatabase

AT = datetime(2026, 1, 1, 9, 30, tzinfo=UTC)


def told(*events):
    return standing([SimpleNamespace(at=AT, data=each) for each in events])


def test_what_began_and_is_not_over_stands():
    full, fits = {"what": "no room is free"}, {"what": "placed", "waited_s": 3.0}
    assert told() == []
    assert told(full) == ["packs wait for a place since 2026-01-01 09:30 UTC: no room is free"]
    assert told(full, fits) == []
    assert told(full, fits, {"what": "no node fits"}) == [
        "packs wait for a place since 2026-01-01 09:30 UTC: no node fits"
    ]
    assert told({"what": "no room is free"}, {"what": "room is free only where packs failed"}) == [
        "packs wait for a place since 2026-01-01 09:30 UTC: room is free only where packs failed"
    ]


def test_nodes_and_checkpoints_stand_each_for_themselves():
    left_out = [{"what": "node left out", "node": name, "reason": "no data"} for name in "ab"]
    lost = {"what": "not written", "trial": 3, "epoch": 2, "reason": "disk full"}
    assert told(*left_out, lost) == [
        "node a is not used since 2026-01-01 09:30 UTC: no data",
        "node b is not used since 2026-01-01 09:30 UTC: no data",
        "checkpoints cannot be written since 2026-01-01 09:30 UTC: disk full",
    ]
    over = [{"what": "node used after all", "node": "a"}, {"what": "node left", "node": "b"}]
    assert told(*left_out, lost, *over, {"what": "written again", "missed": 1}) == []
    assert told(*left_out, lost, {"what": ANEW}) == []


def test_a_status_tells_what_stands_while_the_driver_lives(tmp_path):
    with TrialDatabase.open(f"sqlite:///{tmp_path / 't.db'}") as database:
        database.create_sweep(
            "s", kind="sweep", trainable="constant", settings={}, seed=0, code_version="", environment={}
        )
        database.add_event(
            "s",
            CLUSTER,
            {"what": "node left out", "node": "n", "reason": "\x1b[2J\nat postgresql://u:planted@h/d"},
        )
        assert row_of(database, "s")["troubles"] == []
        assert row_of(database, "s")["resume"] == "kdsearch resume s"
        lease = database.claim("s")
        (text,) = row_of(database, "s")["troubles"]
        assert text.startswith("node n is not used since ")
        assert text.endswith(": \\x1b[2J at postgresql://u:***@h/d")
        database.release(lease)


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("kdsearch sweep s.yaml", ""),
        ("kdsearch sweep s.yaml --address local", ""),
        ("kdsearch sweep s.yaml --address 10.0.0.1:6379 --name s", " --address 10.0.0.1:6379"),
        ("kdsearch sweep s.yaml --address=auto", " --address auto"),
    ],
)
def test_a_status_says_how_to_go_on_where_the_sweep_began(tmp_path, command, flag):
    with TrialDatabase.open(f"sqlite:///{tmp_path / 't.db'}") as database:
        told = {"kind": "sweep", "trainable": "constant", "settings": {}, "seed": 0, "code_version": ""}
        database.create_sweep("s", **told, environment={"command": command})
        assert row_of(database, "s")["resume"] == f"kdsearch resume s{flag}"
