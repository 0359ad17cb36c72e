"""What a finished command says of trials that failed."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from rich.console import Console

from kdsearch.search.cli.summary import _failed, _failures

TRACE = "failed in 3 attempts: Traceback (most recent call last):\n  File ...\nValueError: no such block\n"


def record_of(*rows):
    return SimpleNamespace(trials=pd.DataFrame(rows, columns=["number", "state", "message"]))


def test_trials_that_failed_for_one_reason_are_told_together_most_frequent_first():
    rows = [(n, "failed", TRACE) for n in (2, 5)]
    rows += [(1, "failed", "failed in 1 attempt: the worker process ended"), (4, "failed", None)]
    hangs = (
        "failed in 2 attempts: no epoch ended within 9 s\nIt stood here (innermost call last):\n    sleep()"
    )
    told = "failed in 2 attempts: KdsearchError: told to fail\nTraceback (most recent call last):\n ...\nKdsearchError"
    rows += [(8, "failed", told)]
    rows += [(0, "complete", None), (3, "diverged", "its loss is not finite"), (6, "failed", hangs)]
    assert _failures(record_of(*rows)) == [
        {"reason": "ValueError: no such block", "trials": [2, 5]},
        {"reason": "failed in 1 attempt: the worker process ended", "trials": [1]},
        {"reason": "no reason was kept", "trials": [4]},
        {"reason": "failed in 2 attempts: no epoch ended within 9 s", "trials": [6]},
        {"reason": "failed in 2 attempts: KdsearchError: told to fail", "trials": [8]},
    ]
    assert _failures(record_of((0, "complete", None))) == []


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([7], "Failed: trial 7: boom"),
        ([1, 2], "Failed: 2 trials (1, 2): boom"),
        (list(range(9)), "Failed: 9 trials (0, 1, 2, 3, 4, ...): boom"),
    ],
)
def test_a_failure_in_a_line(numbers, told):
    assert _failed({"reason": "boom", "trials": numbers}) == told


def test_a_long_reason_is_cut():
    console = Console(width=80)
    with console.capture() as caught:
        console.print(_failed({"reason": "x" * 10_000, "trials": [1]}), soft_wrap=True)
    assert len(caught.get()) < 400
