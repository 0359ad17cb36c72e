"""What trials, files and databases say is text on a terminal: no markup, no escape sequence."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rich.table import Table

from kdsearch.search import cli
from kdsearch.search.cli.common import messages, results
from kdsearch.search.cli.summary import print_summary
from kdsearch.search.result_rows import result_row
from kdsearch.search.trial_states import LiveTrial
from kdsearch.spaces.errors import UsageError

EVIL = "[red]\x1b[31mred\x1b]0;title\x07 [/red][link=http://x]"
TOLD = r"[red]\x1b[31mred\x1b]0;title\x07 [/red][link=http://x]"


@pytest.mark.parametrize("make", [messages, results])
def test_a_console_prints_texts_as_they_are(make, capsys):
    console = make()
    console.print(EVIL, soft_wrap=True)
    table = Table(box=None)
    table.add_column("name", no_wrap=True)
    table.add_row(EVIL)
    console.width = 200
    console.print(table)
    said = "".join(capsys.readouterr())
    assert said.count(TOLD) == 2
    assert "\x1b" not in said


def test_an_error_prints_no_escape_sequence(capsys):
    assert cli._told(UsageError(EVIL, EVIL)) == 2
    said = capsys.readouterr().err
    assert said.count(TOLD) == 2
    assert EVIL not in said


def test_the_message_of_a_trial_is_kept_without_control_characters():
    trial = LiveTrial(number=0, configuration={}, seed=0, search=True)
    row = result_row(trial, "failed", f"line\n{EVIL}", at=datetime(2026, 1, 1, tzinfo=UTC), on_device=False)
    assert row.message == f"line\n{TOLD}"


def test_a_summary_prints_what_a_database_says_as_text(capsys):
    lineage = {
        "space": EVIL,
        "parent": EVIL,
        "restriction": EVIL,
        "encodings": 9,
        "classes": 9,
        "auc": 50.0,
        "auc_interval": None,
        "reason": EVIL,
        "refused": None,
    }
    best = {
        "space": EVIL,
        "text": EVIL,
        "configuration": {"x": EVIL},
        "ended": {},
        "error": 1.0,
        "spread": None,
        "trainings": 1,
        "trials": [0],
    }
    print_summary(
        {
            "name": EVIL,
            "state": "complete",
            "database": f"sqlite:///{EVIL}",
            "report": EVIL,
            "trials": {"complete": 1},
            "failures": [{"reason": EVIL, "trials": [3]}],
            "stopped": [],
            "draws": 0,
            "seconds": 0.0,
            "lineage": [lineage],
            **dict.fromkeys(("lowest", "confirmed", "comparison", "study", "retrained")),
            "best": best,
            "notes": [EVIL],
        }
    )
    said = capsys.readouterr().out
    assert said.count(r"\x1b[31m") >= 9
    assert "\x1b" not in said
    assert "\x07" not in said
