"""What summary, status and report say of a search whose best configuration was trained anew."""

from __future__ import annotations

import csv
import html
import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdsearch.analysis.results import analyse
from kdsearch.search.cli import _run
from kdsearch.search.cli.methods import methods_of
from kdsearch.search.cli.summary import print_summary, summary_of
from kdsearch.search.config import parse_sweep
from kdsearch.search.trialdb import TrialDatabase, TrialState, read_record
from kdsearch.search.trialdb import operations as op

_SPEC = importlib.util.spec_from_file_location("driver", Path(__file__).with_name("driver.py"))
_DRIVER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_DRIVER)

SEARCHED = (9.0, 7.5, 4.25, 8.0, 6.0, 5.0)
AGAIN = (
    3.0,
    4.5,
    4.5,
)  # on the test part: lower than any of the search, so that a mixture of both would be seen
SWEEP = {
    "name": "s",
    "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "trainable": {"kind": "constant", "epochs": 2},
    "searcher": {"kind": "random", "trials": len(SEARCHED), "confirm": len(AGAIN)},
}


class Fixed(_DRIVER.ConstantPack):
    """Members whose errors stand above."""

    def _error(self, member):
        return (*SEARCHED, *AGAIN)[member.number]


def written(path, clock, monkeypatch, *, trainable, **keys):
    """The database of a whole sweep, as a driver writes it; trainable: what it calls what was trained."""
    monkeypatch.setattr(_DRIVER, "ConstantPack", Fixed)
    sweep = parse_sweep({**SWEEP, **keys}, "test")
    driver = _DRIVER.Driver(sweep, clock, path).run()
    url = f"sqlite:///{path / 'trials.db'}"
    with TrialDatabase.open(url) as database:
        given = {"kind": "sweep", "trainable": trainable, "settings": sweep.resolved(), "seed": 0}
        database.create_sweep("s", **given, code_version="0.3.0", environment={})
        database.apply(driver.operations)
    return url


@pytest.fixture
def url(tmp_path, clock, monkeypatch):
    return written(tmp_path, clock, monkeypatch, trainable="kd")


def record_of(url):
    with TrialDatabase.open(url) as database:
        return read_record(database, "s")


def rows(folder, name):
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_that_is_confirmed_remains_a_search(url):
    record = record_of(url)
    result = analyse(record)
    assert methods_of(record) is None
    assert not result.compares
    (space,) = result.estimated
    assert space.auc == pytest.approx(100 - np.mean(SEARCHED))  # draws alone
    assert result.best[0].trainings.errors == (4.25,)
    assert result.lowest_single == (2, 4.25)
    assert len(result.searched) == len(SEARCHED)
    again = result.confirmed
    assert again.trainings.errors == AGAIN
    assert again.configuration == result.best[0].configuration
    assert (again.trial, again.validation_error, again.among) == (2, 4.25, len(SEARCHED))


def test_the_summary_tells_both_parts_apart(url, tmp_path, capsys):
    summary = summary_of("s", url, tmp_path / "out", seconds=0.0)
    json.dumps(summary, default=str)
    assert summary["comparison"] is None
    assert summary["lowest"] == {"trial": 2, "error": 4.25}
    assert summary["confirmed"]["errors"] == list(AGAIN)
    assert summary["confirmed"]["error"] == pytest.approx(4.0)
    print_summary(summary)
    told = capsys.readouterr().out
    assert "Best of space A: validation error 4.25 %" in told
    assert "Lowest error of a single training: 4.25 % (trial 2)" in told
    assert (
        "The best configuration, trained anew 3 times with other seeds, has a test error of 4.00 ± 0.87 % (mean ± "
        "standard deviation). Its validation error in the search was 4.25 % (trial 2), the least of 6 and so too low "
        "to be believed." in told
    )


def test_the_report_has_edf_ranking_and_what_the_best_comes_to(url, tmp_path, capsys):
    out = tmp_path / "out"
    assert _run(["report", "s", "--db", url, "--out", str(out)]) == 0
    capsys.readouterr()
    page = (out / "report.html").read_text(encoding="utf-8")
    for anchor in ("edf", "best", "confirmed"):
        assert f'href="#{anchor}"' in page
        assert f'<section id="{anchor}">' in page
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert "trained anew 3 times with other seeds, has a test error of 4.00 ± 0.87 %" in words
    assert "The lowest single training of the whole search is 4.25 % (trial 2)" in words
    assert "complete 6 0 3 with its error" in words
    assert not (out / "methods.csv").exists()
    assert {row["error"] for row in rows(out, "edf.csv")} == {str(error) for error in (*SEARCHED, 100.0)}
    told = [float(row["error"]) for row in rows(out, "trials.csv") if row["design"] == "confirmation"]
    assert told == list(AGAIN)


def test_status_tells_the_best_of_the_search(url, capsys):
    assert _run(["status", "s", "--db", url, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["best_error"], row["best_trial"], row["comparison"]) == (4.25, 2, None)


def test_scores_stand_beside_the_configuration_that_has_them(tmp_path, clock, monkeypatch, capsys):
    url = written(tmp_path, clock, monkeypatch, trainable="bbm")
    summary = summary_of("s", url, tmp_path / "out", seconds=0.0)
    assert summary["study"] is not None
    assert summary["best"]["error"] == 4.25
    print_summary(summary)
    told = capsys.readouterr().out
    assert "Best of space A: validation error 4.25 %" in told
    assert f"x={summary['confirmed']['configuration']['x']}" in told
    assert "trained anew 3 times" in told
    assert _run(["status", "s", "--db", url]) == 0
    assert "4.25 % (trial 2)" in capsys.readouterr().out


def test_named_configurations_have_no_best_error(tmp_path, clock, monkeypatch, capsys):
    keys = {"searcher": {"kind": "named", "runs": 3}, "configurations": {"a": {"x": 0.5}, "b": {"x": 0.25}}}
    for trainable in ("kd", "bbm"):
        folder = tmp_path / trainable
        folder.mkdir()
        url = written(folder, clock, monkeypatch, trainable=trainable, **keys)
        assert _run(["status", "s", "--db", url, "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["best_error"] is None
        summary = summary_of("s", url, folder / "out", seconds=0.0)
        assert summary["best"] is summary["lowest"] is summary["confirmed"] is None
        print_summary(summary)
        assert "No trial was completed" not in capsys.readouterr().out
        assert analyse(record_of(url)).compares


def test_trainings_without_a_result_are_told(url):
    record = record_of(url)
    trials = record.trials.copy()
    trials.loc[trials["number"] == 6, ["state", "error"]] = [TrialState.DIVERGED, np.nan]
    trials.loc[trials["number"] == 8, ["state", "error"]] = [TrialState.RUNNING, np.nan]
    told = str(analyse(replace(record, trials=trials, diverged_error=90.0)).confirmed)
    assert "trained anew 2 times (of 3) with other seeds, has a test error of 47.25 ± 60.46 %" in told
    assert "Of these, 1 diverged and counted with 90 %." in told
    trials.loc[trials["number"] >= 6, ["state", "error"]] = [TrialState.WAITING, np.nan]
    told = str(analyse(replace(record, trials=trials)).confirmed)
    assert "is to be trained anew 3 times with other seeds; no training has ended" in told


def test_a_search_in_which_all_are_stopped_but_the_best_says_why_there_is_no_sample(url):
    record = record_of(url)
    trials = record.trials.copy()
    trials.loc[trials["number"].isin([0, 1, 3, 4, 5]), "state"] = str(TrialState.STOPPED)
    result = analyse(replace(record, trials=trials))
    assert not result.estimated
    assert (result.confirmed.trial, result.confirmed.among) == (2, 1)
    assert "too low" not in str(result.confirmed)


def test_the_driver_writes_the_design_that_reports_look_for(tmp_path, clock):
    rows = _DRIVER.Driver(parse_sweep(SWEEP, "test"), clock, tmp_path).run().rows(op.AddTrials)
    assert [row.sampling_design for row in rows] == ["random"] * 6 + ["confirmation"] * 3
