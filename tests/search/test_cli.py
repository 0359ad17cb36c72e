"""The command line: what it prints, its exit codes, and that a user never sees a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
import yaml

from kdsearch.analysis.auc import auc
from kdsearch.search.cli import _run
from kdsearch.search.cli.common import GENERATOR, check_report_folder
from kdsearch.search.code_version import code_version
from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import UsageError

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "test_trialdb" / "kept"

LINEAGE = {
    "name": "lineage",
    "space": {
        "kind": "ktg",
        "target": "resnet32",
        "auxiliary": {"count": 2, "models": ["resnet32", "wrn28-2"]},
        "gates": ["through", "cutoff", "linear"],
        "restrictions": [
            {"auxiliary models": ["wrn28-2", "wrn28-2"]},
            {"label->auxiliary": ["through", "through"]},
            {"auxiliary->target": ["linear", "linear"]},
        ],
    },
    "trainable": {"kind": "ktg", "data": {"name": "cifar-100"}},
    "searcher": {"kind": "refinement"},
}

# label->target and the edges between the auxiliary nodes are open: 27 encodings, 18 graphs
TINY = {
    "name": "tiny",
    "space": {
        "kind": "ktg",
        "target": "resnet8w4",
        "auxiliary": {"count": 2, "models": ["resnet8w4"]},
        "gates": ["through", "cutoff", "linear"],
        "restrictions": [
            {"label->auxiliary": ["through", "cutoff"]},
            {"auxiliary->target": ["linear", "linear"]},
            {"target->auxiliary": ["cutoff", "cutoff"]},
        ],
    },
    "trainable": {
        "kind": "ktg",
        "data": {"name": "digits", "train_size": 64, "val_size": 60},
        "epochs": 2,
        "batch_size": 32,
    },
    "searcher": {"kind": "refinement", "draws": 12, "limit": 25, "repeats": 2, "min_draws": 2},
    "run": {"pack": 6},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDSEARCH_DATA", raising=False)
    monkeypatch.delenv("KDSEARCH_DB", raising=False)
    return tmp_path


def write(path, data):
    path.write_text(yaml.safe_dump(data))
    return str(path)


def told(capsys):
    out = capsys.readouterr()
    assert "Traceback" not in out.err + out.out
    return out.out, out.err


def four(row):
    return tuple(row[key] for key in ("encodings", "classes", "valid_encodings", "valid_classes"))


def test_space_gives_the_exact_counts_of_the_papers_lineage(here, capsys):
    assert _run(["space", write(here / "s.yaml", LINEAGE), "--json"]) == 0
    described = json.loads(told(capsys)[0])
    # encodings: 2^2 models x 3^9 gates; each restriction divides by 4, 9, 9; classes by Burnside, (all + mirrored)/2
    assert four(described)[:2] == (78_732, 39_609)
    assert [four(row)[:2] for row in described["restrictions"]] == [
        (19_683, 9_963),
        (2_187, 1_134),
        (243, 135),
    ]
    # without graphs whose target gets nothing: 1 in 27, and none where the auxiliary edges into it are linear
    assert four(described)[2] == 78_732 - 78_732 // 27
    assert [row["valid_encodings"] for row in described["restrictions"]] == [
        19_683 - 19_683 // 27,
        2_187 - 2_187 // 27,
        243,
    ]


def test_space_of_a_preset_samples_and_enumerates(here, capsys):
    assert _run(["space", "ktg-digits", "--sample", "5", "--seed", "3"]) == 0
    first, _ = told(capsys)
    assert _run(["space", "ktg-digits", "--sample", "5", "--seed", "3"]) == 0
    assert told(capsys)[0] == first
    assert len(first.splitlines()) == 5
    assert _run(["graph", first.splitlines()[0], "--out", "g.svg"]) == 0
    assert told(capsys)[0] == first.splitlines()[0] + "\n"
    assert (here / "g.svg").read_text().startswith("<?xml")
    assert _run(["space", write(here / "s.yaml", LINEAGE), "--enumerate", "--json"]) == 0
    assert len(json.loads(told(capsys)[0])) == 135


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["refine", "ktg-digit"], ["unknown preset 'ktg-digit'", "Did you mean 'ktg-digits'?"]),
        (["refine", "none.yaml"], ["cannot read", "none.yaml"]),
        (["refin", "ktg-digits"], ["Did you mean 'refine'?"]),
        (["refine", "ktg-digits", "--set", "searcher.drws=3"], ["searcher.drws", "did you mean 'draws'"]),
        (["refine", "ktg-digits", "--set", "space.gates=[through, cutof]"], ["cutof", "cutoff"]),
        (["refine", "ktg-digits", "--set", "space.target=resnet9"], ["resnet9"]),
        (["refine", "ktg-digits", "--set", "trainable.data.name=mnist"], ["mnist", "fashion-mnist"]),
        (["refine", "ktg-digits", "--set", "space.gates=[cutoff]"], ["target"]),
        (
            ["refine", "ktg-digits", "--set", "space.restrictions=[{label->target: correct}]"],
            ["label->target", "correct"],
        ),
        (["refine", "ktg-digits", "--seed", "-1"], ["--seed"]),
        (["refine", "ktg-digits", "--interactive"], ["needs a terminal"]),
        (["sweep", "ktg-digits", "--set", "searcher.policy=interactive"], ["needs a terminal"]),
        (["refine", "ktg-fashion-mnist"], ["--data-root", "KDSEARCH_DATA"]),
        (["refine", "ktg-digits", "--set", "trainable.data.train_size=5000"], ["5,000"]),
        (["refine", "ktg-digits", "--set", "searcher={kind: random, trials: 2}"], ["kdsearch sweep"]),
        (["space", "ktg-digits", "--sample", "2", "--enumerate"], ["exclude"]),
        (["graph", "nonsense"], ["nonsense"]),
        (["graph", "1=resnet32; label->1=through", "--out", "x.gif"], ["x.gif"]),
        (
            ["graph", "1=resnet33; label->1=through", "--out", "x.svg"],
            ["unknown model 'resnet33'", "resnet32"],
        ),
        (["data", "check", "mnist"], ["unknown data set 'mnist'"]),
        (["presets", "--show", "nothing"], ["unknown preset 'nothing'"]),
    ],
)
def test_wrong_use_is_told_and_leaves_nothing_behind(here, capsys, arguments, words):
    assert _run(arguments) == 2
    out, err = told(capsys)
    for word in words:
        assert word in out + err
    assert list(here.iterdir()) == []


def test_databases_that_are_none(here, capsys):
    (here / "text.db").write_text("this is no database, only a text that is long enough to look at")
    with sqlite3.connect(here / "other.db") as other:
        other.execute("create table t (x)")
    other.close()
    for name in ("missing.db", "text.db", "other.db"):
        assert _run(["status", "--db", f"sqlite:///{name}"]) in {1, 2}
        assert name in told(capsys)[1]
    assert not (here / "missing.db").exists()
    before = (here / "text.db").read_bytes()
    assert _run(["refine", "ktg-digits", "--db", "sqlite:///text.db"]) in {1, 2}
    assert "text.db" in told(capsys)[1]
    assert (here / "text.db").read_bytes() == before


def test_a_database_of_an_earlier_version_is_brought_up_to_date_when_it_is_looked_at(here, capsys):
    with sqlite3.connect(here / "kdsearch.db") as old:
        old.executescript((KEPT / "0001.sql").read_text())
    old.close()
    assert _run(["status", "--json"]) == 0
    out, err = told(capsys)
    assert json.loads(out)[0]["trials"]["complete"] == 1  # the pre-training is none of the search
    assert "earlier kdsearch" in err
    assert _run(["status"]) == 0
    assert told(capsys)[1] == ""


def test_a_database_of_an_earlier_version_that_may_not_be_written_says_what_to_do(here, capsys, monkeypatch):
    with sqlite3.connect(here / "kdsearch.db") as old:
        old.executescript((KEPT / "0001.sql").read_text())
    old.close()
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert _run(["status"]) != 0
    assert "a user who may write it" in told(capsys)[1]


@pytest.mark.parametrize("width", ["60", "80", "200"])
@pytest.mark.parametrize("group", [[], ["data"]])
def test_the_first_lines_of_the_help_are_whole(here, capsys, monkeypatch, group, width):
    monkeypatch.setenv("COLUMNS", width)
    assert _run([*group, "--help"]) == 0
    listed = told(capsys)[0].partition("Commands:")[2]
    assert len(listed.splitlines()) > 2
    assert "..." not in listed


def test_without_a_data_root_that_is_said_once(here, capsys):
    assert _run(["data", "check"]) == 1
    out, _ = told(capsys)
    assert "1,440 training" in out  # the bundled one is looked at
    assert out.count("--data-root") == 1
    assert "  cifar-10  CIFAR-10; cifar-10-binary.tar.gz or cifar-10-python.tar.gz from https://" in out
    assert _run(["data", "check", "cifar-10"]) == 1
    assert "Where to get it" in told(capsys)[0]
    assert _run(["data", "check", "digits"]) == 0
    assert told(capsys)[0].count("\n") == 1
    assert _run(["data", "check", "--json"]) == 1
    assert [row["ok"] for row in json.loads(told(capsys)[0])][:2] == [True, False]


@pytest.mark.parametrize(
    "arguments",
    [
        ["refine", "ktg-digits", "--out", "papers"],
        ["refine", "ktg-digits", "--name", "papers"],  # papers-report is full as well
        ["report", "any", "--out", "papers"],
        ["resume", "any", "--out", "papers"],
    ],
)
def test_a_report_is_not_written_among_other_files(here, capsys, arguments):
    for folder in ("papers", "papers-report"):
        (here / folder).mkdir()
        (here / folder / "report.html").write_text("<html>somebody's own</html>")
    assert _run(arguments) == 2
    err = told(capsys)[1]
    assert "is not empty and holds no report of kdsearch" in err
    assert "--out" in err
    assert not (here / "kdsearch.db").exists()  # before any work


def test_folders_that_a_report_may_be_written_to(tmp_path):
    check_report_folder(tmp_path / "new")
    check_report_folder(tmp_path)
    (tmp_path / ".draft-x").mkdir()  # of a writer that was killed
    check_report_folder(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds no report"):
        check_report_folder(tmp_path)
    (tmp_path / "report.html").write_text('<head><meta name="generator" content="kdsearch">')
    check_report_folder(tmp_path)


def test_every_report_is_known_as_one():
    page = (ROOT / "analysis" / "templates" / "report.html.j2").read_bytes()
    assert GENERATOR in page[:1000]


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_code_version_holds_the_commit_of_a_checkout(tmp_path, monkeypatch):
    installed = metadata.version("kdsearch")
    assert code_version(tmp_path) == installed
    git(tmp_path, "init")
    assert code_version(tmp_path) == installed  # no commit yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "a")
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert code_version(tmp_path) == f"{installed}+g{commit}"
    (tmp_path / "b").touch()  # not of the code
    assert code_version(tmp_path) == f"{installed}+g{commit}"
    (tmp_path / "a").write_text("2")
    assert code_version(tmp_path) == f"{installed}+g{commit}.changed"
    (tmp_path / "site").mkdir()
    assert (
        code_version(tmp_path / "site") == installed
    )  # a checkout around an installed package is another one's
    monkeypatch.setenv("PATH", "")
    assert code_version(tmp_path) == installed


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_real_refinement_from_the_command_to_the_csv_files(ray_slots, here, capsys):
    path = write(here / "tiny.yaml", TINY)
    assert _run(["refine", path, "--json", "--out", "report"]) == 0
    summary = json.loads(told(capsys)[0])
    assert [space["space"] for space in summary["lineage"]][-1] == "X"
    assert summary["state"] == "complete"
    assert (here / "kdsearch.db").exists()

    trials = pd.read_csv(here / "report" / "trials.csv")
    draws = pd.read_csv(here / "report" / "draws.csv")
    table = pd.read_csv(here / "report" / "auc.csv")
    lineage = json.loads((here / "report" / "lineage.json").read_text())
    assert list(trials.columns[:5]) == ["number", "state", "error", "orbit_size", "seed"]
    assert list(draws.columns[:4]) == ["space", "draw", "trial", "fresh"]
    assert list(table.columns[:10]) == [
        *["space", "group", "value", "n", "auc", "low", "high", "p", "p_holm", "n_needed"]
    ]
    joined = draws.merge(trials, left_on="trial", right_on="number")
    group = next(g for g in space_from_spec(TINY["space"]).groups() if g.name == "label->target")
    for row in table.itertuples():
        inside = joined[joined["space"] == row.space]
        if row.group == "label->target":
            inside = inside[
                [group.value_of({"label->1": value}) == row.value for value in inside["label->1"]]
            ]
        elif row.group != "all":
            continue
        assert row.n == len(inside)
        if row.n:
            assert row.auc == pytest.approx(auc(inside["error"].to_numpy()))
    assert lineage
    best = summary["best"]
    assert best["error"] == pytest.approx(trials[trials["number"].isin(best["trials"])]["error"].mean())

    assert _run(["status", "--json"]) == 0
    status = json.loads(told(capsys)[0])[0]
    assert (status["name"], status["state"]) == ("tiny", "complete")

    # again: a new name; the baseline is found, not trained again; the same seed gives the same errors
    assert _run(["refine", path, "--json", "--out", "again", "--max-concurrent", "1"]) == 0
    assert json.loads(told(capsys)[0])["name"] == "tiny-2"
    second = pd.read_csv(here / "again" / "trials.csv")
    assert second["message"].str.contains("reused: trained as trial 0 of sweep tiny").any()
    pd.testing.assert_series_equal(trials["error"], second["error"])

    assert _run(["report", "tiny", "tiny-2", "--out", "both"]) == 0
    assert "report.html" in told(capsys)[0]
    assert _run(["report", "nothing", "--out", "both"]) == 2
    assert "tiny-2" in told(capsys)[1]
    assert _run(["resume", "tiny", "--json", "--out", "report"]) == 0  # nothing is left to do
    assert json.loads(told(capsys)[0])["trials"] == summary["trials"]


def test_readme_shows_the_two_commands_and_every_command_there_is():
    readme = (ROOT / "README.md").read_text()
    first_screen = readme[: readme.index("## What the main job prints")]
    assert "    pip install -c constraints.txt . && kdsearch refine ktg-digits\n" in first_screen
    assert '    pip install -c constraints.txt -e ".[test]" && pytest\n' in first_screen
    for name in (
        "refine",
        "sweep",
        "resume",
        "status",
        "report",
        "space",
        "graph",
        "data",
        "score",
        "presets",
    ):
        assert re.search(rf"^kdsearch {name}\b", readme, re.MULTILINE)
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (ROOT / link).exists(), link


def test_ci_calls_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script
    assert "eval" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
